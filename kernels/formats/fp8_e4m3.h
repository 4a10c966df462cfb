// fp8_e4m3: sign, 4 bits of exponent (bias 7), 3 of mantissa, up to 448; value = float * scale.
// Both sides read a byte as the fp16 word with the same fields, whose bias is 15: 2^-8 times its value, subnormals too.
#pragma once
#ifdef __CUDACC__

// Rounded to nearest, ties to even, saturating. A NaN becomes 448: its slot's scale is a NaN already.
__device__ inline Word32 to_e4m3(float x) {
  const Word32 sign = __float_as_uint(x) >> 24 & 0x80u;
  const float size = fminf(fabsf(x), 448.0f);
  const Word32 bits = __float_as_uint(size);
  if (bits < 0x3c800000u) return sign | (__float_as_uint(add_rn(size, 16384.0f)) - 0x46800000u);  // a multiple of 2^-9
  return sign | (((bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20) - 960u);
}

template <>
struct Fragment<FP8_E4M3> : EightBytes {
  static constexpr float FACTOR = 256.0f;
  // Two bytes of a word, which PLACED (a selector of __byte_perm) puts into the upper bytes of two halves.
  template <int PLACED>
  static __device__ void unpack_two(Word32 bytes, float* out) {
    const Word32 placed = __byte_perm(bytes, 0u, PLACED);
    unpack_fp16((placed >> 1 & 0x3f803f80u) | (placed & 0x80008000u), out);
  }
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    unpack_two<0x1404>(words.x, out);
    unpack_two<0x3424>(words.x, out + 2);
    unpack_two<0x1404>(words.y, out + 4);
    unpack_two<0x3424>(words.y, out + 6);
  }
};

template <>
struct Stored<FP8_E4M3> {
  static __device__ void put(void* to, long long at, float x, float y) {
    static_cast<Word16*>(to)[at / 2] = Word16(to_e4m3(x) | to_e4m3(y) << 8);
  }
};

#else

namespace elastickv {

template <>
struct Stored<FP8_E4M3> {
  static constexpr float FACTOR = 256;
  static ELASTICKV_INLINE float get(const char* vector, long long i) {
    const uint32_t byte = uint8_t(vector[i]);
    return decode_fp16(uint16_t((byte & 0x7F) << 7 | (byte & 0x80) << 8));
  }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) {
#if defined(ELASTICKV_AVX512)
    const __m256i placed = _mm256_slli_epi16(_mm256_cvtepu8_epi16(load<__m128i>(vector + first)), 8);
    const __m256i size = _mm256_and_si256(_mm256_srli_epi16(placed, 1), _mm256_set1_epi16(0x3F80));
    return _mm512_cvtph_ps(_mm256_or_si256(size, _mm256_and_si256(placed, _mm256_set1_epi16(short(0x8000)))));
#elif defined(ELASTICKV_AVX2)
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(vector + first));
    const __m128i placed = _mm_slli_epi16(_mm_cvtepu8_epi16(bytes), 8);
    const __m128i size = _mm_and_si128(_mm_srli_epi16(placed, 1), _mm_set1_epi16(0x3F80));
    return _mm256_cvtph_ps(_mm_or_si128(size, _mm_and_si128(placed, _mm_set1_epi16(short(0x8000)))));
#else
    return one_by_one<Stored>(vector, first);
#endif
  }
  // Rounded to nearest, ties to even, saturating. A NaN becomes 448: its slot's scale is a NaN already.
  static ELASTICKV_INLINE uint32_t code(float x) {
    const uint32_t sign = bits_of(x) >> 24 & 0x80;
    const float size = std::fabs(x) < 448.0f ? std::fabs(x) : 448.0f;
    const uint32_t bits = bits_of(size);
    if (bits < 0x3C800000) return sign | (bits_of(size + 16384.0f) - 0x46800000);  // a multiple of 2^-9
    return sign | (((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - 960);
  }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    for (long long i = 0; i < count; ++i) to[i] = char(code(value(i)));
  }
};

}  // namespace elastickv
#endif
