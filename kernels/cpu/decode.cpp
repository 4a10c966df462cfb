// decode: out[row, j] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i over a cache's slots (params.h).
// Traffic: every live slot's key and value (scales, bias) once, q and out once; all query heads of a row share the read.
// Launch: the work (rows x slots, weighed in bytes) is cut into equal contiguous parts, one a thread, whatever the
// number of rows. A row cut between threads leaves a partial state per thread in the workspace; after a barrier, the
// thread that began the row joins them in thread order, so answers are bitwise repeatable for a fixed thread count.
#include <vector>

#include "append.cpp"
#include "attention.hpp"
#include "attention_int4.hpp"
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr int MOST_RUNS = 4;
constexpr int CUT_SLOTS = 16;      // rows are cut at multiples of so many slots
constexpr int STATE_HEADER = 16;   // floats before a partial's sums: max, sum, padding to a cache line

using Attend = void (*)(const Run&, int, const float*, int, State*);

template <int TILE>
static Attend attend_tile(int format) {
  switch (format) {
    case FP32: return attend<FP32, TILE>;
    case FP16: return attend<FP16, TILE>;
    case BF16: return attend<BF16, TILE>;
    case INT8: return attend<INT8, TILE>;
    default: return attend<INT4, TILE>;
  }
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
struct Plan {
  const DecodeParams& p;
  int closed, sink_tokens, ring_begin, ring_tokens;  // live exact slots: [0, sink_tokens), ring_tokens from ring_begin on
  int exact, slots, tile, heads;                     // heads: padded to whole tiles
  long long exact_cost, middle_cost, row_cost;       // of a slot, of a row
  Attend attend_exact, attend_middle;

  explicit Plan(const DecodeParams& params) : p(params) {
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
    exact_cost = vector_bytes(c.dtype, c.dim);
    middle_cost = vector_bytes(c.cache_dtype, c.dim);
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

static void attend_exact(const Plan& plan, int row, int first_slot, int begin, int end, const float* q, State* states) {
  if (begin >= end) return;
  const Cache& c = plan.p.cache;
  const long long slot = (long long)row * exact_capacity(c) + first_slot + begin, bytes = vector_bytes(c.dtype, c.dim);
  const Run run{static_cast<const char*>(c.exact_k) + slot * bytes, static_cast<const char*>(c.exact_v) + slot * bytes,
                nullptr, nullptr, c.exact_bias ? c.exact_bias + slot : nullptr, end - begin};
  plan.attend_exact(run, c.dim, q, plan.heads / plan.tile, states);
}

static void attend_middle(const Plan& plan, int row, int begin, int end, const float* q, State* states) {
  if (begin >= end) return;
  const Cache& c = plan.p.cache;
  const long long slot = (long long)row * c.middle_capacity + begin, bytes = vector_bytes(c.cache_dtype, c.dim);
  const bool scaled = is_quantised(c.cache_dtype);
  const Run run{static_cast<const char*>(c.middle_k) + slot * bytes,
                static_cast<const char*>(c.middle_v) + slot * bytes,
                scaled ? static_cast<const uint16_t*>(c.middle_k_scale) + slot : nullptr,
                scaled ? static_cast<const uint16_t*>(c.middle_v_scale) + slot : nullptr,
                c.middle_bias ? c.middle_bias + slot : nullptr, end - begin};
  plan.attend_middle(run, c.dim, q, plan.heads / plan.tile, states);
}

// Slots [begin, end) of a row in the order sinks, ring up to its end, ring from its start, middle.
static void attend_slots(const Plan& plan, int row, int begin, int end, const float* q, State* states) {
  const Cache& c = plan.p.cache;
  const int sinks = plan.sink_tokens, before_wrap = std::min(plan.ring_tokens, c.ring - plan.ring_begin);
  const int wrap = sinks + before_wrap;
  const auto part = [&](int first, int last, int origin, auto&& visit) {
    visit(std::max(begin, first) - origin, std::min(end, last) - origin);
  };
  const auto exact_from = [&](int first_slot) {
    return [&, first_slot](int from, int to) { attend_exact(plan, row, first_slot, from, to, q, states); };
  };
  part(0, sinks, 0, exact_from(0));
  part(sinks, wrap, sinks, exact_from(c.sinks + plan.ring_begin));
  part(wrap, plan.exact, wrap, exact_from(c.sinks));
  part(plan.exact, plan.slots, plan.exact, [&](int from, int to) { attend_middle(plan, row, from, to, q, states); });
}

// The row's queries as floats, times scale; heads that only fill a tile are zero.
static void load_queries(const Plan& plan, int row, float* q) {
  const Cache& c = plan.p.cache;
  const long long bytes = (long long)plan.p.group * vector_bytes(c.dtype, c.dim);
  const int count = plan.p.group * c.dim;
  to_floats(static_cast<const char*>(plan.p.q) + row * bytes, c.dtype, count, q);
  for (int i = 0; i < count; ++i) q[i] *= plan.p.scale;
  std::fill(q + count, q + plan.heads * c.dim, 0.0f);
}

// Joins `other` to `state`: both as if one pass had seen both sets of slots.
static void join(State& state, const State& other, int dim) {
  const float largest = std::max(state.max, other.max), base = largest == -INFINITY ? 0 : largest;
  const float mine = std::exp(state.max - base), theirs = std::exp(other.max - base);
  for (int d = 0; d < dim; ++d) state.out[d] = state.out[d] * mine + other.out[d] * theirs;
  state.sum = state.sum * mine + other.sum * theirs;
  state.max = largest;
}

static void write_row(const Plan& plan, int row, State* states) {
  const Cache& c = plan.p.cache;
  const long long bytes = vector_bytes(c.dtype, c.dim);
  for (int head = 0; head < plan.p.group; ++head) {
    for (int d = 0; d < c.dim; ++d) states[head].out[d] /= states[head].sum;
    char* out = static_cast<char*>(plan.p.out) + ((long long)row * plan.p.group + head) * bytes;
    from_floats(states[head].out, c.dtype, c.dim, out);
  }
}

static long long partial_floats(int group, int dim) { return (long long)padded_group(group) * (dim + STATE_HEADER); }

// The partial of `thread` in the workspace, [heads, STATE_HEADER + dim] floats: the row that its part begins inside of.
static float* partial(const Plan& plan, int thread) {
  return static_cast<float*>(plan.p.workspace) + thread * partial_floats(plan.p.group, plan.p.cache.dim);
}

static void save_partial(const Plan& plan, const State* states) {
  const int dim = plan.p.cache.dim;
  float* to = partial(plan, omp_get_thread_num());
  for (int head = 0; head < plan.p.group; ++head, to += STATE_HEADER + dim) {
    to[0] = states[head].max, to[1] = states[head].sum;
    std::memcpy(to + STATE_HEADER, states[head].out, size_t(dim) * 4);
  }
}

// A thread's part of the work: rows [first_row, last_row], from slot `begin` of the first to slot `end` of the last.
struct Part {
  int first_row, begin, last_row, end;

  Part(const Plan& plan, int thread, int threads) {
    const long long total = plan.row_cost * plan.p.cache.rows;
    const auto cut = [&](int index, int& row, int& slot) {
      const long long cost = total / threads * index + total % threads * index / threads;
      row = int(cost / plan.row_cost), slot = plan.slot_at(cost % plan.row_cost);
      if (slot == plan.slots) row += 1, slot = 0;
    };
    cut(thread, first_row, begin);
    cut(thread + 1, last_row, end);
    if (end == 0) last_row -= 1, end = plan.slots;
  }
  bool has(int row) const { return row >= first_row && row <= last_row && !empty(); }
  bool empty() const { return last_row < first_row || (last_row == first_row && end <= begin); }
  int from(int row) const { return row == first_row ? begin : 0; }
  int to(const Plan& plan, int row) const { return row == last_row ? end : plan.slots; }
};

// Joins the partials of a row that this thread began and later ones went on with.
static void finish_row(const Plan& plan, int row, int thread, int threads, State* states) {
  const int dim = plan.p.cache.dim;
  for (int other = thread + 1; other < threads; ++other) {
    if (!Part(plan, other, threads).has(row)) continue;
    float* from = partial(plan, other);
    for (int head = 0; head < plan.p.group; ++head, from += STATE_HEADER + dim)
      join(states[head], State{from[0], from[1], from + STATE_HEADER}, dim);
  }
  write_row(plan, row, states);
}

static void decode(const DecodeParams& p) {
  if (p.fresh.k) append({p.cache, p.fresh, LAST, 0});  // with a window the token closes no group
  const Plan plan(p);
  const int dim = p.cache.dim;
#pragma omp parallel num_threads(thread_count)
  {
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const Part mine(plan, thread, threads);
    Scratch q(plan.heads * dim), sums(plan.heads * dim);
    std::vector<State> states(plan.heads);
    bool open_end = false;  // whether this thread began a row that another one finishes
    for (int row = mine.first_row; row <= mine.last_row && !mine.empty(); ++row) {
      const int begin = mine.from(row), end = mine.to(plan, row);
      std::fill(sums.data(), sums.data() + plan.heads * dim, 0.0f);
      for (int head = 0; head < plan.heads; ++head) states[head] = State{-INFINITY, 0, sums.data() + head * dim};
      load_queries(plan, row, q.data());
      attend_slots(plan, row, begin, end, q.data(), states.data());
      if (begin == 0 && end == plan.slots)
        write_row(plan, row, states.data());
      else if (begin == 0)
        open_end = true;  // stays in `states`: it is this thread's last row
      else
        save_partial(plan, states.data());
    }
#pragma omp barrier
    if (open_end) finish_row(plan, mine.last_row, thread, threads, states.data());
  }
}

// Bytes of workspace that a launch needs.
static long long decode_workspace(const DecodeParams* p) {
  return thread_count * partial_floats(p->group, p->cache.dim) * (long long)sizeof(float);
}

}  // namespace elastickv
