// elementwise: the original kernel's pass (ElementwiseParams), race-free: `previous` is read, the other buffer written.
//   anchors (t % compress == 0): out_g = exp(dot(q_g, k_g) * scale) * v_g; others: out_g = 0.95 * previous_g of the anchor
// with g = 4 consecutive dims (one float4).
// Traffic, in vectors of dim fp32: 3 reads and 1 write per anchor, 1 write per other token, 1 read per group with a copy.
// Launch: 256 threads, one per (head, group, g). Adjacent threads hold adjacent g, so every access is coalesced. With
// 256 * compress * 16 bytes of shared memory (sm_90 and up; only if dim / 4 divides 256 and compress divides seq), a block
// writes its output with one bulk store.
#pragma once
#include "dependent.cuh"
#include "state.cuh"

// exp within 2 units in the last place: the rounding error of x * log2 e is corrected by a factor. (__expf loses |x| units.)
__device__ inline float exp_accurate(float x) {
  const float power = x * LOG2_E;
  const float lost = fmaf(x, LOG2_E, -power) + x * 1.925963033500e-8f;  // log2 e - LOG2_E
  return exp2_approx(power) * (fabsf(x) < 120.0f ? fmaf(lost, 0.6931471806f, 1.0f) : 1.0f);
}

// Shared memory that this launch was given, in bytes.
__device__ inline unsigned dynamic_shared_bytes() {
  unsigned bytes;
  asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
  return bytes;
}

// Writes `count` bytes of shared memory, which all threads of the block have filled, to `to` with one bulk store (sm_90 and up).
__device__ inline void store_block(void* to, const void* from, unsigned count) {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  if (threadIdx.x != 0) return;
  unsigned address;
  asm("{.reg .u64 generic; cvta.to.shared.u64 generic, %1; cvt.u32.u64 %0, generic;}" : "=r"(address) : "l"(from));
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(address), "r"(count) : "memory");
  asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;" ::: "memory");
#endif
}

extern "C" __global__ __launch_bounds__(256) void elementwise(const ElementwiseParams p) {
  extern __shared__ float4 tile[];
  let_next_begin();
  const int quads = p.dim / 4, groups = (p.seq + p.compress - 1) / p.compress;
  const int block = p.reverse ? int(gridDim.x - 1 - blockIdx.x) : int(blockIdx.x);
  const long long item = (long long)block * blockDim.x + threadIdx.x, items = (long long)p.heads * groups * quads;
  const bool whole = dynamic_shared_bytes() > 0, idle = item >= items;  // blocks of whole groups use one bulk store
  if (idle && !whole) return;
  const int quad = item % quads, group = item / quads % groups, head = item / quads / groups;
  const int first = group * p.compress, members = idle ? 0 : min(p.compress, p.seq - first);
  const long long at = idle ? 0 : ((long long)head * p.seq + first) * quads + quad;
  const float4 q = __ldg(reinterpret_cast<const float4*>(p.q) + at);
  const float4 k = __ldg(reinterpret_cast<const float4*>(p.k) + at);
  const float4 v = __ldg(reinterpret_cast<const float4*>(p.v) + at);
  await_previous();
  float4 copy = {0.0f, 0.0f, 0.0f, 0.0f};
  if (members > 1) copy = load_fresh(reinterpret_cast<const float4*>(p.previous) + at);
  float4* out = whole ? tile + int(threadIdx.x) / quads * p.compress * quads + quad : reinterpret_cast<float4*>(p.out) + at;
  const float weight = exp_accurate((q.x * k.x + q.y * k.y + q.z * k.z + q.w * k.w) * p.scale);
  if (!idle) out[0] = make_float4(weight * v.x, weight * v.y, weight * v.z, weight * v.w);
  copy = make_float4(0.95f * copy.x, 0.95f * copy.y, 0.95f * copy.z, 0.95f * copy.w);
  for (int member = 1; member < members; member++) out[member * quads] = copy;
  if (whole) {
    const long long begin = (long long)block * blockDim.x;
    const int live = min((long long)blockDim.x, items - begin);
    store_block(reinterpret_cast<float4*>(p.out) + begin * p.compress, tile, live * p.compress * 16);
  }
}
