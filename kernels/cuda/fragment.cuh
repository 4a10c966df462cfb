// One lane's part of a cached row: eight stored elements and their conversion to fp32.
//
// LANES lanes share a row. Lane c holds elements [8c, 8c + 8); in a cache whose exact dtype is FP32 (SPLIT) it holds
// [4c, 4c + 4) and [4 (LANES + c), 4 (LANES + c) + 4), so that each 16-byte load of the row is contiguous over the lanes.
// Loads: 16 bytes (FP32: two of them), 8 for INT8, 4 for INT4; with SPLIT half of that, twice.
#pragma once
#include "dependent.cuh"

constexpr int ELEMENTS = 8;

// Streaming loads: every byte of a cache is read only once, so it is not kept in L1.
#if __CUDA_ARCH__ >= 750
#define STREAMED "ld.global.nc.L1::no_allocate.L2::128B"
#elif __CUDA_ARCH__ >= 700
#define STREAMED "ld.global.nc.L1::no_allocate"
#else
#define STREAMED "ld.global.nc"
#endif

__device__ inline void load_streamed(const void* from, uint4& to) {
  asm volatile(STREAMED ".v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w) : "l"(from));
}

__device__ inline void load_streamed(const void* from, uint2& to) {
  asm volatile(STREAMED ".v2.u32 {%0, %1}, [%2];" : "=r"(to.x), "=r"(to.y) : "l"(from));
}

__device__ inline void load_streamed(const void* from, Word32& to) {
  asm volatile(STREAMED ".u32 %0, [%1];" : "=r"(to) : "l"(from));
}

__device__ inline void load_streamed(const void* from, Word16& to) {
  asm volatile(STREAMED ".u16 %0, [%1];" : "=h"(to) : "l"(from));
}

__device__ inline void unpack_fp16(Word32 word, float* out) {
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high;}"
      : "=f"(out[0]), "=f"(out[1])
      : "r"(word));
}

// Bytes holding code + OFFSET -> codes as fp32: the byte becomes the low mantissa bits of 2^23, then 2^23 + OFFSET goes.
template <int OFFSET>
__device__ inline float code_of_byte(Word32 bytes, int which) {
  return __uint_as_float(__byte_perm(bytes, 0x4b000000u, 0x7440 + which)) - (8388608.0f + OFFSET);
}

// Bytes of eight values where one takes a byte.
struct EightBytes {
  uint2 words;
  template <bool SPLIT>
  __device__ void load(const char* row, int part, int element) {
    if (!SPLIT) load_streamed(row + element, words);
    else if (part == 0) load_streamed(row + element, words.x);
    else load_streamed(row + element, words.y);
  }
};

// Of each format, in kernels/formats/<name>.h. Fragment<FORMAT>: what a lane loads and unpacks; what it unpacks is to be
// multiplied by the slot's scale times FACTOR. Stored<FORMAT>::put(to, at, x, y): writes values at and at + 1 (at is even),
// divided by the scale where there is one.
template <int FORMAT>
struct Fragment;
template <int FORMAT>
struct Stored;
#include "../per_head.h"
#include "formats_code.h"

// Which elements of a row a lane holds.
template <int LANES, bool SPLIT>
struct Columns {
  static constexpr int PARTS = SPLIT ? 2 : 1;
  static constexpr int WIDTH = ELEMENTS / PARTS;
  int column;  // lane % LANES
  int dim;

  __device__ int position(int part) const { return (part * LANES + column) * WIDTH; }
  // Only the class of 16 lanes serves several dims (80, 96, 128); elsewhere dim = LANES * ELEMENTS.
  __device__ bool inside(int part) const { return LANES != 16 || position(part) < dim; }

  // Lanes past dim load the row's first elements again (no extra traffic); their query is zero and their sums are not written.
  template <int FORMAT>
  __device__ void load(Fragment<FORMAT>& fragment, const char* row) const {
#pragma unroll
    for (int part = 0; part < PARTS; part++) fragment.template load<SPLIT>(row, part, inside(part) ? position(part) : 0);
  }

  // The same of a row that the kernel before may have written.
  template <int FORMAT>
  __device__ void load_new(Fragment<FORMAT>& fragment, const char* row) const {
#pragma unroll
    for (int part = 0; part < PARTS; part++)
      load_fresh(row + row_bytes(FORMAT, inside(part) ? position(part) : 0), fragment.part(part));
  }
};
