// close: makes the middle slots of the groups that the next token completes, in all layers (CloseParams).
// Traffic: every `compress` tokens a group of each row and layer read, one slot written; else nothing.
// Launch: grid (rows, layers), 32 threads.
#pragma once
#include "dependent.cuh"
#include "group.cuh"

extern "C" __global__ __launch_bounds__(32) void close(const CloseParams p) {
  await_previous();
  let_next_begin();
  const Cache& cache = p.caches[blockIdx.y];
  const int row = blockIdx.x, tokens = load_fresh(cache.tokens), group = closed_groups(cache, tokens);
  if (closed_groups(cache, tokens + 1) > group)
    close_group(cache, exact_source(cache, row), row, group, p.anchor, p.anchor_bias, threadIdx.x);
}
