// compress: an elastic cache from a full one (CompressParams). Groups become slots, chosen or averaged and stored in their
// segment's formats; exact tokens are copied.
// Traffic: the full cache's values once (keys too where they are kept), the elastic cache written once.
// Launch: grid (any, rows), 128 threads; a warp does one slot at a time. `compress` takes dims up to 128: with half of the
// registers that 256 dims take, an SM holds more warps.
#pragma once
#include "group.cuh"

template <class Vector>
__device__ inline void make_slots(const CompressParams& p) {
  const int lane = threadIdx.x % 32, row = blockIdx.y;
  const int warps = gridDim.x * (blockDim.x / 32);
  const long long source = (long long)row * p.source_capacity;
  const Run* runs = p.runs + row % p.cache.kv_heads * MOST_RUNS;
#pragma unroll 1
  for (int item = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;; item += warps) {
    int i = 0, of_run = item;  // which slot of which run
    while (i < MOST_RUNS && of_run >= runs[i].slots) of_run -= runs[i++].slots;
    if (i == MOST_RUNS) return;
    const Run run = runs[i];
    const int token = run.token + of_run * run.each, step = run.slot + of_run;
    const int slot = run.ring > 0 ? run.head + step % run.ring : step;
    if (run.segment == 0) {
      copy_token(p.cache, p.k, p.v, source + token, row, slot, lane);
    } else {
      const Group group = {p.k, p.v, source + token, 0, ENDLESS, run.each, p.cache.dtype, p.cache.dim, lane};
      close_group<Vector>(group, p.cache, p.cache.segments[run.segment], row, slot, token, run.bias);
    }
  }
}

extern "C" __global__ __launch_bounds__(128, 8) void compress(const CompressParams p) { make_slots<Pairs<2>>(p); }
extern "C" __global__ __launch_bounds__(128, 8) void compress_d256(const CompressParams p) { make_slots<Pairs<MOST_PAIRS, 2>>(p); }
