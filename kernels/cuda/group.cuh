// Closing a group: from `compress` consecutive tokens to one middle slot. Two warps work on it, one for the key and one for
// the value; both find the anchor, so that neither waits for the other.
#pragma once
#include "cache.cuh"
#include "vector.cuh"

// Tokens of one row, either in a plain array (ring 0) or in the exact segment of a cache.
struct TokenRows {
  const void* k;
  const void* v;
  long long first;  // index of the row's first vector
  int sinks;
  int ring;

  __device__ long long index(int token) const { return first + place(token, sinks, ring); }
};

// The token that stands for group [first, first + compress): by value norm the largest sum of squares, the earliest of equals.
template <int DTYPE>
__device__ inline int choose_anchor(const TokenRows& rows, int first, int compress, int dim, int anchor) {
  if (anchor == LAST) return first + compress - 1;
  if (anchor != VALUE_NORM || compress == 1) return first;
  int best = first;
  double largest = -1.0;
  for (int token = first; token < first + compress; token++) {
    const double norm = squared_norm(load_vector<DTYPE>(rows.v, rows.index(token), dim));
    if (norm > largest) {
      largest = norm;
      best = token;
    }
  }
  return best;
}

// fp32 sum in token order, divided once.
template <int DTYPE>
__device__ inline Vector mean_vector(const TokenRows& rows, const void* vectors, int first, int compress, int dim) {
  Vector total;
  total.zero();
  for (int token = first; token < first + compress; token++) {
    const Vector v = load_vector<DTYPE>(vectors, rows.index(token), dim);
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      total.x[i][0] = add_rn(total.x[i][0], v.x[i][0]);
      total.x[i][1] = add_rn(total.x[i][1], v.x[i][1]);
    }
  }
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    total.x[i][0] = div_rn(total.x[i][0], float(compress));
    total.x[i][1] = div_rn(total.x[i][1], float(compress));
  }
  return total;
}

// Writes middle slot `group` of `row`; warp 0 of the block does the key, warp 1 the value.
template <int DTYPE>
__device__ inline void close_group(const Cache& cache, const TokenRows& rows, int row, int group, int anchor, float bias) {
  const bool is_key = threadIdx.x < 32;
  const void* source = is_key ? rows.k : rows.v;
  void* middle = is_key ? cache.middle_k : cache.middle_v;
  const long long slot = (long long)row * cache.middle_capacity + group;
  const int first = cache.sinks + group * cache.compress;
  const int token = choose_anchor<DTYPE>(rows, first, cache.compress, cache.dim, anchor);
  const bool quantised = cache.cache_dtype == INT8 || cache.cache_dtype == INT4;
  if (quantised || anchor == MEAN) {
    const Vector v = anchor == MEAN ? mean_vector<DTYPE>(rows, source, first, cache.compress, cache.dim)
                                    : load_vector<DTYPE>(source, rows.index(token), cache.dim);
    void* scales = is_key ? cache.middle_k_scale : cache.middle_v_scale;
    if (quantised) store_quantised(middle, scales, slot, cache.dim, cache.cache_dtype, v);
    else store_vector<DTYPE>(middle, slot, cache.dim, v);
  } else {
    copy_vector<DTYPE>(source, rows.index(token), middle, slot, cache.dim);
  }
  if (threadIdx.x == 0) {
    cache.middle_token[slot] = token;
    if (cache.middle_bias) cache.middle_bias[slot] = bias;
  }
}

// Copies one token into its exact slot; warp 0 the key, warp 1 the value.
template <int DTYPE>
__device__ inline void store_exact(const Cache& cache, int row, int token, const void* k, const void* v, long long from) {
  const bool is_key = threadIdx.x < 32;
  const long long slot = (long long)row * (cache.sinks + cache.ring) + place(token, cache.sinks, cache.ring);
  copy_vector<DTYPE>(is_key ? k : v, from, is_key ? cache.exact_k : cache.exact_v, slot, cache.dim);
  if (threadIdx.x == 0 && cache.exact_bias) cache.exact_bias[slot] = 0.0f;
}
