// The slots of a cache's tokens: the tables written by the host (params.h), and how kernels read them.
#pragma once
#include "dependent.cuh"

// a / b of whole numbers, a >= 0 and b > 0: a few instructions where a is small enough for fp32, as it is in practice.
__device__ inline int quotient(int a, int b) {
  if (a >= 1 << 22) return a / b;
  const int guess = int(__fdividef(float(a), float(b))), rest = a - guess * b;
  return rest < 0 ? guess - 1 : rest >= b ? guess + 1 : guess;
}

// The index of the pool's vector for token number `token` of a row.
__device__ inline long long fresh_vector(const Fresh& fresh, int rows, int row, int token) {
  return (long long)((unsigned(token) + unsigned(fresh.shift)) % unsigned(fresh.pool_size)) * rows + row;
}

// The live slots of a segment of a row; state: 0 with *cache.tokens tokens, 1 with one more. `advance` writes them.
__device__ inline Live load_live(const Cache& cache, int state, int row, int segment) {
  uint4 words;
  load_fresh(cache.live + ((state * cache.rows + row) * MOST_SEGMENTS + segment), words);
  return {int(words.x), int(words.y), int(words.z), int(words.w)};
}

// Prevents the compiler from moving uses of these live slots before this point.
__device__ inline void hide(Live& live) {
  asm volatile("" : "+r"(live.head), "+r"(live.first), "+r"(live.ring), "+r"(live.length));
}

// Prefetches a row's live slots to L2: this launch's reads may have evicted them, and the next launch needs them first.
__device__ inline void ask_for_live(const Cache& cache, int state, int row) {
  prefetch(cache.live + (state * cache.rows + row) * MOST_SEGMENTS);
}

// The group that the next token completes, of a row. `advance` writes it.
__device__ inline Closing load_closing(const Closing* closing) {
  uint4 low, high;
  load_fresh(closing, low);
  load_fresh(&closing->head, high);
  return {int(low.x), int(low.y), int(low.z), int(low.w), int(high.x), int(high.y), int(high.z), __uint_as_float(high.w)};
}

// The slot of segment 0 that stores the next token.
__device__ inline int next_slot(const Live& live) {
  const int step = live.first + live.length;
  return live.head + (live.ring == 0 ? 0 : step < live.ring ? step : step - live.ring);
}

// The slot of the last token of segment 0.
__device__ inline int newest_slot(const Live& live) {
  const int step = live.first + live.length - 1;
  return live.head + (live.length == 0 ? -1 : step < live.ring ? step : step - live.ring);
}

// The live slots in the order of memory: slots [0, low) and the `count` slots from slot `first` on.
struct Held {
  int low;
  int first;  // not below `low`
  int count;

  // Hides a slot from the optimiser, which would otherwise keep registers for the liveness of every slot in a loop.
  __device__ bool operator()(int slot) const {
    asm("" : "+r"(slot));
    return slot < low || unsigned(slot - first) < unsigned(count);
  }
  // Whether slots [base, base + size) hold a token each.
  __device__ bool all(int base, int size) const { return base + size <= low; }
  // Whether any slot from `base` on may.
  __device__ bool any(int base) const {
    asm("" : "+r"(base));
    return base - first < count;
  }
};

// without: how many of the newest tokens are not to be read, 0 or 1.
__device__ inline Held held_slots(const Live& live, int without) {
  const int of_ring = min(live.length, without), length = live.length - of_ring;
  const int wrapped = max(live.first + length - live.ring, 0);
  return {live.head - (without - of_ring) + wrapped, live.head + live.first, length - wrapped};
}
