// Declarations of the storage formats, shared by all kernels. The build generates two headers from
// workflow/elastickv/formats/*.py:
// formats.h      ELASTICKV_FORMATS(X): X(NAME, number, bits, largest) for each format; largest is 0 if slots have no scale;
//                ELASTICKV_MIXED_16(X): X(DTYPE, dtype, MIDDLE, middle) of each 16-bit dtype with each plain format that has scales
//                (values of equal bits, no per-head state); ELASTICKV_MIXED_32(X): the same for each 32-bit dtype.
// formats_code.h includes formats/<name>.h of each format, which reads and writes it.
#pragma once
#include "formats.h"

#ifdef __CUDACC__
#define ELASTICKV_ANYWHERE __host__ __device__
#else
#define ELASTICKV_ANYWHERE static  // no function that the linker could share between targets (cpu/elastickv.cpp)
#endif

enum Format {
#define X(NAME, NUMBER, BITS, LARGEST) NAME = NUMBER,
  ELASTICKV_FORMATS(X)
#undef X
};

ELASTICKV_ANYWHERE constexpr int format_bits(int format) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) return BITS;
  ELASTICKV_FORMATS(X)
#undef X
  return 0;
}

// The stored value that a vector's largest |x| is mapped to; 0: slots have no scale.
ELASTICKV_ANYWHERE constexpr float format_largest(int format) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) return LARGEST;
  ELASTICKV_FORMATS(X)
#undef X
  return 0.0f;
}

ELASTICKV_ANYWHERE constexpr bool is_scaled(int format) { return format_largest(format) != 0.0f; }

// Bytes of a vector of `dim` values.
ELASTICKV_ANYWHERE constexpr int row_bytes(int format, int dim) { return int(unsigned(dim * format_bits(format)) / 8); }
