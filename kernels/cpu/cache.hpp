// Where a cache keeps its tokens (the words and formulas of params.h), and closing a group of tokens into a middle slot.
#pragma once
#include <algorithm>

#include "scratch.hpp"
#include "simd.hpp"

namespace elastickv {

inline int closed_groups(const Cache& cache, int tokens) {
  const int outside = tokens - cache.sinks - cache.window;
  return outside > 0 ? outside / cache.compress : 0;
}

inline int exact_capacity(const Cache& cache) { return cache.sinks + cache.ring; }

inline int exact_slot(const Cache& cache, int token) {
  return token < cache.sinks ? token : cache.sinks + (token - cache.sinks) % cache.ring;
}

// A vector without scales.
inline void to_floats(const void* vector, int format, int dim, float* out) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME)                  \
    for (int i = 0; i < dim; ++i) out[i] = Stored<NAME>::get(static_cast<const char*>(vector), i);
  ELASTICKV_FORMATS(X)
#undef X
}

// value(0) .. value(count - 1), divided by their scale where the format has one.
template <typename Value>
void put(const Value& value, int format, long long count, void* out) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) Stored<NAME>::put(value, count, static_cast<char*>(out));
  ELASTICKV_FORMATS(X)
#undef X
}

inline void from_floats(const float* values, int format, long long count, void* out) {
  put([=](long long i) { return values[i]; }, format, count, out);
}

// scale = fp16(max|x| / largest), stored values = x / scale; returns the scale's word.
inline uint16_t quantise(const float* x, int format, int dim, void* out) {
  uint32_t peak = 0;  // |x| compared as bits: the same order, and a NaN is above everything
  for (int i = 0; i < dim; ++i) peak = std::max(peak, bits_of(x[i]) & 0x7FFFFFFF);
  const float exact = float_of(peak) / format_largest(format);
  const uint16_t word = encode_fp16(exact > 65504.0f ? 65504.0f : exact);
  const float scale = decode_fp16(word);
  put([=](long long i) { return scale == 0 ? 0.0f : x[i] / scale; }, format, dim, out);
  return word;
}

// Stores `values` as middle slot number `slot` (over all rows) of an array of keys or values.
inline void store_middle(const Cache& cache, const float* values, long long slot, void* vectors, void* scales) {
  char* to = static_cast<char*>(vectors) + slot * row_bytes(cache.cache_dtype, cache.dim);
  if (is_scaled(cache.cache_dtype))
    store(static_cast<char*>(scales) + 2 * slot, quantise(values, cache.cache_dtype, cache.dim, to));
  else
    from_floats(values, cache.dtype, cache.dim, to);
}

// Scratch of one thread for closing groups.
struct GroupScratch {
  Scratch key, value, member;
  explicit GroupScratch(int dim) : key(dim), value(dim), member(dim) {}
};

// Sum of squares in float64 (every square is exact there).
inline double squared_norm(const float* x, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += double(x[i]) * double(x[i]);
  return sum;
}

// The member that stands for a group of `size` tokens; value_of(i) gives member i's stored value vector.
template <typename ValueOf>
int choose_member(const Cache& cache, int anchor, ValueOf value_of, GroupScratch& scratch) {
  if (anchor == LAST) return cache.compress - 1;
  if (anchor != VALUE_NORM || cache.compress == 1) return 0;
  int best = 0;
  double best_norm = 0;
  for (int i = 0; i < cache.compress; ++i) {
    to_floats(value_of(i), cache.dtype, cache.dim, scratch.member.data());
    const double norm = squared_norm(scratch.member.data(), cache.dim);
    const bool first_nan = norm != norm && best_norm == best_norm;  // as numpy.argmax: a NaN is the largest
    if (i == 0 || norm > best_norm || first_nan) best = i, best_norm = norm;
  }
  return best;
}

// float32 sum in token order, divided by the number of tokens.
template <typename VectorOf>
void mean_vector(const Cache& cache, VectorOf vector_of, float* member, float* out) {
  std::fill(out, out + cache.dim, 0.0f);
  for (int i = 0; i < cache.compress; ++i) {
    to_floats(vector_of(i), cache.dtype, cache.dim, member);
    for (int d = 0; d < cache.dim; ++d) out[d] += member[d];
  }
  for (int d = 0; d < cache.dim; ++d) out[d] /= float(cache.compress);
}

// Closes group `group` of `row`: chooses or averages, stores the middle slot, its bias and its token.
// key_of(i), value_of(i): the stored vectors of the group's member i.
template <typename KeyOf, typename ValueOf>
void close_group(const Cache& cache, int row, int group, int anchor, float anchor_bias, KeyOf key_of, ValueOf value_of,
                 GroupScratch& scratch) {
  const long long slot = (long long)row * cache.middle_capacity + group;
  const int member = choose_member(cache, anchor, value_of, scratch);
  if (anchor == MEAN) {
    mean_vector(cache, key_of, scratch.member.data(), scratch.key.data());
    mean_vector(cache, value_of, scratch.member.data(), scratch.value.data());
  } else {
    to_floats(key_of(member), cache.dtype, cache.dim, scratch.key.data());
    to_floats(value_of(member), cache.dtype, cache.dim, scratch.value.data());
  }
  store_middle(cache, scratch.key.data(), slot, cache.middle_k, cache.middle_k_scale);
  store_middle(cache, scratch.value.data(), slot, cache.middle_v, cache.middle_v_scale);
  if (cache.middle_bias) cache.middle_bias[slot] = anchor_bias;
  cache.middle_token[slot] = cache.sinks + group * cache.compress + member;
}

// Closes a group whose tokens the cache itself holds exactly.
inline void close_held_group(const Cache& cache, int row, int group, int anchor, float anchor_bias,
                             GroupScratch& scratch) {
  const int first = cache.sinks + group * cache.compress;
  const auto held = [&](const void* vectors, int i) {
    const long long slot = (long long)row * exact_capacity(cache) + exact_slot(cache, first + i);
    return static_cast<const char*>(vectors) + slot * row_bytes(cache.dtype, cache.dim);
  };
  close_group(
      cache, row, group, anchor, anchor_bias, [&](int i) { return held(cache.exact_k, i); },
      [&](int i) { return held(cache.exact_v, i); }, scratch);
}

// Copies one token's key and value into exact slot `slot` of `row`.
inline void store_exact(const Cache& cache, int row, int slot, const void* key, const void* value) {
  const int bytes = row_bytes(cache.dtype, cache.dim);
  const long long index = (long long)row * exact_capacity(cache) + slot;
  std::memcpy(static_cast<char*>(cache.exact_k) + index * bytes, key, bytes);
  std::memcpy(static_cast<char*>(cache.exact_v) + index * bytes, value, bytes);
  if (cache.exact_bias) cache.exact_bias[index] = 0;
}

}  // namespace elastickv
