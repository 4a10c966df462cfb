// close: makes the slots of the groups that the next token completes, in all layers (CloseParams).
// Traffic: for each complete group, in each row and layer, the group is read and one slot written; otherwise nothing.
// Launch: grid (rows, layers), 32 threads.
#pragma once
#include "dependent.cuh"
#include "group.cuh"

extern "C" __global__ __launch_bounds__(32) void close(const CloseParams p) {
  const Cache& cache = p.caches[blockIdx.y];
  const Closing* closing = cache.closing + blockIdx.x;  // the blocks themselves are written by no kernel
  await_previous();
  let_next_begin();
  close_group(cache, load_closing(closing), blockIdx.x, threadIdx.x);
}
