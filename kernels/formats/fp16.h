// fp16: IEEE half precision, 2 bytes.
#pragma once
#ifdef __CUDACC__

template <>
struct Fragment<FP16> {
  uint4 words;
  __device__ uint4& part(int) { return words; }
  __device__ void clear() { words = make_uint4(0, 0, 0, 0); }
  template <bool SPLIT>
  __device__ void load(const char* row, int, int element) {
    load_streamed(row + element * 2, words);
  }
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    unpack_fp16(words.x, out);
    unpack_fp16(words.y, out + 2);
    unpack_fp16(words.z, out + 4);
    unpack_fp16(words.w, out + 6);
  }
};

template <>
struct Stored<FP16> {
  static __device__ void put(void* to, long long at, float x, float y) {
    store1<FP16>(to, at, x);
    store1<FP16>(to, at + 1, y);
  }
};

#else

namespace elastickv {

template <>
struct Stored<FP16> {
  static constexpr float FACTOR = 1;
  static ELASTICKV_INLINE float get(const char* vector, long long i) { return decode_fp16(load<uint16_t>(vector + 2 * i)); }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) {
#if defined(ELASTICKV_AVX512)
    return _mm512_cvtph_ps(load<__m256i>(vector + 2 * first));
#elif defined(ELASTICKV_AVX2)
    return _mm256_cvtph_ps(load<__m128i>(vector + 2 * first));
#else
    return one_by_one<Stored>(vector, first);
#endif
  }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    for (long long i = 0; i < count; ++i) store(to + 2 * i, encode_fp16(value(i)));
  }
};

}  // namespace elastickv
#endif
