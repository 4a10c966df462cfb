// advance: *tokens += delta, once per token, after the last layer.
#include "../params.h"

extern "C" void elastickv_advance(const AdvanceParams* p) { *p->tokens += p->delta; }
