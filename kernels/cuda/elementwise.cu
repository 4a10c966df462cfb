// elementwise: the original kernel's pass (ElementwiseParams), race-free: `previous` is read, the other buffer written.
//   anchors (t % compress == 0): out_g = exp(dot(q_g, k_g) * scale) * v_g; others: out_g = 0.95 * previous_g of the anchor
// with g = 4 consecutive dims (one float4).
// Traffic, in vectors of dim fp32: 3 reads and 1 write per anchor, 1 write per other token, 1 read per group with a copy.
// Launch: 256 threads, one per (head, group, g). Neighbouring threads hold neighbouring g, so every access is coalesced.
#pragma once
#include "state.cuh"

// exp within 2 units in the last place: what x * log2 e loses to rounding comes back as a factor. (__expf loses |x| units.)
__device__ inline float exp_accurate(float x) {
  const float power = x * LOG2_E;
  const float lost = fmaf(x, LOG2_E, -power) + x * 1.925963033500e-8f;  // log2 e - LOG2_E
  return exp2_approx(power) * (fabsf(x) < 120.0f ? fmaf(lost, 0.6931471806f, 1.0f) : 1.0f);
}

extern "C" __global__ __launch_bounds__(256) void elementwise(const ElementwiseParams p) {
  const int quads = p.dim / 4, groups = (p.seq + p.compress - 1) / p.compress;
  const long long item = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (item >= (long long)p.heads * groups * quads) return;
  const int quad = item % quads, group = item / quads % groups, head = item / quads / groups;
  const int first = group * p.compress, members = min(p.compress, p.seq - first);
  const long long at = ((long long)head * p.seq + first) * quads + quad;
  const float4 q = __ldg(reinterpret_cast<const float4*>(p.q) + at);
  const float4 k = __ldg(reinterpret_cast<const float4*>(p.k) + at);
  const float4 v = __ldg(reinterpret_cast<const float4*>(p.v) + at);
  float4 copy = {0.0f, 0.0f, 0.0f, 0.0f};
  if (members > 1) copy = __ldg(reinterpret_cast<const float4*>(p.previous) + at);
  float4* out = reinterpret_cast<float4*>(p.out) + at;
  const float weight = exp_accurate((q.x * k.x + q.y * k.y + q.z * k.z + q.w * k.w) * p.scale);
  out[0] = make_float4(weight * v.x, weight * v.y, weight * v.z, weight * v.w);
  copy = make_float4(0.95f * copy.x, 0.95f * copy.y, 0.95f * copy.z, 0.95f * copy.w);
  for (int member = 1; member < members; member++) out[(long long)member * quads] = copy;
}
