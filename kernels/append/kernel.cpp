// append: token number n = *cache.tokens, entry (n + shift) % pool_size of the pool, goes to its exact slot; where asked
// for, it may complete a group, which becomes a slot. decode appends by the same function.
// Traffic per row: 2 vectors read and written; where a group closes, its tokens and its slot too.
// Launch: threads take parts of the rows; few bytes are left to one thread, since waking the others costs more.
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
