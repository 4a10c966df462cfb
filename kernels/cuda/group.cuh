// Closing a group: which token stands for it, its stored key and value, its scales. Shared by compress and append; one warp
// does one group. Bits are those of workflow/elastickv/policy.py.
#pragma once
#include "cache.cuh"
#include "convert.cuh"
#include "state.cuh"

constexpr int MOST_PAIRS = 4;  // pairs of dims a lane holds: dim <= 256

// Tokens of one row: token t is vector slot(t) of k and v.
struct Source {
  const void* k;
  const void* v;
  long long first;  // vector index of the row's slot 0
  int sinks;
  int ring;  // 0: a token's slot is its own number

  __device__ long long vector(int token) const { return first + place(token, sinks, ring); }
};

__device__ inline float load_value(const void* from, int dtype, long long index) {
  if (dtype == FP32) return static_cast<const float*>(from)[index];
  const Word16 bits = static_cast<const Word16*>(from)[index];
  return dtype == FP16 ? from_fp16(bits) : from_bf16(bits);
}

__device__ inline void store_value(void* to, int dtype, long long index, float value) {
  if (dtype == FP32) store1<FP32>(to, index, value);
  else if (dtype == FP16) store1<FP16>(to, index, value);
  else store1<BF16>(to, index, value);
}

__device__ inline double warp_sum_double(double x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, step);
  return x;
}

// The group's token with the largest sum of squares of its value (float64); the earliest of equals. A NaN counts as larger
// than any number, as in NumPy.
__device__ inline int largest_value(const Cache& cache, const Source& source, int first, int lane) {
  int best = first;
  double most = -1.0;
  for (int token = first; token < first + cache.compress; token++) {
    const long long at = source.vector(token) * cache.dim;
    double sum = 0.0;
    for (int d = lane; d < cache.dim; d += 32) {
      const double x = load_value(source.v, cache.dtype, at + d);
      sum += x * x;
    }
    sum = warp_sum_double(sum);
    if (sum > most || (sum != sum && most == most)) {
      most = sum;
      best = token;
    }
  }
  return best;
}

// Stores one vector (a lane's pairs of dims) as middle slot `slot`, quantised where the cache is.
__device__ inline void store_middle(const Cache& cache, void* to, void* scales, long long slot,
                                    const float (&x)[MOST_PAIRS][2], int lane) {
  const int pairs = cache.dim / 2, format = cache.cache_dtype;
  const bool quantised = format == INT8 || format == INT4;
  const float largest = format == INT8 ? 127.0f : 7.0f;
  float divisor = 0.0f;
  if (quantised) {
    Word32 peak = 0;  // |x| as an integer orders like |x|, with NaN above all: a NaN reaches the scale
#pragma unroll
    for (int i = 0; i < MOST_PAIRS; i++)
      if (lane + 32 * i < pairs)
        peak = max(peak, max(__float_as_uint(x[i][0]) & 0x7fffffffu, __float_as_uint(x[i][1]) & 0x7fffffffu));
#pragma unroll
    for (int step = 16; step > 0; step /= 2) peak = max(peak, __shfl_xor_sync(WHOLE_WARP, peak, step));
    const float quotient = div_rn(__uint_as_float(peak), largest);
    const Word16 scale = to_fp16(quotient > LARGEST_FP16 ? LARGEST_FP16 : quotient);
    divisor = from_fp16(scale);
    if (lane == 0) static_cast<Word16*>(scales)[slot] = scale;
  }
#pragma unroll
  for (int i = 0; i < MOST_PAIRS; i++) {
    const int pair = lane + 32 * i;
    if (pair >= pairs) continue;
    const long long at = slot * cache.dim + 2 * pair;
    if (!quantised) {
      store_value(to, cache.dtype, at, x[i][0]);
      store_value(to, cache.dtype, at + 1, x[i][1]);
      continue;
    }
    int code[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      const float exact = divisor == 0.0f ? 0.0f : div_rn(x[i][e], divisor);
      code[e] = __float2int_rn(fminf(fmaxf(exact, -largest), largest));
    }
    if (format == INT8) {
      static_cast<signed char*>(to)[at] = code[0];
      static_cast<signed char*>(to)[at + 1] = code[1];
    } else {
      static_cast<unsigned char*>(to)[at / 2] = (code[0] + 8) | (code[1] + 8) << 4;
    }
  }
}

// Makes middle slot `group` of `row` from its `compress` tokens.
__device__ inline void close_group(const Cache& cache, const Source& source, int row, int group, int anchor,
                                   float anchor_bias, int lane) {
  const int first = cache.sinks + group * cache.compress;
  int token = first;
  if (anchor == LAST) token = first + cache.compress - 1;
  if (anchor == VALUE_NORM) token = largest_value(cache, source, first, lane);
  const int members = anchor == MEAN ? cache.compress : 1;
  const long long slot = (long long)row * cache.middle_capacity + group;
#pragma unroll 1
  for (int which = 0; which < 2; which++) {
    const void* from = which ? source.v : source.k;
    float x[MOST_PAIRS][2];
#pragma unroll
    for (int i = 0; i < MOST_PAIRS; i++) {
      const int pair = lane + 32 * i;
      if (pair >= cache.dim / 2) continue;
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float sum = anchor == MEAN ? 0.0f : load_value(from, cache.dtype, source.vector(token) * cache.dim + 2 * pair + e);
        if (anchor == MEAN) {
          for (int t = first; t < first + members; t++)
            sum = add_rn(sum, load_value(from, cache.dtype, source.vector(t) * cache.dim + 2 * pair + e));
          sum = div_rn(sum, float(members));
        }
        x[i][e] = sum;
      }
    }
    store_middle(cache, which ? cache.middle_v : cache.middle_k, which ? cache.middle_v_scale : cache.middle_k_scale, slot,
                 x, lane);
  }
  if (lane == 0) {
    cache.middle_token[slot] = token;
    if (cache.middle_bias) cache.middle_bias[slot] = anchor_bias;
  }
}

// Copies one token's key and value into its exact slot (where a bias is 0). `from` indexes vectors of k and v.
__device__ inline void copy_token(const Cache& cache, const void* k, const void* v, long long from, int row, int token,
                                  int lane) {
  const long long slot = (long long)row * (cache.sinks + cache.ring) + place(token, cache.sinks, cache.ring);
  const long long to = slot * cache.dim;
  if (lane == 0 && cache.exact_bias) cache.exact_bias[slot] = 0.0f;
  if (cache.dtype == FP32) {
    for (int d = lane; d < cache.dim; d += 32) {
      static_cast<float*>(cache.exact_k)[to + d] = static_cast<const float*>(k)[from * cache.dim + d];
      static_cast<float*>(cache.exact_v)[to + d] = static_cast<const float*>(v)[from * cache.dim + d];
    }
  } else {
    for (int d = lane; d < cache.dim; d += 32) {
      static_cast<Word16*>(cache.exact_k)[to + d] = static_cast<const Word16*>(k)[from * cache.dim + d];
      static_cast<Word16*>(cache.exact_v)[to + d] = static_cast<const Word16*>(v)[from * cache.dim + d];
    }
  }
}
