// Where the tokens of a cache lie: the formulas at the top of params.h.
#pragma once
#include "../params.h"

// a / b of whole numbers, a >= 0 and b > 0: a few instructions where a is small enough for fp32, as it is in practice.
__device__ inline int quotient(int a, int b) {
  if (a >= 1 << 22) return a / b;
  const int guess = int(__fdividef(float(a), float(b))), rest = a - guess * b;
  return rest < 0 ? guess - 1 : rest >= b ? guess + 1 : guess;
}

__device__ inline int closed_groups(const Cache& cache, int tokens) {
  const int past = tokens - cache.sinks - cache.window;
  return past > 0 ? quotient(past, cache.compress) : 0;
}

// Exact slot of a token. A full cache (ring 0) holds every token at its own index.
__device__ inline int place(int token, int sinks, int ring) {
  return token < sinks || ring == 0 ? token : sinks + (token - sinks) % ring;
}

// The vector of a pool that token number `token` of a row is.
__device__ inline long long fresh_vector(const Fresh& fresh, int rows, int row, int token) {
  return (long long)((token + (long long)fresh.shift) % fresh.pool_size) * rows + row;
}

// Which slots of a segment hold a token: of the first `head` slots those below `held`; of the ring behind them the `length`
// slots from `first` on, wrapping at most once.
constexpr int EVERY_SLOT = 0x7fffffff;

struct Live {
  int head;
  int held;
  int first;
  int ring;
  int length;

  __device__ bool operator()(int slot) const {
    if (slot < head) return slot < held;
    const int step = slot - head - first;
    return slot - head < ring && (step < 0 ? step + ring : step) < length;
  }
};

__device__ inline Live live_middle(const Cache& cache, int tokens) {
  return {EVERY_SLOT, closed_groups(cache, tokens), 0, 0, 0};
}

// fresh: how many of the newest tokens are not to be read.
__device__ inline Live live_exact(const Cache& cache, int tokens, int fresh) {
  if (cache.ring == 0) return {EVERY_SLOT, tokens - fresh, 0, 0, 0};
  const int in_groups = closed_groups(cache, tokens) * cache.compress, behind = tokens - fresh - cache.sinks - in_groups;
  const int first = in_groups - quotient(in_groups, cache.ring) * cache.ring;
  return {cache.sinks, tokens - fresh, first, cache.ring, behind > 0 ? behind : 0};
}

// Slots of each segment that `tokens` tokens can have touched: a bound for what is worth reading.
__device__ inline int touched_middle(const Cache& cache, int tokens) { return closed_groups(cache, tokens); }

__device__ inline int touched_exact(const Cache& cache, int tokens) {
  return cache.ring == 0 ? tokens : min(tokens, cache.sinks + cache.ring);
}
