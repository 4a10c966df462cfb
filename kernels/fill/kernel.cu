// fill: seeded random values, the same bits as workflow/elastickv/cache/numerics.py (formula: FillParams in params.h).
//   Philox4x32-10 (Salmon et al., SC 2011): one counter gives four words, a word's four bytes summed give one value.
// Traffic: count elements written. Launch: any grid of 256 threads; a thread makes four elements at a time.
#pragma once
#include "convert.cuh"

__device__ inline uint4 philox4x32_10(uint4 counter, Word32 key0, Word32 key1) {
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned long long a = 0xD2511F53ull * counter.x, b = 0xCD9E8D57ull * counter.z;
    counter = make_uint4(Word32(b >> 32) ^ counter.y ^ key0, Word32(b), Word32(a >> 32) ^ counter.w ^ key1, Word32(a));
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

__device__ inline float value_of(Word32 word) {
  const int sum = int(word & 0xff) + int(word >> 8 & 0xff) + int(word >> 16 & 0xff) + int(word >> 24);
  return div_rn(float(sum - 510), 147.8f);
}

extern "C" __global__ void fill(const FillParams p) {
  const long long blocks = (p.count + 3) / 4, step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < blocks; i += step) {
    const uint4 words = philox4x32_10(make_uint4(Word32(i), Word32(i >> 32), p.stream, 0), p.seed, 0);
    const Word32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const long long at = i * 4 + j;
      if (at >= p.count) return;
      const float value = value_of(word[j]);
      if (p.dtype == FP32) store1<FP32>(p.out, at, value);
      else if (p.dtype == FP16) store1<FP16>(p.out, at, value);
      else store1<BF16>(p.out, at, value);
    }
  }
}
