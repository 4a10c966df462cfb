// Non-temporal stores: ordinary stores of a long output would first read it into the caches (for ownership) and evict
// useful data, which makes a copy 1.5 times as expensive.
#pragma once
#include "simd.hpp"

namespace elastickv {

constexpr long long LONG_OUTPUT = 256 << 10;  // bytes

inline bool goes_past_caches(long long bytes, const void* address, int alignment) {
#if defined(__AVX__)
  return bytes >= LONG_OUTPUT && reinterpret_cast<uintptr_t>(address) % alignment == 0;
#else
  return false && bytes && address && alignment;  // no such store known for this target
#endif
}

template <typename V, bool PAST_CACHES>
ELASTICKV_INLINE void write(void* address, V value) {
#if defined(__AVX__)
  if constexpr (PAST_CACHES) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64) return _mm512_stream_si512(static_cast<__m512i*>(address), (__m512i)value);
#endif
    if constexpr (sizeof(V) == 32) return _mm256_stream_si256(static_cast<__m256i*>(address), (__m256i)value);
    if constexpr (sizeof(V) == 16) return _mm_stream_si128(static_cast<__m128i*>(address), (__m128i)value);
  }
#endif
  store(address, value);
}

// Makes these stores visible to other threads before this thread reports that it is done.
ELASTICKV_INLINE void order_writes() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

}  // namespace elastickv
