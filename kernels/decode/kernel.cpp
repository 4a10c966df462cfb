// decode: out[row, j] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i over a cache's slots (params.h).
// Traffic: every live slot's key and value (scales, bias) once, q and out once; all query heads of a row share the read.
// Launch: the work (rows x slots, weighted by bytes) is divided into equal contiguous parts, one per thread, for any number
// of rows. Threads that share a row leave partial states in the workspace; after a barrier, the thread that started the row
// joins them in thread order, so answers are bitwise repeatable for a fixed number of threads.
// Caches with different formats for keys and values, or with per-head state: any.hpp.
#include <vector>

#include "any.hpp"
#include "append/kernel.cpp"
#include "attention.hpp"
#include "attention_int4.hpp"
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr int CUT_SLOTS = 16;  // rows are divided at multiples of this number of slots

using Attend = void (*)(const Stretch&, int, const float*, int, State*);

template <int TILE>
static Attend attend_tile(int format) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) return attend<NAME, TILE>;
  ELASTICKV_FORMATS(X)
#undef X
  return nullptr;
}

static Attend attend_for(int format, int tile) {
  return tile == 1 ? attend_tile<1>(format) : tile == 2 ? attend_tile<2>(format) : attend_tile<4>(format);
}

// Whether a segment's int4 codes are multiplied as integers, which depends on target, dim and precision.
static Attend attend_for(const Cache& cache, const Segment& segment, int tile) {
#ifdef ELASTICKV_WHOLE_NUMBERS
  if (segment.k_format == INT4 && cache.dtype != FP32 && (cache.dim == 64 || cache.dim == 128 || cache.dim == 256))
    return tile == 1 ? attend_int4<1> : tile == 2 ? attend_int4<2> : attend_int4<4>;
#endif
  return attend_for(segment.k_format, tile);
}

// How many live slots a row has, and what all rows before it cost.
struct RowWork {
  long long cost_before;
  int slots;
};

// The state of one launch that all threads share.
struct Work {
  const DecodeParams& p;
  int tile, heads;  // heads: padded to whole tiles
  long long slot_cost[MOST_SEGMENTS];
  Attend attend[MOST_SEGMENTS];
  std::vector<RowWork> rows;  // one more than there are rows: the last has the total cost

  explicit Work(const DecodeParams& params) : p(params), rows(params.cache.rows + 1) {
    const Cache& c = p.cache;
    tile = tile_of(p.group);
    heads = padded_group(p.group);
    for (int i = 0; i < c.segment_count; ++i) {
      slot_cost[i] = row_bytes(c.segments[i].k_format, c.dim);
      attend[i] = attend_for(c, c.segments[i], tile);
    }
    long long cost = 0;
    for (int row = 0; row < c.rows; ++row) {
      rows[row] = {cost, 0};
      for (int i = 0; i < c.segment_count; ++i) {
        const int slots = live(row, i).head + live(row, i).length;
        rows[row].slots += slots, cost += slots * slot_cost[i];
      }
    }
    rows[c.rows] = {cost, 0};
  }

  const Live& live(int row, int segment) const {
    return p.cache.live[((long long)p.pending * p.cache.rows + row) * MOST_SEGMENTS + segment];
  }

  int slots(int row) const { return rows[row].slots; }
  long long cost() const { return rows[p.cache.rows].cost_before; }

  // The row in which `cost` has been spent, of all rows together; the number of rows where that is all.
  int row_at(long long cost) const {
    int first = 0, last = p.cache.rows;  // rows[first].cost_before <= cost
    while (first < last) {
      const int middle = (first + last + 1) / 2;
      if (rows[middle].cost_before <= cost) first = middle;
      else last = middle - 1;
    }
    return first;
  }

  // The slot of a row (segment after segment) at which `cost` has been spent, rounded to CUT_SLOTS.
  int slot_at(int row, long long cost) const {
    if (row == p.cache.rows) return 0;
    long long slot = 0;
    for (int i = 0; i < p.cache.segment_count; ++i) {
      const long long here = live(row, i).head + live(row, i).length;
      if (cost < here * slot_cost[i]) {
        slot += cost / slot_cost[i];
        break;
      }
      slot += here, cost -= here * slot_cost[i];
    }
    return int(std::min<long long>((slot + CUT_SLOTS / 2) / CUT_SLOTS * CUT_SLOTS, slots(row)));
  }
};

// `slots` slots of a row's segment, from slot `first` on.
static void attend_stretch(const Work& work, int row, int number, int first, int slots, const float* q, State* states) {
  const Cache& c = work.p.cache;
  const Segment& from = c.segments[number];
  const long long at = (long long)row * from.capacity + first;
  const bool scaled = is_scaled(from.k_format);
  const Stretch stretch{static_cast<const char*>(from.k) + at * row_bytes(from.k_format, c.dim),
                        static_cast<const char*>(from.v) + at * row_bytes(from.v_format, c.dim),
                        scaled ? static_cast<const uint16_t*>(from.k_scale) + at : nullptr,
                        scaled ? static_cast<const uint16_t*>(from.v_scale) + at : nullptr,
                        from.bias ? from.bias + at : nullptr, slots};
  work.attend[number](stretch, c.dim, q, work.heads / work.tile, states);
}

// Live slots [begin, end) of a row: segment after segment, of each its head, its ring up to its end, its ring from its start.
static void attend_slots(const Work& work, int row, int begin, int end, const float* q, State* states) {
  int origin = 0;  // live slots before the stretch
  for (int number = 0; number < work.p.cache.segment_count; ++number) {
    const Live& live = work.live(row, number);
    const int before_wrap = std::min(live.length, live.ring - live.first);
    const int firsts[] = {0, live.head + live.first, live.head};
    const int slots[] = {live.head, before_wrap, live.length - before_wrap};
    for (int i = 0; i < 3; origin += slots[i++]) {
      const int from = std::max(begin, origin) - origin, to = std::min(end, origin + slots[i]) - origin;
      if (from < to) attend_stretch(work, row, number, firsts[i] + from, to - from, q, states);
    }
  }
}

// The row's queries as floats, times scale; padding heads of a tile are zero.
static void load_queries(const Work& work, int row, float* q) {
  const Cache& c = work.p.cache;
  const long long bytes = (long long)work.p.group * row_bytes(c.dtype, c.dim);
  const int count = work.p.group * c.dim;
  to_floats(static_cast<const char*>(work.p.q) + row * bytes, c.dtype, count, q);
  for (int i = 0; i < count; ++i) q[i] *= work.p.scale;
  std::fill(q + count, q + work.heads * c.dim, 0.0f);
}

static void write_row(const Work& work, int row, State* states) {
  const Cache& c = work.p.cache;
  const long long bytes = row_bytes(c.dtype, c.dim);
  for (int head = 0; head < work.p.group; ++head) {
    for (int d = 0; d < c.dim; ++d) states[head].out[d] /= states[head].sum;
    char* out = static_cast<char*>(work.p.out) + ((long long)row * work.p.group + head) * bytes;
    from_floats(states[head].out, c.dtype, c.dim, out);
  }
}

static long long partial_floats(int group, int dim) { return (long long)padded_group(group) * (dim + STATE_HEADER); }

// The partial of `thread` in the workspace, [heads, STATE_HEADER + dim] floats: the row that its part begins inside of.
static float* partial(const Work& work, int thread) {
  return static_cast<float*>(work.p.workspace) + thread * partial_floats(work.p.group, work.p.cache.dim);
}

static void save_partial(const Work& work, const State* states) {
  const int dim = work.p.cache.dim;
  float* to = partial(work, omp_get_thread_num());
  for (int head = 0; head < work.p.group; ++head, to += STATE_HEADER + dim) {
    to[0] = states[head].max, to[1] = states[head].sum;
    std::memcpy(to + STATE_HEADER, states[head].out, size_t(dim) * 4);
  }
}

// A thread's part of the work: rows [first_row, last_row], from slot `begin` of the first to slot `end` of the last.
struct Part {
  int first_row, begin, last_row, end;

  Part(const Work& work, int thread, int threads) {
    const long long total = work.cost();
    const auto cut = [&](int index, int& row, int& slot) {
      const long long cost = total / threads * index + total % threads * index / threads;
      row = work.row_at(cost), slot = work.slot_at(row, cost - work.rows[row].cost_before);
      if (row < work.p.cache.rows && slot == work.slots(row)) row += 1, slot = 0;
    };
    cut(thread, first_row, begin);
    cut(thread + 1, last_row, end);
    if (end == 0) last_row -= 1, end = last_row < 0 ? 0 : work.slots(last_row);
  }
  bool has(int row) const { return row >= first_row && row <= last_row && !empty(); }
  bool empty() const { return last_row < first_row || (last_row == first_row && end <= begin); }
  int from(int row) const { return row == first_row ? begin : 0; }
  int to(const Work& work, int row) const { return row == last_row ? end : work.slots(row); }
};

// Joins the partials of a row that this thread started and later threads continued.
static void finish_row(const Work& work, int row, int thread, int threads, State* states) {
  const int dim = work.p.cache.dim;
  for (int other = thread + 1; other < threads; ++other) {
    if (!Part(work, other, threads).has(row)) continue;
    float* from = partial(work, other);
    for (int head = 0; head < work.p.group; ++head, from += STATE_HEADER + dim)
      join(states[head], State{from[0], from[1], from + STATE_HEADER}, dim);
  }
  write_row(work, row, states);
}

static void decode(const DecodeParams& p) {
  if (p.fresh.k) append(p.cache, p.fresh, false);  // such a token completes no group
  if (needs_any(p.cache)) return decode_any(p);
  const Work work(p);
  const int dim = p.cache.dim;
#pragma omp parallel num_threads(thread_count)
  {
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const Part mine(work, thread, threads);
    Scratch q(work.heads * dim), sums(work.heads * dim);
    std::vector<State> states(work.heads);
    bool open_end = false;  // whether this thread began a row that another one finishes
    for (int row = mine.first_row; row <= mine.last_row && !mine.empty(); ++row) {
      const int begin = mine.from(row), end = mine.to(work, row);
      std::fill(sums.data(), sums.data() + work.heads * dim, 0.0f);
      for (int head = 0; head < work.heads; ++head) states[head] = State{-INFINITY, 0, sums.data() + head * dim};
      load_queries(work, row, q.data());
      attend_slots(work, row, begin, end, q.data(), states.data());
      if (begin == 0 && end == work.slots(row))
        write_row(work, row, states.data());
      else if (begin == 0)
        open_end = true;  // stays in `states`: it is this thread's last row
      else
        save_partial(work, states.data());
    }
#pragma omp barrier
    if (open_end) finish_row(work, mine.last_row, thread, threads, states.data());
  }
}

// Bytes of workspace that a launch needs.
static long long decode_workspace(const DecodeParams* p) {
  if (needs_any(p->cache)) return decode_any_workspace(*p);
  return thread_count * partial_floats(p->group, p->cache.dim) * (long long)sizeof(float);
}

}  // namespace elastickv
