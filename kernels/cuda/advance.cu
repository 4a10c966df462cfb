// advance: the cache's token counter moves on, once per token after its last layer. Launch: 1 thread.
#pragma once
#include "../params.h"

extern "C" __global__ void advance(const AdvanceParams p) { *p.tokens += p.delta; }
