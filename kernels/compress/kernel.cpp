// compress: builds an elastic cache from a full one according to the runs of each KV head (params.h): tokens of segment 0
// are copied, every other slot is made from its group.
// Traffic: the source read once, the elastic cache written once. Launch: run by run, threads take parts of rows x slots.
#include "cache.hpp"
#include "threads.hpp"

namespace elastickv {

// Slots [begin, end) of a row's run.
static void build_run(const CompressParams& p, const Run& run, int row, int begin, int end, GroupScratch& scratch) {
  const Cache& cache = p.cache;
  const int bytes = row_bytes(cache.dtype, cache.dim);
  const char* k = static_cast<const char*>(p.k) + (long long)row * p.source_capacity * bytes;
  const char* v = static_cast<const char*>(p.v) + (long long)row * p.source_capacity * bytes;
  for (int i = begin; i < end; ++i) {
    const int slot = run.ring > 0 ? run.head + (run.slot + i) % run.ring : run.slot + i;
    const long long token = run.token + (long long)i * run.each;
    if (run.segment == 0) {
      store_exact(cache, row, slot, k + token * bytes, v + token * bytes);
    } else {
      const Group group{k, v, run.each, 0, int(token), 0, cache.dim, cache.dtype};
      make_slot(cache, row, run.segment, slot, group, int(token), run.bias, scratch);
    }
  }
}

static void compress(const CompressParams& p) {
  const Cache& cache = p.cache;
#pragma omp parallel num_threads(thread_count)
  {
    GroupScratch scratch(cache.dim);
    for (int number = 0; number < MOST_RUNS; ++number) {
      long long most = 0;
      for (int head = 0; head < cache.kv_heads; ++head)
        most = std::max<long long>(most, p.runs[head * MOST_RUNS + number].slots);
      if (most == 0) continue;
      const Share share = my_share(cache.rows * most);
      for (long long row = share.begin / most; row * most < share.end; ++row) {
        const Run& run = p.runs[row % cache.kv_heads * MOST_RUNS + number];
        const long long begin = std::max(share.begin - row * most, 0LL), end = share.end - row * most;
        build_run(p, run, int(row), int(begin), int(std::min<long long>(end, run.slots)), scratch);
      }
    }
  }
}

}  // namespace elastickv
