// Per-head state of formats (a matrix, a mean), as declared in workflow/elastickv/formats/base.py: kernels/formats specialises
// PerHead for such a format, once for both kinds of kernels. `state` is the state of a vector's head.
//   floats(dim): fp32 values of a head's state
//   stored(state, x, dim, i): element i of the transformed vector to encode; bitwise equal to that of the format's Python file
//   query(state, q, dim, i): element i of the query to multiply with stored keys
//   shift(state, q, dim): the term to add to these dot products
//   answer(state, o, dim, i): element i of the answer, from the weighted mean of stored values
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
