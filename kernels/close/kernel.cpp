// close: makes the middle slots of the groups that the next token completes, in all layers (CloseParams).
// Traffic: once in `compress` tokens a group of each row and layer read and a middle slot written; else nothing.
// Launch: threads take parts of layers x rows.
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

static void close(const CloseParams& p) {
  const Cache& first = p.caches[0];
  const int tokens = *first.tokens, group = closed_groups(first, tokens);
  if (closed_groups(first, tokens + 1) == group) return;
#pragma omp parallel num_threads(thread_count)
  {
    GroupScratch scratch(first.dim);
    const Share share = my_share((long long)p.layers * p.rows);
    for (long long index = share.begin; index < share.end; ++index)
      close_held_group(p.caches[index / p.rows], int(index % p.rows), group, p.anchor, p.anchor_bias, scratch);
  }
}

}  // namespace elastickv
