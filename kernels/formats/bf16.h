// bf16: the upper half of a float, rounded, 2 bytes.
#pragma once
#ifdef __CUDACC__

template <>
struct Fragment<BF16> {
  uint4 words;
  __device__ uint4& part(int) { return words; }
  __device__ void clear() { words = make_uint4(0, 0, 0, 0); }
  template <bool SPLIT>
  __device__ void load(const char* row, int, int element) {
    load_streamed(row + element * 2, words);
  }
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    const Word32 all[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      out[2 * i] = __uint_as_float(all[i] << 16);
      out[2 * i + 1] = __uint_as_float(all[i] & 0xffff0000u);
    }
  }
};

template <>
struct Stored<BF16> {
  static __device__ void put(void* to, long long at, float x, float y) {
    store1<BF16>(to, at, x);
    store1<BF16>(to, at + 1, y);
  }
};

#else

namespace elastickv {

template <>
struct Stored<BF16> {
  static constexpr float FACTOR = 1;
  static ELASTICKV_INLINE float get(const char* vector, long long i) { return decode_bf16(load<uint16_t>(vector + 2 * i)); }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) {
#if defined(ELASTICKV_AVX512)
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(load<__m256i>(vector + 2 * first)), 16);
#elif defined(ELASTICKV_AVX2)
    return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(load<__m128i>(vector + 2 * first)), 16);
#else
    return one_by_one<Stored>(vector, first);
#endif
  }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    for (long long i = 0; i < count; ++i) store(to + 2 * i, encode_bf16(value(i)));
  }
};

}  // namespace elastickv
#endif
