// fp8_e5m2: sign, 5 bits of exponent, 2 of mantissa: the upper byte of an fp16 word; value = float * scale.
#pragma once
#ifdef __CUDACC__

// Rounded to nearest, ties to even, saturating. A NaN becomes the largest: its slot's scale is a NaN already.
__device__ inline Word32 to_e5m2(float x) {
  const Word32 sign = __float_as_uint(x) >> 24 & 0x80u;
  const float size = fminf(fabsf(x), 57344.0f);
  const Word32 bits = __float_as_uint(size);
  if (bits < 0x38800000u) return sign | (__float_as_uint(add_rn(size, 128.0f)) - 0x43000000u);  // a multiple of 2^-16
  return sign | (((bits + 0xfffffu + (bits >> 21 & 1u)) >> 21) - 448u);
}

template <>
struct Fragment<FP8_E5M2> : EightBytes {
  static constexpr float FACTOR = 1.0f;
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    unpack_fp16(__byte_perm(words.x, 0u, 0x1404), out);  // two bytes as the upper ones of two halves
    unpack_fp16(__byte_perm(words.x, 0u, 0x3424), out + 2);
    unpack_fp16(__byte_perm(words.y, 0u, 0x1404), out + 4);
    unpack_fp16(__byte_perm(words.y, 0u, 0x3424), out + 6);
  }
};

template <>
struct Stored<FP8_E5M2> {
  static __device__ void put(void* to, long long at, float x, float y) {
    static_cast<Word16*>(to)[at / 2] = Word16(to_e5m2(x) | to_e5m2(y) << 8);
  }
};

#else

namespace elastickv {

template <>
struct Stored<FP8_E5M2> {
  static constexpr float FACTOR = 1;
  static ELASTICKV_INLINE float get(const char* vector, long long i) {
    return decode_fp16(uint16_t(uint8_t(vector[i]) << 8));
  }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) { return one_by_one<Stored>(vector, first); }
  static ELASTICKV_INLINE uint32_t code(float x) {
    const uint32_t sign = bits_of(x) >> 24 & 0x80;
    const float size = std::fabs(x) < 57344.0f ? std::fabs(x) : 57344.0f;
    const uint32_t bits = bits_of(size);
    if (bits < 0x38800000) return sign | (bits_of(size + 128.0f) - 0x43000000);  // a multiple of 2^-16
    return sign | (((bits + 0xFFFFF + ((bits >> 21) & 1)) >> 21) - 448);
  }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    for (long long i = 0; i < count; ++i) to[i] = char(code(value(i)));
  }
};

}  // namespace elastickv
#endif
