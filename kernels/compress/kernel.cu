// compress: an elastic cache from a full one (CompressParams). Each closed group's slot is chosen or averaged, quantised and
// stored; sinks, open group and window are copied.
// Traffic: the full cache's values once (keys too where they are kept), the elastic cache written once.
// Launch: grid (any, rows), 128 threads; a warp does one group or one exact token at a time.
#pragma once
#include "group.cuh"

extern "C" __global__ __launch_bounds__(128) void compress(const CompressParams p) {
  const int lane = threadIdx.x % 32, row = blockIdx.y;
  const int groups = closed_groups(p.cache, p.source_tokens);
  const int in_groups = groups * p.cache.compress, exact = p.source_tokens - in_groups;
  const int head = min(p.cache.sinks, p.source_tokens);
  const Source source = {p.k, p.v, (long long)row * p.source_capacity, 0, 0};
  const int warps = gridDim.x * (blockDim.x / 32);
  for (int item = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; item < groups + exact; item += warps) {
    if (item < groups) {
      close_group(p.cache, source, row, item, p.anchor, p.anchor_bias, lane);
    } else {
      const int entry = item - groups, token = entry < head ? entry : entry + in_groups;
      copy_token(p.cache, p.k, p.v, source.vector(token), row, token, lane);
    }
  }
}
