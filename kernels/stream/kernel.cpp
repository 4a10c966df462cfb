// stream: a pure pass that reads `read_bytes` and writes `write_bytes`; each thread processes its part of both at the same pace.
// The sum of all 32-bit words read is written to the 4 bytes of `sink`, so that no read can be optimised away.
// Traffic: read_bytes + write_bytes. Launch: threads take contiguous parts of 4 KiB pieces.
#include <algorithm>

#include "simd.hpp"
#include "stores.hpp"
#include "threads.hpp"

namespace elastickv {

typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
constexpr long long PIECE = 4096;
constexpr int CHAINS = 4;

// Adds the 32-bit words of [from, to), a multiple of 4 bytes, to running sums; the remainder is added to the first one.
static inline void add_words(Words (&sums)[CHAINS], const char* from, const char* to) {
  for (; to - from >= CHAINS * (long long)sizeof(Words); from += CHAINS * sizeof(Words))
    for (int i = 0; i < CHAINS; ++i) sums[i] += load<Words>(from + i * sizeof(Words));
  for (; from < to; from += 4) sums[0][0] += load<uint32_t>(from);
}

static uint32_t total_of(const Words (&sums)[CHAINS]) {
  uint32_t total = 0;
  for (int i = 0; i < CHAINS; ++i)
    for (int lane = 0; lane < LANES; ++lane) total += sums[i][lane];
  return total;
}

template <bool PAST_CACHES>
static void write_words(char* from, char* to, uint32_t word) {
  const Words words = Words{} + word;
  for (; to - from >= (long long)sizeof(Words); from += sizeof(Words)) write<Words, PAST_CACHES>(from, words);
  for (; from < to; from += 4) store(from, word);
}

template <bool PAST_CACHES>
static void stream(const StreamParams& p) {
  uint32_t total = 0;
#pragma omp parallel num_threads(thread_count) reduction(+ : total)
  {
    const Share in = my_share(p.read_bytes, PIECE), out = my_share(p.write_bytes, PIECE);
    const char* read = static_cast<const char*>(p.read);
    char* written = static_cast<char*>(p.write);
    const long long pieces = (std::max(in.end - in.begin, out.end - out.begin) + PIECE - 1) / PIECE;
    const auto at = [&](const Share& share, long long piece) {  // the same pace: a long pass and a short one end together
      const long long bytes = share.end - share.begin;
      return share.begin + (piece == pieces ? bytes : bytes / pieces * piece / 64 * 64);
    };
    Words sums[CHAINS] = {};
    for (long long piece = 0; piece < pieces; ++piece) {
      add_words(sums, read + at(in, piece), read + at(in, piece + 1));
      write_words<PAST_CACHES>(written + at(out, piece), written + at(out, piece + 1), uint32_t(piece));
    }
    if (PAST_CACHES) order_writes();
    total += total_of(sums);
  }
  *p.sink = total;
}

static void stream(const StreamParams& p) {
  goes_past_caches(p.write_bytes, p.write, sizeof(Words)) ? stream<true>(p) : stream<false>(p);
}

}  // namespace elastickv
