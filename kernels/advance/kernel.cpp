// advance: *tokens += delta, once per token, after the last layer.
#include "../params.h"

namespace elastickv {

static void advance(const AdvanceParams& p) { *p.tokens += p.delta; }

}  // namespace elastickv
