// Programmatic dependent launch (sm_90 and up): a kernel may start while the previous one is still running. Before
// await_previous, it may only read data that the previous kernel does not write, and must not write anything. In plain
// launches and on older devices, both functions do nothing.
//
// Data written by a previous kernel is read from L2 (load_fresh): L1 may hold lines that were read while it ran.
#pragma once
#include "convert.cuh"

__device__ inline void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ inline void await_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void load_fresh(const void* from, uint4& to) {
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w)
               : "l"(from)
               : "memory");
}

__device__ inline void load_fresh(const void* from, uint2& to) {
  asm volatile("ld.global.cg.v2.u32 {%0, %1}, [%2];" : "=r"(to.x), "=r"(to.y) : "l"(from) : "memory");
}

__device__ inline int load_fresh(const int* from) {
  int value;
  asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

__device__ inline float4 load_fresh(const float4* from) {
  uint4 words;
  load_fresh(from, words);
  return make_float4(__uint_as_float(words.x), __uint_as_float(words.y), __uint_as_float(words.z), __uint_as_float(words.w));
}

// Prefetches a line to L2, which stays coherent with later writes of other kernels: allowed before await_previous.
__device__ inline void prefetch(const void* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }
