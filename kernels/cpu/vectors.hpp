// Vectors as the storage formats hold them, to and from floats, for formats that are known when a kernel runs.
#pragma once
#include <algorithm>

#include "simd.hpp"

namespace elastickv {

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

// The vector to encode: x itself, or, in `out`, x transformed by the format's per-head state (`states`: of all heads).
inline const float* passed_through(const float* x, int format, const void* states, int head, int dim, float* out) {
#define X(NAME, NUMBER, BITS, LARGEST)                                                                      \
  if constexpr (PerHead<NAME>::KEPT)                                                                        \
    if (format == NAME) {                                                                                   \
      const float* state = static_cast<const float*>(states) + (long long)head * PerHead<NAME>::floats(dim); \
      for (int i = 0; i < dim; ++i) out[i] = PerHead<NAME>::stored(state, x, dim, i);                       \
      return out;                                                                                           \
    }
  ELASTICKV_FORMATS(X)
#undef X
  return x;
}

// Stores `values` as slot number `slot` (over all rows) of an array of keys or values.
inline void store_vector(const float* values, int format, int dim, long long slot, void* vectors, void* scales) {
  char* to = static_cast<char*>(vectors) + slot * row_bytes(format, dim);
  if (is_scaled(format))
    store(static_cast<char*>(scales) + 2 * slot, quantise(values, format, dim, to));
  else
    from_floats(values, format, dim, to);
}

}  // namespace elastickv
