// decode: out[row, j] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i over a cache's slots (params.h).
// Traffic: every live slot's key and value (scales, bias) once, q and out once; all query heads of a row share the read.
// Launch: the work (rows x slots, weighed in bytes) is cut into equal contiguous parts, one a thread, whatever the
// number of rows. A row cut between threads leaves a partial state per thread in the workspace; after a barrier, the
// thread that began the row joins them in thread order, so answers are bitwise repeatable for a fixed thread count.
#include <vector>

#include "append/kernel.cpp"
#include "attention.hpp"
#include "attention_int4.hpp"
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr int MOST_RUNS = 4;
constexpr int CUT_SLOTS = 16;      // rows are cut at multiples of so many slots
constexpr int STATE_HEADER = 16;   // floats before a partial's sums: max, sum, padding to a cache line

using Attend = void (*)(const Segment&, int, const float*, int, State*);

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

// Of a cache's middle slots: int4 codes are multiplied as whole numbers where target, dim and precision allow.
static Attend attend_middle_for(const Cache& cache, int tile) {
#ifdef ELASTICKV_WHOLE_NUMBERS
  if (cache.cache_dtype == INT4 && cache.dtype != FP32 && (cache.dim == 64 || cache.dim == 128 || cache.dim == 256))
    return tile == 1 ? attend_int4<1> : tile == 2 ? attend_int4<2> : attend_int4<4>;
#endif
  return attend_for(cache.cache_dtype, tile);
}

static int tile_of(int group) { return group >= 3 ? 4 : group; }
static int padded_group(int group) { return (group + tile_of(group) - 1) / tile_of(group) * tile_of(group); }

// What every thread needs to know about one launch.
struct Work {
  const DecodeParams& p;
  int closed, sink_tokens, ring_begin, ring_tokens;  // live exact slots: [0, sink_tokens), ring_tokens from ring_begin on
  int exact, slots, tile, heads;                     // heads: padded to whole tiles
  long long exact_cost, middle_cost, row_cost;       // of a slot, of a row
  Attend attend_exact, attend_middle;

  explicit Work(const DecodeParams& params) : p(params) {
    const Cache& c = p.cache;
    const int tokens = *c.tokens + p.pending;
    closed = closed_groups(c, tokens);
    sink_tokens = std::min(tokens, c.sinks);
    ring_tokens = tokens - sink_tokens - closed * c.compress;
    ring_begin = ring_tokens > 0 ? closed * c.compress % c.ring : 0;
    exact = sink_tokens + ring_tokens;
    slots = exact + closed;
    tile = tile_of(p.group);
    heads = padded_group(p.group);
    exact_cost = row_bytes(c.dtype, c.dim);
    middle_cost = row_bytes(c.cache_dtype, c.dim);
    row_cost = exact * exact_cost + closed * middle_cost;
    attend_exact = attend_for(c.dtype, tile);
    attend_middle = attend_middle_for(c, tile);
  }

  // The slot of a row (exact slots first, then middle ones) at which `cost` has been spent, rounded to CUT_SLOTS.
  int slot_at(long long cost) const {
    if (cost >= row_cost) return slots;
    const long long in_exact = exact * exact_cost;
    const long long slot = cost < in_exact ? cost / exact_cost : exact + (cost - in_exact) / middle_cost;
    return int(std::min<long long>((slot + CUT_SLOTS / 2) / CUT_SLOTS * CUT_SLOTS, slots));
  }
};

static void attend_exact(const Work& work, int row, int first_slot, int begin, int end, const float* q, State* states) {
  if (begin >= end) return;
  const Cache& c = work.p.cache;
  const long long slot = (long long)row * exact_capacity(c) + first_slot + begin, bytes = row_bytes(c.dtype, c.dim);
  const Segment segment{static_cast<const char*>(c.exact_k) + slot * bytes,
                        static_cast<const char*>(c.exact_v) + slot * bytes, nullptr, nullptr,
                        c.exact_bias ? c.exact_bias + slot : nullptr, end - begin};
  work.attend_exact(segment, c.dim, q, work.heads / work.tile, states);
}

static void attend_middle(const Work& work, int row, int begin, int end, const float* q, State* states) {
  if (begin >= end) return;
  const Cache& c = work.p.cache;
  const long long slot = (long long)row * c.middle_capacity + begin, bytes = row_bytes(c.cache_dtype, c.dim);
  const bool scaled = is_scaled(c.cache_dtype);
  const Segment segment{static_cast<const char*>(c.middle_k) + slot * bytes,
                        static_cast<const char*>(c.middle_v) + slot * bytes,
                        scaled ? static_cast<const uint16_t*>(c.middle_k_scale) + slot : nullptr,
                        scaled ? static_cast<const uint16_t*>(c.middle_v_scale) + slot : nullptr,
                        c.middle_bias ? c.middle_bias + slot : nullptr, end - begin};
  work.attend_middle(segment, c.dim, q, work.heads / work.tile, states);
}

// Slots [begin, end) of a row in the order sinks, ring up to its end, ring from its start, middle.
static void attend_slots(const Work& work, int row, int begin, int end, const float* q, State* states) {
  const Cache& c = work.p.cache;
  const int sinks = work.sink_tokens, before_wrap = std::min(work.ring_tokens, c.ring - work.ring_begin);
  const int wrap = sinks + before_wrap;
  const auto part = [&](int first, int last, int origin, auto&& visit) {
    visit(std::max(begin, first) - origin, std::min(end, last) - origin);
  };
  const auto exact_from = [&](int first_slot) {
    return [&, first_slot](int from, int to) { attend_exact(work, row, first_slot, from, to, q, states); };
  };
  part(0, sinks, 0, exact_from(0));
  part(sinks, wrap, sinks, exact_from(c.sinks + work.ring_begin));
  part(wrap, work.exact, wrap, exact_from(c.sinks));
  part(work.exact, work.slots, work.exact, [&](int from, int to) { attend_middle(work, row, from, to, q, states); });
}

// The row's queries as floats, times scale; heads that only fill a tile are zero.
static void load_queries(const Work& work, int row, float* q) {
  const Cache& c = work.p.cache;
  const long long bytes = (long long)work.p.group * row_bytes(c.dtype, c.dim);
  const int count = work.p.group * c.dim;
  to_floats(static_cast<const char*>(work.p.q) + row * bytes, c.dtype, count, q);
  for (int i = 0; i < count; ++i) q[i] *= work.p.scale;
  std::fill(q + count, q + work.heads * c.dim, 0.0f);
}

// Joins `other` to `state`: both as if one pass had seen both sets of slots.
static void join(State& state, const State& other, int dim) {
  const float largest = std::max(state.max, other.max), base = largest == -INFINITY ? 0 : largest;
  const float mine = std::exp(state.max - base), theirs = std::exp(other.max - base);
  for (int d = 0; d < dim; ++d) state.out[d] = state.out[d] * mine + other.out[d] * theirs;
  state.sum = state.sum * mine + other.sum * theirs;
  state.max = largest;
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
    const long long total = work.row_cost * work.p.cache.rows;
    const auto cut = [&](int index, int& row, int& slot) {
      const long long cost = total / threads * index + total % threads * index / threads;
      row = int(cost / work.row_cost), slot = work.slot_at(cost % work.row_cost);
      if (slot == work.slots) row += 1, slot = 0;
    };
    cut(thread, first_row, begin);
    cut(thread + 1, last_row, end);
    if (end == 0) last_row -= 1, end = work.slots;
  }
  bool has(int row) const { return row >= first_row && row <= last_row && !empty(); }
  bool empty() const { return last_row < first_row || (last_row == first_row && end <= begin); }
  int from(int row) const { return row == first_row ? begin : 0; }
  int to(const Work& work, int row) const { return row == last_row ? end : work.slots; }
};

// Joins the partials of a row that this thread began and later ones went on with.
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
  if (p.fresh.k) append({p.cache, p.fresh, LAST, 0});  // with a window the token closes no group
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
      if (begin == 0 && end == work.slots)
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
  return thread_count * partial_floats(p->group, p->cache.dim) * (long long)sizeof(float);
}

}  // namespace elastickv
