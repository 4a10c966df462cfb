// append: writes one token's key and value to a cache and closes a group when that makes one complete (AppendParams).
// Traffic: 2 vectors read and written a row; every `compress` tokens also one group.
// Launch: grid rows, 32 threads. *cache.tokens is read, not changed: `advance` follows the last layer.
#pragma once
#include "dependent.cuh"
#include "group.cuh"

extern "C" __global__ __launch_bounds__(32) void append(const AppendParams p) {
  let_next_begin();
  await_previous();
  const int lane = threadIdx.x, row = blockIdx.x, token = load_fresh(p.cache.tokens);
  const long long entry = (long long)(token + p.shift) % p.pool_size;
  copy_token(p.cache, p.pool_k, p.pool_v, entry * p.cache.rows + row, row, token, lane);
  const int group = closed_groups(p.cache, token);
  if (p.cache.middle_capacity == 0 || closed_groups(p.cache, token + 1) == group) return;
  __syncwarp();  // without a window the token just written belongs to the group
  const Source source = {p.cache.exact_k, p.cache.exact_v, (long long)row * (p.cache.sinks + p.cache.ring), p.cache.sinks,
                         p.cache.ring};
  close_group(p.cache, source, row, group, p.anchor, p.anchor_bias, lane);
}
