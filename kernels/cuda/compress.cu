// compress: an elastic cache of `source_tokens` tokens from a full one (policy.py is the reference, bit for bit).
// Traffic: reads keys and values of exact tokens and anchors (value_norm: all values; mean: everything), writes the cache.
// Launch: any grid of 64-thread blocks; block after block takes one closed group or one exact token of one row.
#include "group.cuh"

template <int DTYPE>
__device__ void compress(const CompressParams& p) {
  const Cache& cache = p.cache;
  const int groups = closed_groups(cache, p.source_tokens), in_groups = groups * cache.compress;
  const int items = p.source_tokens - in_groups + groups;
  for (long long at = blockIdx.x; at < (long long)cache.rows * items; at += gridDim.x) {
    const int row = int(at / items), item = int(at % items);
    const long long first = (long long)row * p.source_capacity;
    if (item < groups) {
      close_group<DTYPE>(cache, {p.k, p.v, first, 0, 0}, row, item, p.anchor, p.anchor_bias);
    } else {
      const int exact = item - groups, token = exact < cache.sinks ? exact : exact + in_groups;
      store_exact<DTYPE>(cache, row, token, p.k, p.v, first + token);
    }
  }
}

extern "C" __global__ __launch_bounds__(64) void compress_fp32(const CompressParams p) { compress<FP32>(p); }
extern "C" __global__ __launch_bounds__(64) void compress_fp16(const CompressParams p) { compress<FP16>(p); }
extern "C" __global__ __launch_bounds__(64) void compress_bf16(const CompressParams p) { compress<BF16>(p); }
