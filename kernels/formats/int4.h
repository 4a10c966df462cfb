// int4: whole numbers from -7 to 7; byte j holds dims 2j (low nibble) and 2j + 1, each as code + 8; value = code * scale.
#pragma once
#ifdef __CUDACC__

template <>
struct Fragment<INT4> {
  static constexpr float FACTOR = 1.0f;
  Word32 words;
  template <bool SPLIT>
  __device__ void load(const char* row, int part, int element) {
    if (!SPLIT) {
      load_streamed(row + element / 2, words);
    } else {
      Word16 half;
      load_streamed(row + element / 2, half);
      words = part == 0 ? Word32(half) : words | Word32(half) << 16;
    }
  }
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    const Word32 even = words & 0x0f0f0f0fu, odd = (words >> 4) & 0x0f0f0f0fu;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      out[2 * i] = code_of_byte<8>(even, i);
      out[2 * i + 1] = code_of_byte<8>(odd, i);
    }
  }
};

template <>
struct Stored<INT4> {
  static __device__ void put(void* to, long long at, float x, float y) {
    static_cast<unsigned char*>(to)[at / 2] = (whole_code<7>(x) + 8) | (whole_code<7>(y) + 8) << 4;
  }
};

#else

namespace elastickv {

template <>
struct Stored<INT4> {
  static constexpr float FACTOR = 1;
  static ELASTICKV_INLINE float get(const char* vector, long long i) {
    return float(((uint8_t(vector[i / 2]) >> (i % 2 * 4)) & 15) - 8);
  }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) {
#if defined(ELASTICKV_AVX512)
    // Lane i holds the word with its nibble; the nibble shifted down picks its value from a table of 16.
    const __m512i words = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
        _mm512_castsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(vector + first / 2))));
    const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(words, shifts), values);
#elif defined(ELASTICKV_AVX2)
    // Eight dims are the nibbles of one word: every lane gets the word and shifts its own nibble down.
    const __m256i word = _mm256_set1_epi32(load<int32_t>(vector + first / 2));
    const __m256i nibbles = _mm256_and_si256(
        _mm256_srlv_epi32(word, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28)), _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(nibbles, _mm256_set1_epi32(8)));
#else
    return one_by_one<Stored>(vector, first);
#endif
  }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    for (long long i = 0; i < count / 2; ++i)
      to[i] = char((whole_code<7>(value(2 * i)) + 8) | ((whole_code<7>(value(2 * i + 1)) + 8) << 4));
  }
};

}  // namespace elastickv
#endif
