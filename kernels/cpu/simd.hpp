// Vectors of floats in GCC's vector extension, as wide as the target's registers, and what the extension lacks:
// loading each storage format, summing eight accumulators, exp. Everything works on any target; x86 gets intrinsics
// where the compiler would not find the instruction.
#pragma once
#include <cmath>

#include "../format.h"
#include "../params.h"
#include "../per_head.h"
#include "scalar.hpp"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define ELASTICKV_INLINE inline __attribute__((always_inline))

namespace elastickv {

#if defined(__AVX512F__) && defined(__AVX512BW__)
#define ELASTICKV_AVX512 1
constexpr int LANES = 16;
constexpr const char* INSTRUCTIONS = "AVX-512";
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define ELASTICKV_AVX2 1
constexpr int LANES = 8;
constexpr const char* INSTRUCTIONS = "AVX2";
#else
constexpr int LANES = 4;
constexpr const char* INSTRUCTIONS = "portable 128-bit vectors";
#endif

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));

// All formats are read in steps of 16 dims (the supported dims are multiples of 16): STEPS registers each.
constexpr int STEP = 16;
constexpr int STEPS = STEP / LANES;

template <typename T>
ELASTICKV_INLINE T load(const void* address) {
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

template <typename T>
ELASTICKV_INLINE void store(void* address, const T& value) {
  std::memcpy(address, &value, sizeof(T));
}

ELASTICKV_INLINE Floats splat(float x) {
#if defined(ELASTICKV_AVX512)
  return _mm512_set1_ps(x);
#elif defined(ELASTICKV_AVX2)
  return _mm256_set1_ps(x);
#else
  return Floats{} + x;
#endif
}

// How a format is read and written, in kernels/formats/<name>.h:
//   floats(vector, first): dims [first, first + LANES) of a stored vector; they are to be multiplied by scale * FACTOR
//   get(vector, i): dim i alone, as floats() gives it
//   put(value, count, to): writes value(0) .. value(count - 1), divided by the scale where there is one
template <int FORMAT>
struct Stored;

// floats() where no instruction is known.
template <typename Format>
ELASTICKV_INLINE Floats one_by_one(const char* vector, int first) {
  Floats values;
  for (int i = 0; i < LANES; ++i) values[i] = Format::get(vector, first + i);
  return values;
}

// A value divided by its scale -> the nearest whole number from -LARGEST to LARGEST, half to even.
template <int LARGEST>
ELASTICKV_INLINE int whole_code(float x) {
  float rounded = std::rint(x);
  if (!(rounded >= -LARGEST)) rounded = -LARGEST;  // a NaN too: its vector's scale is a NaN already
  return int(rounded > LARGEST ? LARGEST : rounded);
}

}  // namespace elastickv

#include "formats_code.h"

namespace elastickv {

// Dims [16 * step + LANES * part, + LANES) of a stored vector.
template <int FORMAT>
ELASTICKV_INLINE Floats load_floats(const char* vector, int step, int part) {
  return Stored<FORMAT>::floats(vector, STEP * step + LANES * part);
}

// out[i] = the sum of the lanes of sums[i].
ELASTICKV_INLINE void reduce8(const Floats* sums, float* out) {
#if defined(ELASTICKV_AVX512) || defined(ELASTICKV_AVX2)
  __m256 a[8];
  for (int i = 0; i < 8; ++i) {
#if defined(ELASTICKV_AVX512)
    const __m256d upper = _mm512_extractf64x4_pd(_mm512_castps_pd(sums[i]), 1);
    a[i] = _mm256_add_ps(_mm512_castps512_ps256(sums[i]), _mm256_castpd_ps(upper));
#else
    a[i] = sums[i];
#endif
  }
  const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
  const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(a[4], a[5]), _mm256_hadd_ps(a[6], a[7]));
  const __m256 swapped = _mm256_permute2f128_ps(low, high, 0x21);
  _mm256_storeu_ps(out, _mm256_add_ps(_mm256_blend_ps(low, high, 0xF0), swapped));
#else
  for (int i = 0; i < 8; ++i) {
    out[i] = 0;
    for (int lane = 0; lane < LANES; ++lane) out[i] += sums[i][lane];
  }
#endif
}

// Every lane: all lanes joined by `join`.
template <int FLIP = LANES / 2, typename Join>
ELASTICKV_INLINE Floats join_lanes(Floats v, Join join) {
  Ints other = {};
  for (int i = 0; i < LANES; ++i) other[i] = i ^ FLIP;
  v = join(v, __builtin_shuffle(v, other));
  if constexpr (FLIP > 1) return join_lanes<FLIP / 2>(v, join);
  return v;
}

ELASTICKV_INLINE float lane_sum(Floats v) {
  return join_lanes(v, [](Floats a, Floats b) { return a + b; })[0];
}

ELASTICKV_INLINE float lane_max(Floats v) {
  return join_lanes(v, [](Floats a, Floats b) { return b > a ? b : a; })[0];
}

// Keeps a value in a register where the compiler would rather load it again with each use.
ELASTICKV_INLINE void keep_in_register(Floats& value) {
#if defined(ELASTICKV_AVX512)
  asm("" : "+v"(value));
#elif defined(ELASTICKV_AVX2)
  asm("" : "+x"(value));
#else
  (void)value;
#endif
}

// exp within 2 units in the last place (Cephes expf: Cody-Waite reduction, degree 6). Below -104 it is 0, above 88.73
// infinity; a NaN stays one: every comparison lets it through and the last step is a product.
template <typename V, typename I>
ELASTICKV_INLINE V exp_lanes(V x) {
  const V low = V{} - 106.0f, high = V{} + 90.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const V n = (x * 1.44269504088896341f + to_integer) - to_integer;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = V{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that results near the ends of the range neither overflow nor vanish on the way.
  const I exponent = __builtin_convertvector(n, I), half = exponent >> 1;
  return p * (V)((half + 127) << 23) * (V)((exponent - half + 127) << 23);
}

ELASTICKV_INLINE Floats exp_floats(Floats x) { return exp_lanes<Floats, Ints>(x); }

}  // namespace elastickv
