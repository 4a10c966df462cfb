// Run-time handling of formats, segments and pieces in decode_any.
#pragma once
#include "cache.cuh"
#include "fragment.cuh"
#include "state.cuh"

// Eight elements of a vector from `element` on.
template <int FORMAT>
__device__ inline void load_any(Fragment<FORMAT>& fragment, const char* vector, int element) {
  if constexpr (FORMAT == FP32) {
    fragment.template load<true>(vector, 0, element);
    fragment.template load<true>(vector, 1, element + 4);
  } else {
    fragment.template load<false>(vector, 0, element);
  }
}

template <int FORMAT>
__device__ constexpr float factor_of() {
  if constexpr (is_scaled(FORMAT)) return Fragment<FORMAT>::FACTOR;
  else return 1.0f;
}

// The factor for a slot's unpacked numbers.
__device__ inline float scale_of_slot(int format, const void* scales, long long at) {
  if (!is_scaled(format)) return 1.0f;
  const float scale = from_fp16(static_cast<const Word16*>(scales)[at]);
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) return scale * factor_of<NAME>();
  ELASTICKV_FORMATS(X)
#undef X
  return scale;
}

// One value of an array in a format without scales.
__device__ inline float load_value(const void* from, int dtype, long long at) {
  if (dtype == FP32) return static_cast<const float*>(from)[at];
  const Word16 word = static_cast<const Word16*>(from)[at];
  return dtype == FP16 ? from_fp16(word) : from_bf16(word);
}

__device__ inline void store_value(void* to, int dtype, long long at, float x) {
  if (dtype == FP32) return store1<FP32>(to, at, x);
  if (dtype == FP16) return store1<FP16>(to, at, x);
  store1<BF16>(to, at, x);
}

// The per-head state of a row, for formats that have one.
template <int FORMAT>
__device__ inline const float* state_of(const void* states, const Cache& cache, int row) {
  return static_cast<const float*>(states) + (long long)(row % cache.kv_heads) * PerHead<FORMAT>::floats(cache.dim);
}

// The pieces of a launch: of each segment ceil(touched / size), size = 1 << shift the smallest power of two from 64 on with
// which there are no more than blocks.
struct AnyPieces {
  int shift = 6;
  int first[MOST_SEGMENTS + 1];

  __device__ explicit AnyPieces(const DecodeParams& p) {
    while (count(p) > int(gridDim.x)) shift++;
  }
  __device__ int count(const DecodeParams& p) {
    int pieces = 0;
#pragma unroll
    for (int s = 0; s < MOST_SEGMENTS; s++) {
      first[s] = pieces;
      if (s < p.cache.segment_count) pieces += (p.touched[s] + (1 << shift) - 1) >> shift;
    }
    return first[MOST_SEGMENTS] = pieces;
  }
  __device__ int segment(int piece) const {
    int found = 0;
#pragma unroll
    for (int s = 1; s < MOST_SEGMENTS; s++) found += piece >= first[s];
    return found;
  }
};

// The slots of a row's segment that hold a token; newest: the one that this launch writes, or -1.
struct AnyLive {
  Held held;
  int newest;

  __device__ AnyLive(const DecodeParams& p, int row, int segment) {
    const Live live = load_live(p.cache, p.pending, row, segment);
    held = held_slots(live, 0);
    newest = segment == 0 && p.fresh.k ? newest_slot(live) : -1;
  }
  __device__ bool operator()(int slot) const { return held(slot); }
};

// The vectors of the token that a launch appends to a row.
struct AnyFresh {
  const char* k = nullptr;
  const char* v = nullptr;

  __device__ AnyFresh(const DecodeParams& p, int row) {
    if (!p.fresh.k) return;
    const long long vector = fresh_vector(p.fresh, p.cache.rows, row, load_fresh(p.cache.tokens));
    k = static_cast<const char*>(p.fresh.k) + vector * row_bytes(p.cache.dtype, p.cache.dim);
    v = static_cast<const char*>(p.fresh.v) + vector * row_bytes(p.cache.dtype, p.cache.dim);
  }
  // Stores to a slot of segment 0; executed by all threads of a block.
  __device__ void store(const Cache& cache, int row, int slot) const {
    const Segment& exact = cache.segments[0];
    const int words = row_bytes(cache.dtype, cache.dim) / 4;
    const long long at = (long long)row * exact.capacity + slot;
    for (int i = threadIdx.x; i < words; i += blockDim.x) {
      static_cast<Word32*>(exact.k)[at * words + i] = reinterpret_cast<const Word32*>(k)[i];
      static_cast<Word32*>(exact.v)[at * words + i] = reinterpret_cast<const Word32*>(v)[i];
    }
    if (threadIdx.x == 0 && exact.bias) exact.bias[at] = 0.0f;
  }
};

// A partial answer, one dim of it: as Partial (state.cuh) has four.
struct AnyPartial {
  float m = NO_LOGIT;
  float l = 0.0f;
  float o = 0.0f;

  __device__ void merge(const AnyPartial& other) {
    const float bound = fmaxf(m, other.m), mine = exp2_approx(m - bound), theirs = exp2_approx(other.m - bound);
    m = bound;
    l = fmaf(other.l, theirs, l * mine);
    o = fmaf(other.o, theirs, o * mine);
  }
  // Zero if there was no slot; NaN stays NaN.
  __device__ float normalised() const { return l > 0.0f ? o / l : l * 0.0f; }
};
