// How a warp reads the slots of a cache and folds them into its answer.
//
// A unit is LOADS * (32 / LANES) neighbouring slots of one segment, whose keys and values a warp holds in registers. While
// one unit is reduced the loads of the warp's next one are in flight: keys as soon as the dots are done, then values.
// Where a unit lies follows from the most tokens that the launch may meet, which the host knows: the first loads go out
// before the number of tokens on the device has been read. Units are read whole: the arrays of a cache are followed by memory
// that may be read (params.h), and what lies there weighs nothing.
#pragma once
#include "cache.cuh"
#include "fragment.cuh"
#include "stage.cuh"
#include "state.cuh"

constexpr int RESCALE_STEP = 8;  // the running maximum follows only jumps beyond this: weights stay below 2^8

// DTYPE: of q, out and exact slots; LANES per row (8: dim 64, 16: 80 to 128, 32: 256); TILE query heads at once.
template <int DTYPE_, int LANES_, int TILE_>
struct Shape {
  static constexpr int DTYPE = DTYPE_, LANES = LANES_, TILE = TILE_;
  static constexpr bool SPLIT = DTYPE == FP32;
  static constexpr int ROWS = 32 / LANES;         // cached rows that one load of a warp touches
  static constexpr int WIDEST = LANES * ELEMENTS;  // largest dim
  using Lane = Columns<LANES, SPLIT>;
};

// Loads in flight per lane, for keys and again for values.
__host__ __device__ constexpr int loads_of(int format, int tile) {
  return format_bits(format) == 32 ? 4 : is_scaled(format) && tile == 1 ? 16 : 8;
}

// One segment of one row. Slots are read in the order of memory; which of them are live is asked when they are weighed.
struct Segment {
  const char* k;
  const char* v;
  const float* bias;      // null: none
  const Word16* k_scale;  // null unless quantised
  const Word16* v_scale;
};

__device__ inline Segment middle_segment(const Cache& cache, int row) {
  const long long first = (long long)row * cache.middle_capacity, bytes = first * row_bytes(cache.cache_dtype, cache.dim);
  return {static_cast<const char*>(cache.middle_k) + bytes, static_cast<const char*>(cache.middle_v) + bytes,
          cache.middle_bias ? cache.middle_bias + first : nullptr, static_cast<const Word16*>(cache.middle_k_scale) + first,
          static_cast<const Word16*>(cache.middle_v_scale) + first};
}

__device__ inline Segment exact_segment(const Cache& cache, int row) {
  const long long first = (long long)row * (cache.sinks + cache.ring), bytes = first * row_bytes(cache.dtype, cache.dim);
  return {static_cast<const char*>(cache.exact_k) + bytes, static_cast<const char*>(cache.exact_v) + bytes,
          cache.exact_bias ? cache.exact_bias + first : nullptr, nullptr, nullptr};
}

// The units of a row: those of the middle segment, then those of the exact one. A warp takes units unit, unit + warps, ...
// below `end`.
struct Units {
  Segment middle;
  Segment exact;
  Live live_middle;
  Live live_exact;
  int of_middle;  // how many units are the middle's

  // Field by field: a choice between structures would put both into local memory.
  __device__ Segment segment(int unit) const {
    const bool first = unit < of_middle;
    return {first ? middle.k : exact.k, first ? middle.v : exact.v, first ? middle.bias : exact.bias,
            first ? middle.k_scale : exact.k_scale, first ? middle.v_scale : exact.v_scale};
  }
  __device__ Live live(int unit) const {
    const bool first = unit < of_middle;
    return {first ? live_middle.head : live_exact.head, first ? live_middle.held : live_exact.held, live_exact.first,
            live_exact.ring, live_exact.length};
  }
  __device__ int number(int unit) const { return unit < of_middle ? unit : unit - of_middle; }
  // Whether a unit of `size` slots may hold a token at all.
  __device__ bool worth(int unit, int size) const {
    const Live its = live(unit);
    return its.head != EVERY_SLOT || number(unit) * size < its.held;
  }
};

// First unit of split `split` when `units` are dealt out in contiguous ranges whose lengths differ by at most one.
__device__ inline int first_unit(int units, int split) {
  const int each = quotient(units, gridDim.x), rest = units - each * int(gridDim.x);
  return split * each + min(split, rest);
}

// What one warp knows about TILE query heads so far; m is the same in all lanes, l and o are a lane's share.
template <class S>
struct State {
  float q[S::TILE][ELEMENTS];  // times scale * log2 e
  float o[S::TILE][ELEMENTS];
  float m[S::TILE];
  float l[S::TILE];
};

// The units of one storage format, read and reduced by one warp.
template <class S, int FORMAT>
struct Reader {
  static constexpr bool QUANTISED = is_scaled(FORMAT);
  static constexpr int LOADS = loads_of(FORMAT, S::TILE);
  static constexpr int BATCH = LOADS < 8 ? LOADS : 8;  // dots reduced together
  static constexpr int BATCHES = LOADS / BATCH;
  static constexpr int UNIT = LOADS * S::ROWS;

  typename S::Lane columns;
  int lane;
  Fragment<FORMAT> k[LOADS];
  Fragment<FORMAT> v[LOADS];
  float bias[BATCHES];  // of the slots whose logits this lane ends up with
  Word16 k_scale[BATCHES];
  Word16 v_scale[BATCHES];

  // What an unpacked value is to be multiplied by.
  static __device__ float scale_of([[maybe_unused]] Word16 scale) {
    if constexpr (QUANTISED) return from_fp16(scale) * Fragment<FORMAT>::FACTOR;
    else return 1.0f;
  }

  static __host__ __device__ int units(int slots) { return (slots + UNIT - 1) / UNIT; }

  __device__ int slot_of_load(int base, int load) const { return base + load * S::ROWS + lane / S::LANES; }
  __device__ int slot_of_logit(int base, int batch) const { return slot_of_load(base, batch * BATCH + lane % BATCH); }

  __device__ void load_keys(const Segment& segment, int base) {
    const int bytes = row_bytes(FORMAT, columns.dim);
#pragma unroll
    for (int i = 0; i < LOADS; i++) columns.load(k[i], segment.k + (long long)slot_of_load(base, i) * bytes);
    load_beside_keys(segment, base);
  }

  __device__ void load_beside_keys(const Segment& segment, int base) {
#pragma unroll
    for (int b = 0; b < BATCHES; b++) {
      const int at = slot_of_logit(base, b);
      bias[b] = segment.bias ? __ldg(segment.bias + at) : 0.0f;
      if (QUANTISED) k_scale[b] = __ldg(segment.k_scale + at);
    }
  }

  __device__ void load_values(const Segment& segment, int base) {
    const int bytes = row_bytes(FORMAT, columns.dim);
#pragma unroll
    for (int i = 0; i < LOADS; i++) columns.load(v[i], segment.v + (long long)slot_of_load(base, i) * bytes);
#pragma unroll
    for (int b = 0; b < BATCHES; b++)
      if (QUANTISED) v_scale[b] = __ldg(segment.v_scale + slot_of_logit(base, b));
  }

  // Where a load is 16 bytes and registers suffice.
  static constexpr bool STAGES = format_bits(FORMAT) == 16 && !QUANTISED && S::TILE == 1;

  __device__ void stage(const Stage& stage, const Segment& segment, int base) const {
    const int bytes = row_bytes(FORMAT, columns.dim), mine = columns.inside(0) ? row_bytes(FORMAT, columns.position(0)) : 0;
#pragma unroll
    for (int i = 0; i < LOADS; i++) stage.ask(i, segment.k + (long long)slot_of_load(base, i) * bytes + mine);
#pragma unroll
    for (int i = 0; i < LOADS; i++) stage.ask(8 + i, segment.v + (long long)slot_of_load(base, i) * bytes + mine);
    if (segment.bias) prefetch(segment.bias + slot_of_logit(base, 0));
  }

  __device__ void take_keys(const Stage& stage, const Segment& segment, int base) {
    stage.await();
#pragma unroll
    for (int i = 0; i < LOADS; i++) k[i].part(0) = stage.take(i);
    load_beside_keys(segment, base);
  }

  __device__ void take_values(const Stage& stage) {
#pragma unroll
    for (int i = 0; i < LOADS; i++) v[i].part(0) = stage.take(8 + i);
  }

  // A slot without a token may hold anything, NaN too: its value becomes zero (as its weight will be).
  __device__ void drop_dead_values(const Live& live, int base) {
    if constexpr (QUANTISED) {
#pragma unroll
      for (int b = 0; b < BATCHES; b++)
        if (!live(slot_of_logit(base, b))) v_scale[b] = 0;
    } else {
#pragma unroll
      for (int i = 0; i < LOADS; i++)
        if (!live(slot_of_load(base, i))) v[i].clear();
    }
  }

  // logits[j][b], times log2 e, of the slot that this lane owns in batch b; minus infinity past the end.
  __device__ void dots(const State<S>& state, int base, const Live& live_slots, float (&logits)[S::TILE][BATCHES]) const {
#pragma unroll
    for (int b = 0; b < BATCHES; b++) {
      float sums[S::TILE][BATCH];
#pragma unroll
      for (int i = 0; i < BATCH; i++) {
        float key[ELEMENTS];
        k[b * BATCH + i].unpack(key);
#pragma unroll
        for (int j = 0; j < S::TILE; j++) {
          float sum = 0.0f;
#pragma unroll
          for (int e = 0; e < ELEMENTS; e++) sum = fmaf(state.q[j][e], key[e], sum);
          sums[j][i] = sum;
        }
      }
      const bool live = live_slots(slot_of_logit(base, b));
      const float scale = QUANTISED ? scale_of(k_scale[b]) : 1.0f;
#pragma unroll
      for (int j = 0; j < S::TILE; j++) {
        const float sum = reduce_scatter<BATCH, S::LANES>(sums[j], lane);
        logits[j][b] = live ? fmaf(bias[b], LOG2_E, sum * scale) : minus_infinity();
      }
    }
  }

  // logits -> weights 2^(x - m), after raising m (and rescaling what was summed) when they outgrew it.
  __device__ void weigh(State<S>& state, float (&logits)[S::TILE][BATCHES]) const {
#pragma unroll
    for (int j = 0; j < S::TILE; j++) {
      float largest = logits[j][0];
#pragma unroll
      for (int b = 1; b < BATCHES; b++) largest = fmaxf(largest, logits[j][b]);
      if (__any_sync(WHOLE_WARP, largest > state.m[j] + RESCALE_STEP)) {
        const float bound = fmaxf(state.m[j], warp_max(largest));
        const float shrink = exp2_approx(state.m[j] - bound);
        state.m[j] = bound;
        state.l[j] *= shrink;
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) state.o[j][e] *= shrink;
      }
#pragma unroll
      for (int b = 0; b < BATCHES; b++) {
        const float weight = exp2_approx(logits[j][b] - state.m[j]);
        if (columns.column < BATCH) state.l[j] += weight;  // the other lanes of the row hold the same logits again
        logits[j][b] = QUANTISED ? weight * scale_of(v_scale[b]) : weight;
      }
    }
  }

  __device__ void add_values(State<S>& state, const float (&weights)[S::TILE][BATCHES]) const {
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      float value[ELEMENTS];
      v[i].unpack(value);
#pragma unroll
      for (int j = 0; j < S::TILE; j++) {
        const float weight = __shfl_sync(WHOLE_WARP, weights[j][i / BATCH], (lane & ~(BATCH - 1)) | i % BATCH);
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) state.o[j][e] = fmaf(weight, value[e], state.o[j][e]);
      }
    }
  }

  // Whether all slots of a unit hold tokens, so that nothing needs to be dropped.
  static __device__ bool whole(const Live& live, int base) { return live.head == EVERY_SLOT && base + UNIT <= live.held; }

  __device__ void load(const Segment& segment, int number) {
    load_keys(segment, number * UNIT);
    load_values(segment, number * UNIT);
  }

  // Reduces units unit, unit + warps, ... below `end`; the first one is loaded already, the second one perhaps `staged`.
  // Returns the first unit of this warp that is not below `end`.
  __device__ int run(State<S>& state, const Units& units, int unit, int end, const Stage& stage,
                     [[maybe_unused]] bool staged) {
    const int warps = blockDim.x / 32;
#pragma unroll 1
    for (; unit < end; unit += warps) {
      const int next = unit + warps, base = units.number(unit) * UNIT;
      const bool more = next < end && units.worth(next, UNIT);
      const Live live = units.live(unit);
      float weights[S::TILE][BATCHES];
      dots(state, base, live, weights);
      if (more) {
        const int following = units.number(next) * UNIT;
        bool taken = false;
        if constexpr (STAGES) {
          taken = staged;
          if (staged) take_keys(stage, units.segment(next), following);
        }
        if (!taken) load_keys(units.segment(next), following);
      }
      if (!whole(live, base)) drop_dead_values(live, base);
      weigh(state, weights);
      add_values(state, weights);
      if (more) {
        bool taken = false;
        if constexpr (STAGES) {
          taken = staged;
          if (staged) take_values(stage);
        }
        if (!taken) load_values(units.segment(next), units.number(next) * UNIT);
      }
      if constexpr (STAGES) staged = false;
    }
    return unit;
  }
};
