// What a format keeps for each KV head (a matrix, a mean), as workflow/elastickv/formats/base.py declares it: kernels/formats
// specialises PerHead of such a format, once for both kinds of kernels. `state` is that of a vector's head.
//   floats(dim): fp32 values of a head's state
//   stored(state, x, dim, i): element i of what is encoded instead of x; bit for bit that of the format's Python file
//   query(state, q, dim, i): element i of the query that what is stored is multiplied with
//   shift(state, q, dim): what is added to these dot products
//   answer(state, o, dim, i): element i of the weighted mean of vectors, given that of what is stored for them
#pragma once
#include "format.h"

#ifdef __CUDACC__
#define ELASTICKV_PER_HEAD static __device__ inline
#else
#define ELASTICKV_PER_HEAD static inline
namespace elastickv {
#endif

struct NothingPerHead {
  static constexpr bool KEPT = false;
  ELASTICKV_PER_HEAD int floats(int) { return 0; }
  ELASTICKV_PER_HEAD float stored(const float*, const float* x, int, int i) { return x[i]; }
  ELASTICKV_PER_HEAD float query(const float*, const float* q, int, int i) { return q[i]; }
  ELASTICKV_PER_HEAD float shift(const float*, const float*, int) { return 0.0f; }
  ELASTICKV_PER_HEAD float answer(const float*, const float* o, int, int i) { return o[i]; }
};

template <int FORMAT>
struct PerHead : NothingPerHead {};

#ifndef __CUDACC__
}  // namespace elastickv
#endif
