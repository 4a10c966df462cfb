// close: makes the slots of the groups that the next token completes, in all layers (CloseParams).
// Traffic: where a group closes, its tokens read and its slot written in each layer; else nothing.
// Launch: threads take parts of layers x rows.
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

static void close(const CloseParams& p) {
  if (largest_closing(p.caches[0]) == 0) return;
#pragma omp parallel num_threads(thread_count)
  {
    GroupScratch scratch(p.caches[0].dim);
    const Share share = my_share((long long)p.layers * p.rows);
    for (long long index = share.begin; index < share.end; ++index)
      close_group(p.caches[index / p.rows], int(index % p.rows), scratch);
  }
}

}  // namespace elastickv
