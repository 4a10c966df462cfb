// append: stores token number n = *cache.tokens, entry (n + shift) % pool_size of the pool, in its exact slot. If requested,
// also closes the group that the token completes. decode appends with the same function.
// Traffic per row: 2 vectors read and written; if a group closes, also its tokens and its slot.
// Launch: threads take parts of the rows; one thread handles few bytes alone, since waking others costs more.
#pragma once
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr long long WORTH_WAKING_THREADS = 128 << 10;  // bytes

static void append(const Cache& cache, const Fresh& fresh, bool closes) {
  const int bytes = row_bytes(cache.dtype, cache.dim), closing = closes ? largest_closing(cache) : 0;
  const long long entry = ((long long)*cache.tokens + fresh.shift) % fresh.pool_size * cache.rows;
  const long long moved = 2LL * bytes * cache.rows * (closing + 1);
#pragma omp parallel num_threads(thread_count) if (moved >= WORTH_WAKING_THREADS)
  {
    GroupScratch scratch(closing ? cache.dim : 0);
    const Share rows = my_share(cache.rows);
    for (int row = int(rows.begin); row < rows.end; ++row) {
      const long long from = (entry + row) * bytes;
      store_exact(cache, row, next_slot(cache, row), static_cast<const char*>(fresh.k) + from,
                  static_cast<const char*>(fresh.v) + from);
      if (closing) close_group(cache, row, scratch);
    }
  }
}

static void append(const AppendParams& p) { append(p.cache, p.fresh, p.closes); }

}  // namespace elastickv
