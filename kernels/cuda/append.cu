// append: token number *cache.tokens enters a cache; when it makes a group complete, the group becomes a middle slot.
// Traffic: one key and value per row read and written; when a group closes, as compress for that group.
// Launch: grid (rows), 64 threads: warp 0 does keys, warp 1 values.
#include "group.cuh"

template <int DTYPE>
__device__ void append(const AppendParams& p) {
  const Cache& cache = p.cache;
  const int row = blockIdx.x, token = *cache.tokens;
  const long long entry = (long long)(((long long)token + p.shift) % p.pool_size) * cache.rows + row;
  store_exact<DTYPE>(cache, row, token, p.pool_k, p.pool_v, entry);
  const int group = closed_groups(cache, token);
  if (closed_groups(cache, token + 1) == group) return;
  __syncthreads();  // with no window the group holds the token just written
  const long long first = (long long)row * (cache.sinks + cache.ring);
  close_group<DTYPE>(cache, {cache.exact_k, cache.exact_v, first, cache.sinks, cache.ring}, row, group, p.anchor, p.anchor_bias);
}

extern "C" __global__ __launch_bounds__(64) void append_fp32(const AppendParams p) { append<FP32>(p); }
extern "C" __global__ __launch_bounds__(64) void append_fp16(const AppendParams p) { append<FP16>(p); }
extern "C" __global__ __launch_bounds__(64) void append_bf16(const AppendParams p) { append<BF16>(p); }
