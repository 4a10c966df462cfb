// advance: runs once per token, after the last layer: increments *tokens and updates live slots and closing groups.
#include "../params.h"

namespace elastickv {

static void advance(const AdvanceParams& p) {
  const long long step = ++*p.tokens - p.first_tokens, heads = p.kv_heads;
  for (int row = 0; row < p.rows; ++row) {
    for (int state = 0; state < 2; ++state)
      for (int i = 0; i < MOST_SEGMENTS; ++i)
        p.live[((long long)state * p.rows + row) * MOST_SEGMENTS + i] =
            p.live_of[((step + state) * heads + row % heads) * MOST_SEGMENTS + i];
    p.closing[row] = p.closing_of[step * heads + row % heads];
  }
}

}  // namespace elastickv
