// fp32: a float as computed.
#pragma once
#ifdef __CUDACC__

template <>
struct Fragment<FP32> {
  uint4 words[2];
  __device__ uint4& part(int i) { return words[i]; }
  __device__ void clear() { words[0] = words[1] = make_uint4(0, 0, 0, 0); }
  template <bool SPLIT>
  __device__ void load(const char* row, int part, int element) {
    static_assert(SPLIT, "FP32 rows are always split");
    load_streamed(row + element * 4, words[part]);
  }
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    const Word32 all[8] = {words[0].x, words[0].y, words[0].z, words[0].w, words[1].x, words[1].y, words[1].z, words[1].w};
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = __uint_as_float(all[i]);
  }
};

template <>
struct Stored<FP32> {
  static __device__ void put(void* to, long long at, float x, float y) {
    store1<FP32>(to, at, x);
    store1<FP32>(to, at + 1, y);
  }
};

#else

namespace elastickv {

template <>
struct Stored<FP32> {
  static constexpr float FACTOR = 1;
  static ELASTICKV_INLINE float get(const char* vector, long long i) { return load<float>(vector + 4 * i); }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) {
    return load<Floats>(vector + 4 * first);
  }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    for (long long i = 0; i < count; ++i) store(to + 4 * i, float(value(i)));
  }
};

}  // namespace elastickv
#endif
