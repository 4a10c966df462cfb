// advance: runs once per token, after the last layer: increments *tokens and applies the host's tables for the new number
// of tokens (AdvanceParams).
// Launch: one block, up to ADVANCE_THREADS threads. Each row has ADVANCE_PIECES pieces of 16 bytes.
//
// Only `advance` changes *tokens, and between two of its launches there is a launch that waits (DecodeParams.waits, close
// or append): the new values of the first pieces can be loaded before the launches in between have ended.
#pragma once
#include "cache.cuh"

constexpr int ADVANCE_THREADS = 1024;
constexpr int ADVANCE_AT_ONCE = 4;
constexpr int LIVE_PIECES = MOST_SEGMENTS, CLOSING_PIECES = sizeof(Closing) / 16;
constexpr int ADVANCE_PIECES = 2 * LIVE_PIECES + CLOSING_PIECES;
static_assert(sizeof(Live) == 16 && sizeof(Closing) % 16 == 0, "pieces of 16 bytes");

// Pieces of all rows: live slots for the current number of tokens, live slots for one more, closings.
struct Pieces {
  const AdvanceParams& p;
  int tokens;

  __device__ int count() const { return p.rows * ADVANCE_PIECES; }

  __device__ uint4 load(int piece) const {
    const int of_live = p.rows * LIVE_PIECES, state = piece < of_live ? 0 : piece < 2 * of_live ? 1 : 2;
    const int width = p.kv_heads * (state < 2 ? LIVE_PIECES : CLOSING_PIECES), at = (piece - state * of_live) % width;
    const void* table = state < 2 ? static_cast<const void*>(p.live_of) : p.closing_of;
    return __ldg(static_cast<const uint4*>(table) + (long long)(tokens - p.first_tokens + state % 2) * width + at);
  }

  __device__ void store(int piece, const uint4& words) const {
    const int behind = piece - 2 * p.rows * LIVE_PIECES;
    if (behind < 0) reinterpret_cast<uint4*>(p.live)[piece] = words;
    else reinterpret_cast<uint4*>(p.closing)[behind] = words;
  }
};

extern "C" __global__ __launch_bounds__(ADVANCE_THREADS) void advance(const AdvanceParams p) {
  const Pieces pieces = {p, load_fresh(p.tokens) + 1};
  const int count = pieces.count(), threads = blockDim.x;
  uint4 words[ADVANCE_AT_ONCE];
  const auto load = [&](int first) {
#pragma unroll
    for (int i = 0; i < ADVANCE_AT_ONCE; i++)
      if (first + i * threads < count) words[i] = pieces.load(first + i * threads);
  };
  load(threadIdx.x);
  __syncthreads();  // all threads must have read the number before it changes
  await_previous();
  let_next_begin();
#pragma unroll 1
  for (int first = threadIdx.x; first < count; first += ADVANCE_AT_ONCE * threads) {
    if (first != threadIdx.x) load(first);
#pragma unroll
    for (int i = 0; i < ADVANCE_AT_ONCE; i++)
      if (first + i * threads < count) pieces.store(first + i * threads, words[i]);
  }
  if (threadIdx.x == 0) *p.tokens = pieces.tokens;
}
