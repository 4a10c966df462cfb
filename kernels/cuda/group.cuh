// Closing a group: which token stands for it, its stored key and value, its scales. Shared by compress, close and append; one
// warp does one group. Bits are those of workflow/elastickv/cache/policy.py and workflow/elastickv/formats.
#pragma once
#include "cache.cuh"
#include "convert.cuh"
#include "dependent.cuh"
#include "fragment.cuh"
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

// The tokens that a cache holds exactly.
__device__ inline Source exact_source(const Cache& cache, int row) {
  return {cache.exact_k, cache.exact_v, (long long)row * (cache.sinks + cache.ring), cache.sinks, cache.ring};
}

// A lane's pairs of dims of one vector: pairs lane, lane + 32, ...; zero past the end.
struct Pairs {
  float x[MOST_PAIRS][2];
};

template <int DTYPE>
__device__ inline void load_pairs(Pairs& to, const void* from, long long vector, int dim, int lane) {
#pragma unroll
  for (int i = 0; i < MOST_PAIRS; i++) {
    const int pair = lane + 32 * i;
    to.x[i][0] = to.x[i][1] = 0.0f;
    if (pair >= dim / 2) continue;
    const long long at = vector * (dim / 2) + pair;
    if constexpr (DTYPE == FP32) {
      const float2 two = static_cast<const float2*>(from)[at];
      to.x[i][0] = two.x;
      to.x[i][1] = two.y;
    } else {
      const Word32 two = static_cast<const Word32*>(from)[at];
      to.x[i][0] = from_word16<DTYPE>(Word16(two & 0xffffu));
      to.x[i][1] = from_word16<DTYPE>(Word16(two >> 16));
    }
  }
}

__device__ inline void load_pairs(Pairs& to, const void* from, int dtype, long long vector, int dim, int lane) {
  if (dtype == FP32) load_pairs<FP32>(to, from, vector, dim, lane);
  else if (dtype == FP16) load_pairs<FP16>(to, from, vector, dim, lane);
  else load_pairs<BF16>(to, from, vector, dim, lane);
}

// Values at and at + 1 of an array in any format.
__device__ inline void put(int format, void* to, long long at, float x, float y) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) return Stored<NAME>::put(to, at, x, y);
  ELASTICKV_FORMATS(X)
#undef X
}

__device__ inline double warp_sum_double(double x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, step);
  return x;
}

// Tokens of a group whose vectors are loaded before any of them is looked at.
constexpr int GROUP_IN_FLIGHT = 4;

// Calls take(i, pairs) for the vectors of the group's tokens first + i, in order.
template <class Take>
__device__ inline void each_of_group(const Cache& cache, const Source& source, const void* from, int first, int lane,
                                     const Take& take) {
#pragma unroll 1
  for (int base = 0; base < cache.compress; base += GROUP_IN_FLIGHT) {
    Pairs pairs[GROUP_IN_FLIGHT];
#pragma unroll
    for (int i = 0; i < GROUP_IN_FLIGHT; i++)
      load_pairs(pairs[i], from, cache.dtype, source.vector(first + min(base + i, cache.compress - 1)), cache.dim, lane);
#pragma unroll
    for (int i = 0; i < GROUP_IN_FLIGHT; i++)
      if (base + i < cache.compress) take(base + i, pairs[i]);
  }
}

// The group's token with the largest sum of squares of its value (float64), and that value; the earliest of equals. A NaN
// counts as larger than any number, as in NumPy.
__device__ inline int largest_value(const Cache& cache, const Source& source, int first, int lane, Pairs& value) {
  int best = 0;
  double most = -1.0;
  each_of_group(cache, source, source.v, first, lane, [&](int i, const Pairs& pairs) {
    double sum = 0.0;
#pragma unroll
    for (int e = 0; e < 2 * MOST_PAIRS; e++) {
      const double x = pairs.x[e / 2][e % 2];
      sum += x * x;
    }
    sum = warp_sum_double(sum);
    if (sum > most || (sum != sum && most == most)) {
      most = sum;
      best = i;
      value = pairs;
    }
  });
  return first + best;
}

// The mean of a group's vectors, summed in the order of tokens.
__device__ inline void mean_of_group(const Cache& cache, const Source& source, const void* from, int first, int lane,
                                     Pairs& mean) {
#pragma unroll
  for (int e = 0; e < 2 * MOST_PAIRS; e++) mean.x[e / 2][e % 2] = 0.0f;
  each_of_group(cache, source, from, first, lane, [&](int, const Pairs& pairs) {
#pragma unroll
    for (int e = 0; e < 2 * MOST_PAIRS; e++) mean.x[e / 2][e % 2] = add_rn(mean.x[e / 2][e % 2], pairs.x[e / 2][e % 2]);
  });
#pragma unroll
  for (int e = 0; e < 2 * MOST_PAIRS; e++) mean.x[e / 2][e % 2] = div_rn(mean.x[e / 2][e % 2], float(cache.compress));
}

// Stores one vector (a lane's pairs of dims) as middle slot `slot`, divided by its scale where the format has one.
__device__ inline void store_middle(const Cache& cache, void* to, void* scales, long long slot,
                                    const float (&x)[MOST_PAIRS][2], int lane) {
  const int pairs = cache.dim / 2, format = cache.cache_dtype;
  const float largest = format_largest(format);
  const bool quantised = largest != 0.0f;
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
    float first = x[i][0], second = x[i][1];
    if (quantised) {
      first = divisor == 0.0f ? 0.0f : div_rn(first, divisor);
      second = divisor == 0.0f ? 0.0f : div_rn(second, divisor);
    }
    put(format, to, slot * cache.dim + 2 * pair, first, second);
  }
}

// Makes middle slot `group` of `row` from its `compress` tokens.
__device__ inline void close_group(const Cache& cache, const Source& source, int row, int group, int anchor,
                                   float anchor_bias, int lane) {
  const int first = cache.sinks + group * cache.compress;
  int token = first;
  Pairs key, value;
  if (anchor == MEAN) {
    mean_of_group(cache, source, source.k, first, lane, key);
    mean_of_group(cache, source, source.v, first, lane, value);
  } else {
    // Keys of all candidates on their way: which one is wanted is known only when the values have come.
    const int row_size = row_bytes(cache.dtype, cache.dim), lines = (row_size + 127) / 128;
    if (anchor == VALUE_NORM) {
      for (int i = lane; i < cache.compress * lines; i += 32)
        prefetch(static_cast<const char*>(source.k) + source.vector(first + i / lines) * row_size + i % lines * 128);
      token = largest_value(cache, source, first, lane, value);
    } else {
      if (anchor == LAST) token = first + cache.compress - 1;
      load_pairs(value, source.v, cache.dtype, source.vector(token), cache.dim, lane);
    }
    load_pairs(key, source.k, cache.dtype, source.vector(token), cache.dim, lane);
  }
  const long long slot = (long long)row * cache.middle_capacity + group;
  store_middle(cache, cache.middle_k, cache.middle_k_scale, slot, key.x, lane);
  store_middle(cache, cache.middle_v, cache.middle_v_scale, slot, value.x, lane);
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
