// elementwise: one pass of the original kernel's work, fp32, [heads, seq, dim]; g = four consecutive dims of a token.
//   anchors (t % compress == 0): out_g = exp(dot(q_g, k_g) * scale) * v_g
//   others:                      out_g = 0.95 * previous_g of the group's anchor
// `out` and `previous` are different buffers: no block reads what another one writes.
// Traffic in vectors of dim per head, A = ceil(seq / compress) anchors, R of them with a copy: reads 3 A + R, writes seq.
// Launch: grid (ceil(A * dim / 4 / 256), heads), 256 threads, one thread per (group, four dims).
#include "../params.h"

extern "C" __global__ __launch_bounds__(256) void elementwise(const ElementwiseParams p) {
  const int quads = p.dim / 4, groups = (p.seq + p.compress - 1) / p.compress;
  const long long item = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (item >= (long long)groups * quads) return;
  const int group = int(item / quads), quad = int(item % quads);
  const int anchor = group * p.compress, end = min(p.compress, p.seq - anchor);
  const long long at = ((long long)blockIdx.y * p.seq + anchor) * quads + quad;
  const float4 q = __ldg(reinterpret_cast<const float4*>(p.q) + at), k = __ldg(reinterpret_cast<const float4*>(p.k) + at);
  const float4 v = __ldg(reinterpret_cast<const float4*>(p.v) + at);
  float4 copy = {0.0f, 0.0f, 0.0f, 0.0f};
  if (end > 1) copy = __ldg(reinterpret_cast<const float4*>(p.previous) + at);
  float4* out = reinterpret_cast<float4*>(p.out) + at;
  const float weight = __expf((q.x * k.x + q.y * k.y + q.z * k.z + q.w * k.w) * p.scale);
  out[0] = make_float4(weight * v.x, weight * v.y, weight * v.z, weight * v.w);
  copy = make_float4(0.95f * copy.x, 0.95f * copy.y, 0.95f * copy.z, 0.95f * copy.w);
  for (int token = 1; token < end; token++) out[(long long)token * quads] = copy;
}
