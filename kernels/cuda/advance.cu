// advance: *tokens += delta, once per token after the last layer. Launch: one thread.
#include "../params.h"

extern "C" __global__ void advance(const AdvanceParams p) { *p.tokens += p.delta; }
