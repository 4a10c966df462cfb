// append: writes one token's key and value to a cache (AppendParams), after the live slots of segment 0. If requested, then
// closes the group that the token completes.
// Traffic: 2 vectors read and written per row; if a group closes, also the group.
// Launch: grid rows, 32 threads.
#pragma once
#include "dependent.cuh"
#include "group.cuh"

extern "C" __global__ __launch_bounds__(32) void append(const AppendParams p) {
  await_previous();
  let_next_begin();
  const int lane = threadIdx.x, row = blockIdx.x, token = load_fresh(p.cache.tokens);
  const Live live = load_live(p.cache, 0, row, 0);  // if groups may contain the newest token, it is not live in state 1
  copy_token(p.cache, p.fresh.k, p.fresh.v, fresh_vector(p.fresh, p.cache.rows, row, token), row, next_slot(live), lane);
  if (!p.closes) return;
  __syncwarp();  // the token just written belongs to the group
  close_group(p.cache, load_closing(p.cache.closing + row), row, lane);
}
