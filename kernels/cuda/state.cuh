// Online softmax (Milakov and Gimelshein, 2018) in the exp2 domain: a partial answer over some slots is
//   m = a bound of the logits seen (times log2 e), l = sum 2^(x - m), o = sum 2^(x - m) v,
// and the answer is o / l. Partials merge in any grouping; ours merge in a fixed order, so that runs repeat bit for bit.
#pragma once
#include "convert.cuh"

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float NO_LOGIT = -1e30f;  // m of a partial without slots: finite, so that m - m is 0 and never NaN

__device__ inline float minus_infinity() { return __uint_as_float(0xff800000u); }

__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Four dims of a partial answer of one query head.
struct Partial {
  float m = NO_LOGIT;
  float l = 0.0f;
  float4 o = {0.0f, 0.0f, 0.0f, 0.0f};

  __device__ void rescale(float bound) {
    const float shrink = exp2_approx(m - bound);
    m = bound;
    l *= shrink;
    o.x *= shrink;
    o.y *= shrink;
    o.z *= shrink;
    o.w *= shrink;
  }

  __device__ void add(float weight, float other_l, const float4& other_o) {
    l = fmaf(weight, other_l, l);
    o.x = fmaf(weight, other_o.x, o.x);
    o.y = fmaf(weight, other_o.y, o.y);
    o.z = fmaf(weight, other_o.z, o.z);
    o.w = fmaf(weight, other_o.w, o.w);
  }

  // other: (m, l) and sums of another partial.
  __device__ void merge(const float2& other, const float4& other_o) {
    rescale(fmaxf(m, other.x));
    add(exp2_approx(other.x - m), other.y, other_o);
  }

  // The answer; zero when there was no slot at all.
  __device__ float4 normalised() const {
    const float inverse = l > 0.0f ? 1.0f / l : l * 0.0f;  // a NaN stays a NaN
    return {o.x * inverse, o.y * inverse, o.z * inverse, o.w * inverse};
  }
};

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(WHOLE_WARP, x, step));
  return x;
}

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, step);
  return x;
}

// Sums values[i] over each run of LANES lanes; a lane ends up with the sum of values[lane % N]. Halving what is left at
// every step takes N shuffles in all where summing one value after the other takes N log2(LANES).
template <int N, int LANES>
__device__ inline float reduce_scatter(float (&values)[N], int lane) {
#pragma unroll
  for (int half = N / 2; half > 0; half /= 2) {
    const bool upper = lane & half;
#pragma unroll
    for (int i = 0; i < half; i++) {
      const float kept = upper ? values[i + half] : values[i];
      const float sent = upper ? values[i] : values[i + half];
      values[i] = kept + __shfl_xor_sync(WHOLE_WARP, sent, half);
    }
  }
  float sum = values[0];
#pragma unroll
  for (int step = N; step < LANES; step *= 2) sum += __shfl_xor_sync(WHOLE_WARP, sum, step);
  return sum;
}
