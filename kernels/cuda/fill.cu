// fill: seeded values, mean 0 and standard deviation 1 (numerics.seeded_values is the reference, bit for bit).
//   out[i] = (sum of the four bytes of Philox word i - 510) / 147.8       (Philox4x32-10: Salmon et al., SC 2011)
// Traffic: writes `count` elements. Launch: grid-stride, one thread per four elements.
#include "convert.cuh"

__device__ inline uint4 philox(uint4 counter, unsigned key0, unsigned key1) {
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
    const unsigned high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
    counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

__device__ inline float value_of(unsigned word) {
  const int sum = (word & 0xff) + ((word >> 8) & 0xff) + ((word >> 16) & 0xff) + (word >> 24);
  return div_rn(float(sum - 510), 147.8f);
}

template <int DTYPE>
__device__ void fill(const FillParams& p) {
  const long long blocks = (p.count + 3) / 4, stride = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < blocks; i += stride) {
    const uint4 words = philox(make_uint4(unsigned(i), unsigned(i >> 32), p.stream, 0u), p.seed, 0u);
    const float4 x = {value_of(words.x), value_of(words.y), value_of(words.z), value_of(words.w)};
    const bool aligned = reinterpret_cast<unsigned long long>(p.out) % 16 == 0;
    if (aligned && 4 * i + 4 <= p.count) {
      store4<DTYPE>(p.out, 4 * i, x);
    } else {
      const float each[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (4 * i + j < p.count) store1<DTYPE>(p.out, 4 * i + j, each[j]);
    }
  }
}

extern "C" __global__ void fill_fp32(const FillParams p) { fill<FP32>(p); }
extern "C" __global__ void fill_fp16(const FillParams p) { fill<FP16>(p); }
extern "C" __global__ void fill_bf16(const FillParams p) { fill<BF16>(p); }
