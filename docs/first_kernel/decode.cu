// The first rung: attention of one new token over its KV cache, one warp per query head.
//
//   o = sum_i softmax_i(q . k_i / sqrt(dim)) v_i
//
// Layout: q and out [heads, dim]; k and v [heads / group, slots, dim], as `group` query heads share one KV head (batch
//   entries are further heads). T is __half or float; all arithmetic is in float.
// Launch: grid = heads, 32 threads. The warp visits the slots in turn. Lane l owns the dims l, l + 32, l + 64, ...
// Traffic: every key and value once per query head; query and output once. No workspace.
// Build: nvcc -cubin -arch=sm_90 docs/first_kernel/decode.cu
#include <cuda_fp16.h>

constexpr int LANES = 32, MOST_DIMS = 256, OWNED = MOST_DIMS / LANES;

template <typename T>
__device__ void attend(const T* q, const T* k, const T* v, T* out, int slots, int dim, int group) {
  const int head = blockIdx.x, lane = threadIdx.x;
  const size_t cache = size_t(head / group) * slots * dim;  // where this head's KV head begins

  // Arrays of a fixed size and loops that unroll, so that all of this stays in registers.
  float query[OWNED] = {}, sum[OWNED] = {};
  for (int j = 0, d = lane; j < OWNED; ++j, d += LANES)
    if (d < dim) query[j] = float(q[head * dim + d]) * rsqrtf(float(dim));

  // Online softmax: `largest` is the largest logit so far. `total` and `sum` are relative to it, and are rescaled when a
  // larger one comes, so that no second pass over the keys is needed.
  float largest = -INFINITY, total = 0;
  for (int slot = 0; slot < slots; ++slot) {
    const T* key = k + cache + size_t(slot) * dim;
    const T* value = v + cache + size_t(slot) * dim;

    float logit = 0;
    for (int j = 0, d = lane; j < OWNED; ++j, d += LANES)
      if (d < dim) logit += query[j] * float(key[d]);
    for (int step = LANES / 2; step > 0; step /= 2) logit += __shfl_xor_sync(0xffffffff, logit, step);  // over lanes

    const float bound = fmaxf(largest, logit), rescale = expf(largest - bound), weight = expf(logit - bound);
    largest = bound;
    total = total * rescale + weight;
    for (int j = 0, d = lane; j < OWNED; ++j, d += LANES)
      if (d < dim) sum[j] = sum[j] * rescale + weight * float(value[d]);
  }
  for (int j = 0, d = lane; j < OWNED; ++j, d += LANES)
    if (d < dim) out[head * dim + d] = T(sum[j] / total);
}

extern "C" __global__ void first_decode_fp16(
    const __half* q, const __half* k, const __half* v, __half* out, int slots, int dim, int group) {
  attend(q, k, v, out, slots, dim, group);
}

extern "C" __global__ void first_decode_fp32(
    const float* q, const float* k, const float* v, float* out, int slots, int dim, int group) {
  attend(q, k, v, out, slots, dim, group);
}
