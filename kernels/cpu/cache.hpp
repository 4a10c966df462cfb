// Slots of a cache's segments (terms as in params.h), and turning a group of tokens into a slot.
#pragma once
#include <algorithm>

#include "../anchor.h"
#include "scratch.hpp"
#include "vectors.hpp"

namespace elastickv {

// The tokens that one slot represents, as exact vectors of one row: token i is in slot head + (first + i) % ring, or in slot
// first + i without a ring.
struct Group {
  const char* k;
  const char* v;
  int size, head, first, ring;
  int dim, dtype;

  // Key or value of token i as floats, in `out`.
  const float* key(int i, float* out) const { return floats(k, i, out); }
  const float* value(int i, float* out) const { return floats(v, i, out); }

 private:
  const float* floats(const char* vectors, int i, float* out) const {
    const long long slot = ring > 0 ? head + (first + i) % ring : first + i;
    to_floats(vectors + slot * row_bytes(dtype, dim), dtype, dim, out);
    return out;
  }
};

// Sum of squares in float64 (every square is exact there).
inline double squared_norm(const float* x, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += double(x[i]) * double(x[i]);
  return sum;
}

// The number with the largest score, the earliest of equals; a NaN is the largest, as for numpy.argmax.
template <typename Score>
int largest(int size, Score score) {
  int best = 0;
  double best_score = 0;
  for (int i = 0; i < size; ++i) {
    const double found = score(i);
    const bool first_nan = found != found && best_score == best_score;
    if (i == 0 || found > best_score || first_nan) best = i, best_score = found;
  }
  return best;
}

// An anchor rule, in kernels/anchors/<name>.h:
//   choose(group, scratch): the token that represents the group; scratch: space for a vector
//   AVERAGES: true if the slot is the mean of the group's keys and of its values instead
struct Chooses {
  static constexpr bool AVERAGES = false;
};
template <int ANCHOR>
struct Rule;

}  // namespace elastickv

#include "anchors_code.h"

namespace elastickv {

// Whether slots made by a rule are means.
inline bool averages(int anchor) {
#define X(NAME, NUMBER) \
  if (anchor == NAME) return Rule<NAME>::AVERAGES;
  ELASTICKV_ANCHORS(X)
#undef X
  return false;
}

// The token that represents a group.
inline int choose_member(int anchor, const Group& group, float* scratch) {
  if (group.size == 1) return 0;
#define X(NAME, NUMBER) \
  if (anchor == NAME) return Rule<NAME>::choose(group, scratch);
  ELASTICKV_ANCHORS(X)
#undef X
  return 0;
}

// float32 sum in token order, divided by the number of tokens; vector_of(i) gives token i's vector.
template <typename VectorOf>
void mean_vector(int size, int dim, VectorOf vector_of, float* out) {
  std::fill(out, out + dim, 0.0f);
  for (int i = 0; i < size; ++i) {
    const float* member = vector_of(i);
    for (int d = 0; d < dim; ++d) out[d] += member[d];
  }
  for (int d = 0; d < dim; ++d) out[d] /= float(size);
}

// Scratch of one thread for making slots.
struct GroupScratch {
  Scratch key, value, member;
  explicit GroupScratch(int dim) : key(dim), value(dim), member(dim) {}
};

// Makes slot `slot` of a row's segment from a group: chooses or averages, stores keys and values, bias and token.
// token: the number of the group's first token.
inline void make_slot(const Cache& cache, int row, int segment, int slot, const Group& group, int token, float bias,
                      GroupScratch& scratch) {
  const Segment& to = cache.segments[segment];
  const long long at = (long long)row * to.capacity + slot;
  float *key = scratch.key.data(), *value = scratch.value.data(), *member = scratch.member.data();
  const int chosen = choose_member(cache.anchor, group, member);
  if (averages(cache.anchor)) {
    mean_vector(group.size, group.dim, [&](int i) { return group.key(i, member); }, key);
    mean_vector(group.size, group.dim, [&](int i) { return group.value(i, member); }, value);
  } else {
    group.key(chosen, key);
    group.value(chosen, value);
  }
  const int head = row % cache.kv_heads;
  const float* stored = passed_through(key, to.k_format, to.k_state, head, cache.dim, member);
  store_vector(stored, to.k_format, cache.dim, at, to.k, to.k_scale);
  stored = passed_through(value, to.v_format, to.v_state, head, cache.dim, member);
  store_vector(stored, to.v_format, cache.dim, at, to.v, to.v_scale);
  if (to.bias) to.bias[at] = bias;
  to.token[at] = token + chosen;
}

// Makes the slot of a row's closing group, whose tokens are in the cache; does nothing if no group closes.
inline void close_group(const Cache& cache, int row, GroupScratch& scratch) {
  const Closing& closing = cache.closing[row];
  if (closing.count == 0) return;
  const Segment& from = cache.segments[0];
  const long long vectors = (long long)row * from.capacity * row_bytes(cache.dtype, cache.dim);
  const Group group{static_cast<const char*>(from.k) + vectors, static_cast<const char*>(from.v) + vectors,
                    closing.count, closing.head, closing.first, closing.ring, cache.dim, cache.dtype};
  make_slot(cache, row, closing.segment, closing.slot, group, closing.token, closing.bias, scratch);
}

// Tokens of the largest group that closes in any row; 0: none does.
inline int largest_closing(const Cache& cache) {
  int count = 0;
  for (int row = 0; row < cache.rows; ++row) count = std::max(count, cache.closing[row].count);
  return count;
}

// Copies one token's key and value into slot `slot` of a row's exact segment.
inline void store_exact(const Cache& cache, int row, int slot, const void* key, const void* value) {
  const Segment& exact = cache.segments[0];
  const int bytes = row_bytes(cache.dtype, cache.dim);
  const long long at = (long long)row * exact.capacity + slot;
  std::memcpy(static_cast<char*>(exact.k) + at * bytes, key, bytes);
  std::memcpy(static_cast<char*>(exact.v) + at * bytes, value, bytes);
  if (exact.bias) exact.bias[at] = 0;
}

// The slot of a row's exact segment that stores the next token.
inline int next_slot(const Cache& cache, int row) {
  const Live& live = cache.live[(long long)row * MOST_SEGMENTS];
  return live.head + (live.ring > 0 ? (live.first + live.length) % live.ring : 0);
}

}  // namespace elastickv
