// append: token number n = *cache.tokens, entry (n + shift) % pool_size of the pool, goes to its exact slot; without a
// window it may complete a group, which becomes a middle slot. decode appends by the same function.
// Traffic per row: 2 vectors read and written; without a window, once in `compress` tokens, a group and a middle slot.
// Launch: threads take parts of the rows; few bytes are left to one thread, since waking the others costs more.
#pragma once
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr long long WORTH_WAKING_THREADS = 128 << 10;  // bytes

static void append(const AppendParams& p) {
  const Cache& cache = p.cache;
  const int token = *cache.tokens, bytes = row_bytes(cache.dtype, cache.dim);
  const int group = closed_groups(cache, token);
  const bool closes = cache.window == 0 && closed_groups(cache, token + 1) > group;
  const long long entry = ((long long)token + p.fresh.shift) % p.fresh.pool_size * cache.rows;
  const long long moved = 2LL * bytes * cache.rows * (closes ? cache.compress + 1 : 1);
#pragma omp parallel num_threads(thread_count) if (moved >= WORTH_WAKING_THREADS)
  {
    GroupScratch scratch(closes ? cache.dim : 0);
    const Share rows = my_share(cache.rows);
    for (int row = int(rows.begin); row < rows.end; ++row) {
      const long long from = (entry + row) * bytes;
      store_exact(cache, row, exact_slot(cache, token), static_cast<const char*>(p.fresh.k) + from,
                  static_cast<const char*>(p.fresh.v) + from);
      if (closes) close_held_group(cache, row, group, p.anchor, p.anchor_bias, scratch);
    }
  }
}

}  // namespace elastickv
