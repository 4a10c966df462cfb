// elementwise: one pass of the original kernel's work, fp32, [heads, seq, dim]; g = 4 consecutive dims:
//   anchors (t % compress == 0): out_g = exp(dot(q_g, k_g) * scale) * v_g;  others: out_g = 0.95 * previous_g of the anchor
// Traffic in vectors of dim floats per head: A anchors read 3 and write 1; the other tokens write 1; each group that has
// a copy reads its anchor's previous output once. Launch: threads take parts of heads x groups.
// Reads of one row in `compress` reach half of a CPU's read ceiling (measured; prefetching by hand changes nothing).
#include <algorithm>

#include "simd.hpp"
#include "stores.hpp"
#include "threads.hpp"

namespace elastickv {

typedef float Quad __attribute__((vector_size(16)));
typedef int32_t QuadInts __attribute__((vector_size(16)));

template <typename V, typename I>
ELASTICKV_INLINE I lane_numbers(int flip) {
  I lanes = {};
  for (int i = 0; i < int(sizeof(V) / 4); ++i) lanes[i] = i ^ flip;
  return lanes;
}

// Every lane: the sum over the 4 lanes of its group.
template <typename V, typename I>
ELASTICKV_INLINE V sum_of_four(V x) {
  x += __builtin_shuffle(x, lane_numbers<V, I>(1));
  return x + __builtin_shuffle(x, lane_numbers<V, I>(2));
}

constexpr int LINE = 64 / sizeof(float);

// PARTS vectors of the group at once: a whole line where dim allows it, so that a store past the caches fills its line.
template <typename V, typename I, bool PAST_CACHES, int PARTS>
static void group(const ElementwiseParams& p, long long anchor, int tokens) {
  constexpr int WIDTH = sizeof(V) / 4;
  for (int d = 0; d < p.dim; d += PARTS * WIDTH) {
    const long long at = anchor * p.dim + d;
    for (int i = 0; i < PARTS * WIDTH; i += WIDTH) {
      const V dot = sum_of_four<V, I>(load<V>(p.q + at + i) * load<V>(p.k + at + i));
      write<V, PAST_CACHES>(p.out + at + i, exp_lanes<V, I>(dot * p.scale) * load<V>(p.v + at + i));
    }
    if (tokens == 1) continue;
    V copy[PARTS];
    for (int i = 0; i < PARTS; ++i) copy[i] = load<V>(p.previous + at + i * WIDTH) * 0.95f;
    for (int t = 1; t < tokens; ++t)
      for (int i = 0; i < PARTS; ++i) write<V, PAST_CACHES>(p.out + at + (long long)t * p.dim + i * WIDTH, copy[i]);
  }
}

template <typename V, typename I, bool PAST_CACHES, int PARTS>
static void elementwise(const ElementwiseParams& p) {
  const long long groups = (p.seq + p.compress - 1) / p.compress;
#pragma omp parallel num_threads(thread_count)
  {
    const Share share = my_share(groups * p.heads);
    for (long long turn = share.begin; turn < share.end; ++turn) {
      const long long index = p.reverse ? share.begin + share.end - 1 - turn : turn;
      const long long head = index / groups, first = index % groups * p.compress;
      const int tokens = std::min<long long>(p.compress, p.seq - first);
      group<V, I, PAST_CACHES, PARTS>(p, head * p.seq + first, tokens);
    }
    if (PAST_CACHES) order_writes();
  }
}

template <typename V, typename I, int PARTS>
static void elementwise(const ElementwiseParams& p) {
  const long long bytes = 4LL * p.heads * p.seq * p.dim;
  goes_past_caches(bytes, p.out, sizeof(V)) ? elementwise<V, I, true, PARTS>(p) : elementwise<V, I, false, PARTS>(p);
}

static void elementwise(const ElementwiseParams& p) {
  if (p.dim % LINE == 0)
    elementwise<Floats, Ints, LINE / LANES>(p);
  else if (p.dim % LANES == 0)
    elementwise<Floats, Ints, 1>(p);
  else
    elementwise<Quad, QuadInts, 1>(p);
}

}  // namespace elastickv
