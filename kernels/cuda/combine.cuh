// From the shares of a block's warps to the answer: the warps merge in shared memory; with several splits the partials of
// all blocks merge in the block that arrives last. Not hot, so nothing here is a template. All orders are fixed.
#pragma once
#include "state.cuh"

// Which query heads this block works for.
struct Tile {
  int row;
  int first_head;
  int heads;   // TILE, some of them perhaps past the group
  int widest;  // largest dim of the instance
};

// Dynamic shared memory of a block (backends/cuda_launch.py computes the same size).
struct Scratch {
  float4* sums;         // [warps, heads, widest / 4]
  float4* crew_sums;    // [threads]
  float2* bounds;       // [warps, heads]: m, l
  float2* crew_bounds;  // [threads]

  __device__ Scratch(float4* memory, int heads, int widest) {
    const int warps = blockDim.x / 32;
    sums = memory;
    crew_sums = sums + warps * heads * widest / 4;
    bounds = reinterpret_cast<float2*>(crew_sums + blockDim.x);
    crew_bounds = bounds + warps * heads;
  }
};

// Where the partials of all blocks lie: a counter per (row, query head), whatever the tile, then (m, l) per partial and
// head, then the unnormalised answers (backends/cuda_launch.py computes the same size).
struct Workspace {
  unsigned* arrived;
  float2* bounds;  // [blocks, heads]
  float4* sums;    // [blocks, heads, dim / 4]

  __device__ Workspace(const DecodeParams& p, int heads) {
    const int counters = (p.cache.rows * p.group * 4 + 255) / 256 * 256;
    const long long partials = (long long)gridDim.x * gridDim.y * heads;
    arrived = static_cast<unsigned*>(p.workspace);
    bounds = reinterpret_cast<float2*>(static_cast<char*>(p.workspace) + counters);
    sums = reinterpret_cast<float4*>(bounds + (partials + 1) / 2 * 2);
  }
};

// Reads that must see what other blocks wrote during this launch come from L2.
__device__ inline float4 load_from_l2(const float4* from) {
  float4 x;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "l"(from)
               : "memory");
  return x;
}

__device__ inline float2 load_from_l2(const float2* from) {
  float2 x;
  asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "l"(from) : "memory");
  return x;
}

// Counts this block as arrived; true in all threads of the one that completes `expected`. That block resets the counter for
// the next launch. What every block wrote before its call is visible to the last one after it.
__device__ inline bool arrived_last(unsigned* counter, unsigned expected) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned before;
#if __CUDA_ARCH__ >= 700
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
#else
    __threadfence();
    before = atomicAdd(counter, 1u);
    __threadfence();
#endif
    last = before == expected - 1;
    if (last) *counter = 0;
  }
  __syncthreads();
  return last;
}

__device__ inline void write_answer(const DecodeParams& p, const Tile& tile, int j, int quad, const Partial& partial) {
  if (tile.first_head + j >= p.group) return;
  const long long head = (long long)tile.row * p.group + tile.first_head + j;
  const float4 x = partial.normalised();
  if (p.cache.dtype == FP32) store4<FP32>(p.out, head * p.cache.dim + quad * 4, x);
  else if (p.cache.dtype == FP16) store4<FP16>(p.out, head * p.cache.dim + quad * 4, x);
  else store4<BF16>(p.out, head * p.cache.dim + quad * 4, x);
}

// Merges partials first, first + step, ... of the splits of this block's tile, eight loads in flight.
__device__ inline Partial gather(const Workspace& workspace, int heads, int quads, int j, int quad, int first, int step) {
  constexpr int IN_FLIGHT = 8;
  const int splits = gridDim.y;
  Partial all;
#pragma unroll 1
  for (int split = first; split < splits; split += step * IN_FLIGHT) {
    float2 bound[IN_FLIGHT];
    float4 sum[IN_FLIGHT];
    float largest = all.m;
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++) {
      const long long block = (long long)min(split + i * step, splits - 1) * gridDim.x + blockIdx.x;
      bound[i] = load_from_l2(workspace.bounds + block * heads + j);
      sum[i] = load_from_l2(workspace.sums + (block * heads + j) * quads + quad);
    }
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++) largest = fmaxf(largest, bound[i].x);
    all.rescale(largest);
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++)
      if (split + i * step < splits) all.add(exp2_approx(bound[i].x - largest), bound[i].y, sum[i]);
  }
  return all;
}

// The answers of this block's tile from the partials of all its splits. With fewer (head, four dims) items than threads
// several crews take every crews-th split each; crew 0 merges what they found.
__device__ inline void combine(const DecodeParams& p, const Workspace& workspace, const Scratch& scratch, const Tile& tile) {
  const int quads = p.cache.dim / 4, items = tile.heads * quads, threads = blockDim.x;
  const int crews = items < threads ? threads / items : 1;
#pragma unroll 1
  for (int thread = threadIdx.x; thread < items * crews; thread += threads) {
    const int item = thread % items;
    const Partial all = gather(workspace, tile.heads, quads, item / quads, item % quads, thread / items, crews);
    if (crews == 1) {
      write_answer(p, tile, item / quads, item % quads, all);
    } else {
      scratch.crew_sums[thread] = all.o;
      scratch.crew_bounds[thread] = make_float2(all.m, all.l);
    }
  }
  __syncthreads();
  if (crews == 1 || threadIdx.x >= items) return;
  Partial all;
#pragma unroll 1
  for (int at = threadIdx.x; at < items * crews; at += items) all.merge(scratch.crew_bounds[at], scratch.crew_sums[at]);
  write_answer(p, tile, threadIdx.x / quads, threadIdx.x % quads, all);
}

// Merges the warps of a block; writes the answer, or a partial and, in the last block to arrive, the answer of all splits.
__device__ inline void finish(const DecodeParams& p, const Scratch& scratch, const Tile& tile) {
  const int quads = p.cache.dim / 4, items = tile.heads * quads, warps = blockDim.x / 32;
  const Workspace workspace(p, tile.heads);
  const long long first = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * tile.heads;
#pragma unroll 1
  for (int item = threadIdx.x; item < items; item += blockDim.x) {
    const int j = item / quads, quad = item % quads;
    Partial all;
#pragma unroll 1
    for (int head = j; head < warps * tile.heads; head += tile.heads)
      all.merge(scratch.bounds[head], scratch.sums[head * (tile.widest / 4) + quad]);
    if (gridDim.y == 1) {
      write_answer(p, tile, j, quad, all);
    } else {
      workspace.sums[(first + j) * quads + quad] = all.o;
      if (quad == 0) workspace.bounds[first + j] = make_float2(all.m, all.l);
    }
  }
  if (gridDim.y > 1 && arrived_last(workspace.arrived + blockIdx.x, gridDim.y)) combine(p, workspace, scratch, tile);
}
