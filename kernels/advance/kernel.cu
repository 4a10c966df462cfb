// advance: the cache's token counter moves on, once per token after its last layer. Launch: 1 thread.
#pragma once
#include "dependent.cuh"

extern "C" __global__ void advance(const AdvanceParams p) {
  await_previous();
  let_next_begin();
  *p.tokens = load_fresh(p.tokens) + p.delta;
}
