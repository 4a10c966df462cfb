// int8: whole numbers from -127 to 127, a byte each in two's complement; value = code * scale.
#pragma once
#ifdef __CUDACC__

template <>
struct Fragment<INT8> : EightBytes {
  static constexpr float FACTOR = 1.0f;
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    const Word32 low = words.x ^ 0x80808080u, high = words.y ^ 0x80808080u;  // two's complement -> code + 128
#pragma unroll
    for (int i = 0; i < 4; i++) {
      out[i] = code_of_byte<128>(low, i);
      out[4 + i] = code_of_byte<128>(high, i);
    }
  }
};

template <>
struct Stored<INT8> {
  static __device__ void put(void* to, long long at, float x, float y) {
    static_cast<signed char*>(to)[at] = whole_code<127>(x);
    static_cast<signed char*>(to)[at + 1] = whole_code<127>(y);
  }
};

#else

namespace elastickv {

template <>
struct Stored<INT8> {
  static constexpr float FACTOR = 1;
  static ELASTICKV_INLINE float get(const char* vector, long long i) { return float(load<int8_t>(vector + i)); }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) {
#if defined(ELASTICKV_AVX512)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load<__m128i>(vector + first)));
#elif defined(ELASTICKV_AVX2)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(vector + first))));
#else
    return one_by_one<Stored>(vector, first);
#endif
  }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    for (long long i = 0; i < count; ++i) to[i] = char(whole_code<127>(value(i)));
  }
};

}  // namespace elastickv
#endif
