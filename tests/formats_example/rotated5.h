// rotated5: times an orthogonal matrix a head. Of every 8 dims the first 2 are whole numbers from -127 to 127, a byte each;
// the others, two a byte, are code + 8 with value = code * 18. 5 bytes in all; value = number * scale.
#pragma once
#ifdef __CUDACC__

template <>
struct Fragment<ROTATED5> {
  static constexpr float FACTOR = 1.0f;
  Word32 low;   // the first four bytes
  Word32 high;  // the fifth
  // 5 bytes lie at any address: one load a byte.
  template <bool SPLIT>
  __device__ void load(const char* row, int part, int element) {
    static_assert(!SPLIT, "eight dims are one unit");
    const unsigned char* bytes = reinterpret_cast<const unsigned char*>(row) + element / 8 * 5;
    low = Word32(bytes[0]) | Word32(bytes[1]) << 8 | Word32(bytes[2]) << 16 | Word32(bytes[3]) << 24;
    high = bytes[4];
  }
  static __device__ float narrow(Word32 byte, int shift) { return float(int(byte >> shift & 15u) - 8) * 18.0f; }
  __device__ void unpack(float (&out)[ELEMENTS]) const {
    out[0] = float(static_cast<signed char>(low & 255u));
    out[1] = float(static_cast<signed char>(low >> 8 & 255u));
    out[2] = narrow(low, 16);
    out[3] = narrow(low, 20);
    out[4] = narrow(low, 24);
    out[5] = narrow(low, 28);
    out[6] = narrow(high, 0);
    out[7] = narrow(high, 4);
  }
};

template <>
struct Stored<ROTATED5> {
  static __device__ void put(void* to, long long at, float x, float y) {
    unsigned char* block = static_cast<unsigned char*>(to) + at / 8 * 5;
    const int first = at % 8;
    if (first == 0) {
      block[0] = whole_code<127>(x);
      block[1] = whole_code<127>(y);
    } else {
      block[1 + first / 2] = (whole_code<7>(div_rn(x, 18.0f)) + 8) | (whole_code<7>(div_rn(y, 18.0f)) + 8) << 4;
    }
  }
};

#else

namespace elastickv {

template <>
struct Stored<ROTATED5> {
  static constexpr float FACTOR = 1;
  static ELASTICKV_INLINE float get(const char* vector, long long i) {
    const char* block = vector + i / 8 * 5;
    const int dim = int(i % 8);
    if (dim < 2) return float(load<int8_t>(block + dim));
    return float(((uint8_t(block[1 + dim / 2]) >> (dim % 2 * 4)) & 15) - 8) * 18;
  }
  static ELASTICKV_INLINE Floats floats(const char* vector, int first) { return one_by_one<Stored>(vector, first); }
  template <typename Value>
  static void put(const Value& value, long long count, char* to) {
    const auto narrow = [&](long long i) { return whole_code<7>(value(i) / 18.0f) + 8; };
    for (long long i = 0; i < count; i += 8, to += 5) {
      to[0] = char(whole_code<127>(value(i)));
      to[1] = char(whole_code<127>(value(i + 1)));
      for (int pair = 1; pair < 4; ++pair) to[1 + pair] = char(narrow(i + 2 * pair) | narrow(i + 2 * pair + 1) << 4);
    }
  }
};

#endif

template <>
struct PerHead<ROTATED5> : NothingPerHead {
  static constexpr bool KEPT = true;
  ELASTICKV_PER_HEAD int floats(int dim) { return dim * dim; }
  // float64 holds products of floats exactly: the same bits with and without fused multiply-adds.
  ELASTICKV_PER_HEAD float stored(const float* matrix, const float* x, int dim, int i) {
    double sum = 0;
    for (int j = 0; j < dim; ++j) sum += double(matrix[i * dim + j]) * double(x[j]);
    return float(sum);
  }
  ELASTICKV_PER_HEAD float query(const float* matrix, const float* q, int dim, int i) {
    float sum = 0;
    for (int j = 0; j < dim; ++j) sum += matrix[i * dim + j] * q[j];
    return sum;
  }
  ELASTICKV_PER_HEAD float answer(const float* matrix, const float* o, int dim, int i) {
    float sum = 0;
    for (int j = 0; j < dim; ++j) sum += matrix[j * dim + i] * o[j];
    return sum;
  }
};

#ifndef __CUDACC__
}  // namespace elastickv
#endif
