// fill: out[i] = (sum of the four bytes of a Philox4x32-10 word - 510) / 147.8f, rounded to dtype.
// Layout: element i is word i % 4 of counter (i / 4 low, i / 4 high, stream, 0) under key (seed, 0).
// Traffic: count * size(dtype) written. Launch: threads take contiguous parts; 16 counters at a time, a lane each.
#include "vectors.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr int COUNTERS = 16;  // side by side in vector registers

// Philox4x32-10 (Salmon et al., SC 2011) of counters first .. first + 15; words[4 * lane + j] is word j of a counter.
static void philox(uint64_t first, uint32_t stream, uint32_t seed, uint32_t* words) {
  uint32_t c0[COUNTERS], c1[COUNTERS], c2[COUNTERS], c3[COUNTERS];
  for (int lane = 0; lane < COUNTERS; ++lane) {
    c0[lane] = uint32_t(first + lane), c1[lane] = uint32_t((first + lane) >> 32);
    c2[lane] = stream, c3[lane] = 0;
  }
  uint32_t key0 = seed, key1 = 0;
  for (int round = 0; round < 10; ++round) {
    for (int lane = 0; lane < COUNTERS; ++lane) {
      const uint64_t product0 = uint64_t(c0[lane]) * 0xD2511F53u, product1 = uint64_t(c2[lane]) * 0xCD9E8D57u;
      c0[lane] = uint32_t(product1 >> 32) ^ c1[lane] ^ key0;
      c1[lane] = uint32_t(product1);
      c2[lane] = uint32_t(product0 >> 32) ^ c3[lane] ^ key1;
      c3[lane] = uint32_t(product0);
    }
    key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
  }
  for (int lane = 0; lane < COUNTERS; ++lane) {
    words[4 * lane] = c0[lane], words[4 * lane + 1] = c1[lane];
    words[4 * lane + 2] = c2[lane], words[4 * lane + 3] = c3[lane];
  }
}

static void fill(const FillParams& p) {
  constexpr int BATCH = 4 * COUNTERS;
  const int bytes = row_bytes(p.dtype, 1);
#pragma omp parallel num_threads(thread_count)
  {
    const Share share = my_share(p.count, BATCH);
    uint32_t words[BATCH];
    float values[BATCH];
    for (long long first = share.begin; first < share.end; first += BATCH) {
      philox(uint64_t(first) / 4, p.stream, p.seed, words);
      for (int i = 0; i < BATCH; ++i) {
        const uint32_t w = words[i];
        const int total = int(w & 255) + int(w >> 8 & 255) + int(w >> 16 & 255) + int(w >> 24);
        values[i] = float(total - 510) / 147.8f;
      }
      const long long count = std::min<long long>(BATCH, share.end - first);
      from_floats(values, p.dtype, count, static_cast<char*>(p.out) + first * bytes);
    }
  }
}

}  // namespace elastickv
