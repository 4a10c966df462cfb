// append: writes one token's key and value to a cache (AppendParams); without a window it closes the group that the token
// makes complete.
// Traffic: 2 vectors read and written a row; without a window every `compress` tokens also one group.
// Launch: grid rows, 32 threads.
#pragma once
#include "dependent.cuh"
#include "group.cuh"

extern "C" __global__ __launch_bounds__(32) void append(const AppendParams p) {
  await_previous();
  let_next_begin();
  const int lane = threadIdx.x, row = blockIdx.x, token = load_fresh(p.cache.tokens);
  copy_token(p.cache, p.fresh.k, p.fresh.v, fresh_vector(p.fresh, p.cache.rows, row, token), row, token, lane);
  if (p.cache.window > 0 || p.cache.middle_capacity == 0) return;
  const int group = closed_groups(p.cache, token);
  if (closed_groups(p.cache, token + 1) == group) return;
  __syncwarp();  // the token just written belongs to the group
  close_group(p.cache, exact_source(p.cache, row), row, group, p.anchor, p.anchor_bias, lane);
}
