// Storage formats <-> fp32, without CUDA headers (they take NVRTC seconds, and bf16 must work below sm_80).
// Everything rounds to nearest, ties to even. The inline PTX has no .ftz, so --use_fast_math does not flush subnormals
// where the NumPy reference (workflow/elastickv/formats) keeps them.
#pragma once
#include "../format.h"
#include "../params.h"

using Word16 = unsigned short;
using Word32 = unsigned int;

constexpr unsigned WHOLE_WARP = 0xffffffffu;
constexpr float LARGEST_FP16 = 65504.0f;

__device__ inline float add_rn(float a, float b) {
  float sum;
  asm("add.rn.f32 %0, %1, %2;" : "=f"(sum) : "f"(a), "f"(b));
  return sum;
}

__device__ inline float div_rn(float a, float b) {
  float quotient;
  asm("div.rn.f32 %0, %1, %2;" : "=f"(quotient) : "f"(a), "f"(b));
  return quotient;
}

__device__ inline float from_fp16(Word16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ inline Word16 to_fp16(float value) {
  Word16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ inline float from_bf16(Word16 bits) { return __uint_as_float(Word32(bits) << 16); }

__device__ inline Word16 to_bf16(float value) {
  const Word32 bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN: rounding could carry into infinity
  return Word16((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <int DTYPE>
__device__ inline Word16 to_word16(float value) {
  return DTYPE == FP16 ? to_fp16(value) : to_bf16(value);
}

template <int DTYPE>
__device__ inline float from_word16(Word16 bits) {
  return DTYPE == FP16 ? from_fp16(bits) : from_bf16(bits);
}

template <int DTYPE>
__device__ inline Word32 pack16(float low, float high) {
  return Word32(to_word16<DTYPE>(low)) | Word32(to_word16<DTYPE>(high)) << 16;
}

// A value divided by its scale -> the nearest whole number from -LARGEST to LARGEST.
template <int LARGEST>
__device__ inline int whole_code(float x) {
  return __float2int_rn(fminf(fmaxf(x, -float(LARGEST)), float(LARGEST)));
}

// Four consecutive values to memory (16 or 8 bytes, aligned as such).
template <int DTYPE>
__device__ inline void store4(void* out, long long index, float4 x) {
  if (DTYPE == FP32) {
    static_cast<float4*>(out)[index / 4] = x;
  } else {
    static_cast<uint2*>(out)[index / 4] = make_uint2(pack16<DTYPE>(x.x, x.y), pack16<DTYPE>(x.z, x.w));
  }
}

template <int DTYPE>
__device__ inline void store1(void* out, long long index, float x) {
  if (DTYPE == FP32) {
    static_cast<float*>(out)[index] = x;
  } else {
    static_cast<Word16*>(out)[index] = to_word16<DTYPE>(x);
  }
}
