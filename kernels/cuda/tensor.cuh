// Tensor-core products (mma.sync, sm_80 and up) and the conversions around them. A lane is (g, t) = (lane / 4, lane % 4).
//
//   16-bit, 16 x 8 x 16:  a = {A[g][2t, 2t+1], A[g+8][2t, 2t+1], A[g][2t+8, 2t+9], A[g+8][2t+8, 2t+9]},
//                         b = {B[2t, 2t+1][g], B[2t+8, 2t+9][g]}, c = {C[g][2t], C[g][2t+1], C[g+8][2t], C[g+8][2t+1]}
//   8-bit, 16 x 8 x 32:   the same with four bytes where two halves were (4t.. and 4t+16..)
//
// The order of the inner dimension is free as long as A and B agree on it, so fragments hold data in the order of the loads.
#pragma once
#include "convert.cuh"

template <int DTYPE>
__device__ inline void mma16(float (&c)[4], Word32 a0, Word32 a1, Word32 a2, Word32 a3, Word32 b0, Word32 b1) {
  if constexpr (DTYPE == FP16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// A's bytes signed (INT8) or not (INT4: nibbles); B's signed.
template <int FORMAT>
__device__ inline void mma8(int (&c)[4], Word32 a0, Word32 a1, Word32 a2, Word32 a3, Word32 b0, Word32 b1) {
  if constexpr (FORMAT == INT8)
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Two floats as a pair of halves, in one instruction where there is one.
template <int DTYPE>
__device__ inline Word32 pack_pair(float low, float high) {
  Word32 pair;
  if constexpr (DTYPE == FP16) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ inline Word32 word_of(const uint4& words, int i) {
  return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

// The low (high) halves of two words, side by side.
__device__ inline Word32 low_halves(Word32 a, Word32 b) { return __byte_perm(a, b, 0x5410); }
__device__ inline Word32 high_halves(Word32 a, Word32 b) { return __byte_perm(a, b, 0x7632); }
