// compress: builds an elastic cache of `source_tokens` tokens from a full one: exact tokens copied, every closed group
// of `compress` tokens turned into its middle slot (params.h has the layout and the places).
// Traffic: the source read once, the elastic cache written once. Launch: threads take parts of rows x groups.
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

static void compress(const CompressParams& p) {
  const Cache& cache = p.cache;
  const int bytes = row_bytes(cache.dtype, cache.dim), groups = closed_groups(cache, p.source_tokens);
  const int first_live = std::min(cache.sinks + groups * cache.compress, p.source_tokens);
  const auto source = [&](const void* vectors, int row, int token) {
    return static_cast<const char*>(vectors) + ((long long)row * p.source_capacity + token) * bytes;
  };
  const auto copy_token = [&](int row, int token) {
    store_exact(cache, row, exact_slot(cache, token), source(p.k, row, token), source(p.v, row, token));
  };
#pragma omp parallel num_threads(thread_count)
  {
    const Share rows = my_share(cache.rows);
    for (int row = int(rows.begin); row < rows.end; ++row) {
      for (int token = 0; token < std::min(cache.sinks, p.source_tokens); ++token) copy_token(row, token);
      for (int token = std::max(first_live, cache.sinks); token < p.source_tokens; ++token) copy_token(row, token);
    }
    GroupScratch scratch(cache.dim);
    const Share share = my_share((long long)cache.rows * groups);
    for (long long index = share.begin; index < share.end; ++index) {
      const int row = int(index / groups), group = int(index % groups);
      const int first = cache.sinks + group * cache.compress;
      close_group(
          cache, row, group, p.anchor, p.anchor_bias, [&](int i) { return source(p.k, row, first + i); },
          [&](int i) { return source(p.v, row, first + i); }, scratch);
    }
  }
}

}  // namespace elastickv
