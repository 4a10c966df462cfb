// Where the tokens of a cache lie: the formulas at the top of params.h.
#pragma once
#include "../params.h"

__device__ inline int closed_groups(const Cache& cache, int tokens) {
  const int past = tokens - cache.sinks - cache.window;
  return past > 0 ? past / cache.compress : 0;
}

// Exact slot of a token. A full cache (ring 0) holds every token at its own index.
__device__ inline int place(int token, int sinks, int ring) {
  return token < sinks || ring == 0 ? token : sinks + (token - sinks) % ring;
}

// The slots of one segment in an order that keeps neighbours together: entries [0, head) are slots [0, head), the rest
// is the live part of the ring, which starts `first` slots after the sinks and wraps at most once.
struct Slots {
  int count;
  int head;
  int sinks;
  int first;
  int ring;

  __device__ int operator[](int entry) const {
    if (entry < head) return entry;
    const int step = first + entry - head;
    return sinks + (step >= ring ? step - ring : step);
  }
};

__device__ inline Slots middle_slots(const Cache& cache, int tokens) {
  const int groups = closed_groups(cache, tokens);
  return {groups, groups, 0, 0, 0};
}

__device__ inline Slots exact_slots(const Cache& cache, int tokens) {
  const int in_groups = closed_groups(cache, tokens) * cache.compress;
  if (cache.ring == 0) return {tokens, tokens, 0, 0, 0};
  const int head = tokens < cache.sinks ? tokens : cache.sinks;
  return {tokens - in_groups, head, cache.sinks, in_groups % cache.ring, cache.ring};
}
