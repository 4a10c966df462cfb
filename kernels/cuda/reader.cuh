// How a warp reads the slots of a cache and folds them into its answer.
//
// A unit is LOADS * (32 / LANES) neighbouring slots of one segment, whose keys and values a warp holds in registers. While
// one unit is reduced the loads of the warp's next one are in flight: keys as soon as the dots are done, then values.
#pragma once
#include "cache.cuh"
#include "fragment.cuh"
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
  return format == FP32 ? 4 : (format == INT8 || format == INT4) && tile == 1 ? 16 : 8;
}

struct Segment {
  const char* k;
  const char* v;
  const float* bias;      // null: none
  const Word16* k_scale;  // null unless quantised
  const Word16* v_scale;
  Slots slots;
};

__device__ inline Segment middle_segment(const Cache& cache, int row, int tokens) {
  const long long first = (long long)row * cache.middle_capacity, bytes = first * row_bytes(cache.cache_dtype, cache.dim);
  return {static_cast<const char*>(cache.middle_k) + bytes, static_cast<const char*>(cache.middle_v) + bytes,
          cache.middle_bias ? cache.middle_bias + first : nullptr, static_cast<const Word16*>(cache.middle_k_scale) + first,
          static_cast<const Word16*>(cache.middle_v_scale) + first, middle_slots(cache, tokens)};
}

__device__ inline Segment exact_segment(const Cache& cache, int row, int tokens) {
  const long long first = (long long)row * (cache.sinks + cache.ring), bytes = first * row_bytes(cache.dtype, cache.dim);
  return {static_cast<const char*>(cache.exact_k) + bytes, static_cast<const char*>(cache.exact_v) + bytes,
          cache.exact_bias ? cache.exact_bias + first : nullptr, nullptr, nullptr, exact_slots(cache, tokens)};
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
  static constexpr bool QUANTISED = FORMAT == INT8 || FORMAT == INT4;
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

  static __host__ __device__ int units(int slots) { return (slots + UNIT - 1) / UNIT; }

  __device__ int entry_of_load(int base, int load) const { return base + load * S::ROWS + lane / S::LANES; }
  __device__ int entry_of_logit(int base, int batch) const { return entry_of_load(base, batch * BATCH + lane % BATCH); }

  // Rows past the end are read as the last one: valid memory, weight zero.
  __device__ int slot(const Segment& segment, int entry) const { return segment.slots[min(entry, segment.slots.count - 1)]; }

  __device__ void load_keys(const Segment& segment, int base) {
    const int bytes = row_bytes(FORMAT, columns.dim);
#pragma unroll
    for (int i = 0; i < LOADS; i++) columns.load(k[i], segment.k + (long long)slot(segment, entry_of_load(base, i)) * bytes);
#pragma unroll
    for (int b = 0; b < BATCHES; b++) {
      const int at = slot(segment, entry_of_logit(base, b));
      bias[b] = segment.bias ? __ldg(segment.bias + at) : 0.0f;
      if (QUANTISED) k_scale[b] = __ldg(segment.k_scale + at);
    }
  }

  __device__ void load_values(const Segment& segment, int base) {
    const int bytes = row_bytes(FORMAT, columns.dim);
#pragma unroll
    for (int i = 0; i < LOADS; i++) columns.load(v[i], segment.v + (long long)slot(segment, entry_of_load(base, i)) * bytes);
#pragma unroll
    for (int b = 0; b < BATCHES; b++)
      if (QUANTISED) v_scale[b] = __ldg(segment.v_scale + slot(segment, entry_of_logit(base, b)));
  }

  // logits[j][b], times log2 e, of the slot that this lane owns in batch b; minus infinity past the end.
  __device__ void dots(const State<S>& state, int base, int count, float (&logits)[S::TILE][BATCHES]) const {
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
      const bool live = entry_of_logit(base, b) < count;
      const float scale = QUANTISED ? from_fp16(k_scale[b]) : 1.0f;
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
        logits[j][b] = QUANTISED ? weight * from_fp16(v_scale[b]) : weight;
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

  // Units unit, unit + warps, ... below `end`: those below `units_of_first` lie in `first`, the others in `second`.
  // Returns the first unit of this warp that is not below `end`.
  __device__ int run(State<S>& state, const Segment& first, int units_of_first, const Segment& second, int unit, int end) {
    const int warps = blockDim.x / 32;
    // One turn behind the loads: turn `unit` reduces what the turn before loaded, so that loads and arithmetic are written
    // (and compiled) once.
    auto segment_of = [&](int u) -> Segment { return u < units_of_first ? first : second; };
    auto base_of = [&](int u) { return (u < units_of_first ? u : u - units_of_first) * UNIT; };
    const int begin = unit;
#pragma unroll 1
    for (unit -= warps; unit < end; unit += warps) {
      const int next = unit + warps;
      const bool loaded = unit >= begin, more = next < end;
      float weights[S::TILE][BATCHES];
      if (loaded) dots(state, base_of(unit), segment_of(unit).slots.count, weights);
      if (more) load_keys(segment_of(next), base_of(next));
      if (loaded) {
        weigh(state, weights);
        add_values(state, weights);
      }
      if (more) load_values(segment_of(next), base_of(next));
    }
    return max(unit, begin);  // a range that was empty from the start moves nothing
  }
};
