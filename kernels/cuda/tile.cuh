// The query heads that a block processes.
#pragma once
#include "dependent.cuh"

// Up to TILE heads of a row from first_head on, some of them perhaps past the group.
struct Tile {
  int row;
  int first_head;
};

// Heads past the group repeat the last one.
__device__ inline long long query_of(const DecodeParams& p, const Tile& tile, int head) {
  return (long long)tile.row * p.group + min(tile.first_head + head, p.group - 1);
}

// By one warp: the tile's queries on their way to L2, before they may be read.
template <int DTYPE>
__device__ inline void prefetch_queries(const DecodeParams& p, const Tile& tile, int heads, int lane) {
  const int row = row_bytes(DTYPE, p.cache.dim), bytes = row * min(heads, p.group - tile.first_head);
  if (lane * 128 < bytes) prefetch(static_cast<const char*>(p.q) + query_of(p, tile, 0) * row + lane * 128);
}
