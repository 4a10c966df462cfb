// Tiles of query heads and joining of partial answers, shared by both implementations of decode.
#pragma once
#include "attention.hpp"

namespace elastickv {

constexpr int STATE_HEADER = 16;  // floats before a partial's sums: max, sum, padding to a cache line

inline int tile_of(int group) { return group >= 3 ? 4 : group; }
inline int padded_group(int group) { return (group + tile_of(group) - 1) / tile_of(group) * tile_of(group); }

// Joins `other` to `state`: both as if one pass had seen both sets of slots.
inline void join(State& state, const State& other, int dim) {
  const float largest = std::max(state.max, other.max), base = largest == -INFINITY ? 0 : largest;
  const float mine = std::exp(state.max - base), theirs = std::exp(other.max - base);
  for (int d = 0; d < dim; ++d) state.out[d] = state.out[d] * mine + other.out[d] * theirs;
  state.sum = state.sum * mine + other.sum * theirs;
  state.max = largest;
}

}  // namespace elastickv
