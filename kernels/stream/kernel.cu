// stream: a pure pass, `read_bytes` in and `write_bytes` out, for ceilings (StreamParams). It moves its bytes as real passes
// do: each thread reads up to STREAM_ROWS vectors of 16 bytes from as many places far apart, then writes up to as many.
// As many threads as the smaller of both ranges has vectors keep reads and writes at the same pace (measured best for every
// mix from reads alone to two writes a read). Launch: one thread an item, stream_items(reads, writes) in all, 256 a block.
#pragma once
#include "dependent.cuh"

constexpr int STREAM_THREADS = 256;
constexpr int STREAM_ROWS = 4;

// Also in launch.py. Whole warps, so that every row begins at a multiple of 512 bytes.
__device__ inline long long stream_items(long long reads, long long writes) {
  const long long most = max(reads, writes), rows = (most + STREAM_ROWS - 1) / STREAM_ROWS;
  return (max(min(reads, writes), rows) + 31) / 32 * 32;
}

extern "C" __global__ __launch_bounds__(STREAM_THREADS) void stream(const StreamParams p) {
  let_next_begin();
  const long long reads = p.read_bytes / 16, writes = p.write_bytes / 16, items = stream_items(reads, writes);
  const long long item = (long long)blockIdx.x * STREAM_THREADS + threadIdx.x;
  if (item >= items) return;
  const uint4* from = static_cast<const uint4*>(p.read);
  uint4* to = static_cast<uint4*>(p.write);
  uint4 x[STREAM_ROWS];
#pragma unroll
  for (int row = 0; row < STREAM_ROWS; row++) {
    const long long at = item + row * items;
    x[row] = at < reads ? __ldg(from + at) : make_uint4(0, 0, 0, 0);
  }
  await_previous();
  uint4 sum = x[0];
#pragma unroll
  for (int row = 1; row < STREAM_ROWS; row++)
    sum = make_uint4(sum.x ^ x[row].x, sum.y ^ x[row].y, sum.z ^ x[row].z, sum.w ^ x[row].w);
#pragma unroll
  for (int row = 0; row < STREAM_ROWS; row++)
    if (item + row * items < writes) to[item + row * items] = sum;
  const Word32 word = sum.x ^ sum.y ^ sum.z ^ sum.w;
  if (word == 0x9e3779b9u) *p.sink = word;  // almost never true, but the compiler must keep the loads
}
