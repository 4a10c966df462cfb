// append: token number n = *cache.tokens, entry (n + shift) % pool_size of the pool, goes to its exact slot; when it
// makes a group complete, that group becomes a middle slot. *cache.tokens stays (see advance).
// Traffic per row: 2 vectors read and written; once in `compress` tokens, a group read and a middle slot written.
// Launch: threads take parts of the rows; few bytes are left to one thread, since waking the others costs more.
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr long long WORTH_WAKING_THREADS = 128 << 10;  // bytes

static void append(const AppendParams& p) {
  const Cache& cache = p.cache;
  const int token = *cache.tokens, bytes = vector_bytes(cache.dtype, cache.dim);
  const int group = closed_groups(cache, token);
  const bool closes = closed_groups(cache, token + 1) > group;
  const long long entry = (long long)(((long long)token + p.shift) % p.pool_size) * cache.rows;
  const long long moved = 2LL * bytes * cache.rows * (closes ? cache.compress + 1 : 1);
#pragma omp parallel num_threads(thread_count) if (moved >= WORTH_WAKING_THREADS)
  {
    GroupScratch scratch(closes ? cache.dim : 0);
    const Share rows = my_share(cache.rows);
    for (int row = int(rows.begin); row < rows.end; ++row) {
      const long long from = (entry + row) * bytes;
      store_exact(cache, row, exact_slot(cache, token), static_cast<const char*>(p.pool_k) + from,
                  static_cast<const char*>(p.pool_v) + from);
      if (!closes) continue;
      const int first = cache.sinks + group * cache.compress;
      const auto stored = [&](const void* vectors, int i) {
        const long long slot = (long long)row * exact_capacity(cache) + exact_slot(cache, first + i);
        return static_cast<const char*>(vectors) + slot * bytes;
      };
      close_group(
          cache, row, group, p.anchor, p.anchor_bias, [&](int i) { return stored(cache.exact_k, i); },
          [&](int i) { return stored(cache.exact_v, i); }, scratch);
    }
  }
}

}  // namespace elastickv
