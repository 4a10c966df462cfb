// Prefetches each warp's second unit to shared memory: the copy is issued right after the query, while the first unit, whose
// registers the second one will use, is being loaded. Needs sm_80 (cp.async) and STAGE_BYTES of dynamic shared memory per warp
// before Scratch (decode/launch.py decides).
#pragma once
#include "fragment.cuh"

constexpr int STAGE_BYTES = 8192;  // 16 loads of keys and values by each of 32 lanes

__device__ inline bool launch_stages() {
#if __CUDA_ARCH__ >= 800
  unsigned bytes;
  asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
  return bytes >= blockDim.x / 32 * STAGE_BYTES;
#else
  return false;
#endif
}

__device__ inline unsigned shared_address(const void* at) { return unsigned(__cvta_generic_to_shared(at)); }

__device__ inline uint4 load_shared(unsigned address) {
  uint4 words;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "r"(address)
               : "memory");
  return words;
}

// One lane's pieces: numbers 0 to 7 are keys, 8 to 15 values. Each lane reads only its own copies, so no barrier is needed.
struct Stage {
  unsigned first;  // shared address

  __device__ Stage(const void* shared, int warp, int lane)
      : first(shared_address(shared) + warp * STAGE_BYTES + lane * 16) {}

  __device__ void ask(int piece, const void* from) const {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(first + piece * 512), "l"(from) : "memory");
#endif
  }

  __device__ static void await() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
  }

  __device__ uint4 take(int piece) const { return load_shared(first + piece * 512); }
};
