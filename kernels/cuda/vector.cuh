// A key or value vector held by one warp, for compress and append: lane i holds the pairs (2p, 2p + 1), p = i, i + 32, ...
// so that every storage format, int4 too, is written without sharing a byte. Dims up to 256, even.
#pragma once
#include "convert.cuh"

constexpr int PAIRS = 4;  // 256 dims / 32 lanes / 2

struct Vector {
  float x[PAIRS][2];

  __device__ void zero() {
#pragma unroll
    for (int i = 0; i < PAIRS; i++) x[i][0] = x[i][1] = 0.0f;
  }
};

// Calls body(i, p) for each pair p < dim / 2 of this lane, i being its place in Vector.
template <class Body>
__device__ inline void for_pairs(int dim, Body body) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    const int p = lane + 32 * i;
    if (2 * p < dim) body(i, p);
  }
}

template <int DTYPE>
__device__ inline Vector load_vector(const void* rows, long long row, int dim) {
  Vector v;
  v.zero();
  const char* from = static_cast<const char*>(rows) + row * row_bytes(DTYPE, dim);
  for_pairs(dim, [&](int i, int p) {
    if (DTYPE == FP32) {
      const float2 pair = reinterpret_cast<const float2*>(from)[p];
      v.x[i][0] = pair.x;
      v.x[i][1] = pair.y;
    } else {
      const Word32 pair = reinterpret_cast<const Word32*>(from)[p];
      v.x[i][0] = from_word16<DTYPE>(Word16(pair));
      v.x[i][1] = from_word16<DTYPE>(Word16(pair >> 16));
    }
  });
  return v;
}

template <int DTYPE>
__device__ inline void store_vector(void* rows, long long row, int dim, const Vector& v) {
  char* to = static_cast<char*>(rows) + row * row_bytes(DTYPE, dim);
  for_pairs(dim, [&](int i, int p) {
    if (DTYPE == FP32) reinterpret_cast<float2*>(to)[p] = make_float2(v.x[i][0], v.x[i][1]);
    else reinterpret_cast<Word32*>(to)[p] = pack16<DTYPE>(v.x[i][0], v.x[i][1]);
  });
}

// Copies a row as it is stored.
template <int DTYPE>
__device__ inline void copy_vector(const void* from, long long from_row, void* to, long long to_row, int dim) {
  const int words = row_bytes(DTYPE, dim) / 4, lane = threadIdx.x % 32;
  const Word32* source = static_cast<const Word32*>(from) + from_row * words;
  Word32* target = static_cast<Word32*>(to) + to_row * words;
  for (int i = lane; i < words; i += 32) target[i] = source[i];
}

// clamp(round half even (x / divisor)) to [-largest, largest]; 0 for divisor 0.
__device__ inline int code_of(float x, float divisor, int largest) {
  if (divisor == 0.0f) return 0;
  const int code = __float2int_rn(div_rn(x, divisor));
  return max(-largest, min(largest, code));
}

// Symmetric quantisation with one fp16 scale: max|x| / largest (127 for INT8, 7 for INT4).
__device__ inline void store_quantised(void* rows, void* scales, long long row, int dim, int format, const Vector& v) {
  const int largest = format == INT8 ? 127 : 7;
  float peak = 0.0f;
#pragma unroll
  for (int i = 0; i < PAIRS; i++) peak = fmaxf(peak, fmaxf(fabsf(v.x[i][0]), fabsf(v.x[i][1])));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) peak = fmaxf(peak, __shfl_xor_sync(WHOLE_WARP, peak, step));
  const Word16 scale = to_fp16(fminf(div_rn(peak, float(largest)), LARGEST_FP16));
  const float divisor = from_fp16(scale);
  unsigned char* to = static_cast<unsigned char*>(rows) + row * row_bytes(format, dim);
  for_pairs(dim, [&](int i, int p) {
    const int low = code_of(v.x[i][0], divisor, largest), high = code_of(v.x[i][1], divisor, largest);
    if (format == INT8) reinterpret_cast<Word16*>(to)[p] = Word16((low & 0xff) | (high & 0xff) << 8);
    else to[p] = (unsigned char)((low + 8) | (high + 8) << 4);
  });
  if (threadIdx.x % 32 == 0) static_cast<Word16*>(scales)[row] = scale;
}

// Sum of squares in float64, the same in every lane.
__device__ inline double squared_norm(const Vector& v) {
  double sum = 0.0;
#pragma unroll
  for (int i = 0; i < PAIRS; i++) sum += double(v.x[i][0]) * v.x[i][0] + double(v.x[i][1]) * v.x[i][1];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(WHOLE_WARP, sum, step);
  return sum;
}
