// Storage formats, one value at a time: fp16 and bf16 words to and from float, rounded to nearest, ties to even.
// The same bits as workflow/elastickv/formats. Only integer steps, exact products and single roundings, so that
// neither contraction into fused multiply-adds nor the instruction set can change a result.
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace elastickv {

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline float decode_bf16(uint16_t word) { return float_of(uint32_t(word) << 16); }

inline uint16_t encode_bf16(float x) {
  const uint32_t bits = bits_of(x);
  if (x != x) return 0x7FC0;
  return uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

inline float decode_fp16(uint16_t word) {
#if defined(__F16C__)
  return _cvtsh_ss(word);
#elif defined(__ARM_FP16_FORMAT_IEEE)
  __fp16 half;
  std::memcpy(&half, &word, 2);
  return half;
#else
  const uint32_t sign = uint32_t(word & 0x8000) << 16, magnitude = uint32_t(word & 0x7FFF) << 13;
  if ((word & 0x7C00) == 0x7C00) return float_of(sign | 0x7F800000 | magnitude);  // infinity, NaN
  return float_of(sign | bits_of(float_of(magnitude) * 0x1p112f));  // moves the exponent's bias; exact
#endif
}

inline uint16_t encode_fp16(float x) {
#if defined(__F16C__)
  return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__ARM_FP16_FORMAT_IEEE)
  const __fp16 half = static_cast<__fp16>(x);
  uint16_t word;
  std::memcpy(&word, &half, 2);
  return word;
#else
  const uint32_t bits = bits_of(x), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return uint16_t(sign | 0x7E00);     // NaN
  if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);    // rounds to 65536 or more
  if (magnitude < 0x38800000)                                     // subnormal: the addition rounds at bit 2^-24
    return uint16_t(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
  return uint16_t(sign | ((magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13));
#endif
}

}  // namespace elastickv
