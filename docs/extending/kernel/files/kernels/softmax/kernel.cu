// softmax: of each row of scores (SoftmaxParams).
// Traffic: every score read and every weight written once.
// Launch: grid rows, SOFTMAX_THREADS threads, 4 bytes of shared memory a column: the row waits there for its sum.
#include "dependent.cuh"
#include "softmax/params.h"
#include "state.cuh"

constexpr int SOFTMAX_THREADS = 256;

extern "C" __global__ __launch_bounds__(SOFTMAX_THREADS) void softmax(const SoftmaxParams p) {
  extern __shared__ float softmax_row[];
  __shared__ float of_warps[SOFTMAX_THREADS / 32];
  let_next_begin();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float* scores = p.scores + (long long)blockIdx.x * p.columns;
  float* out = p.out + (long long)blockIdx.x * p.columns;

  float most = minus_infinity();
  for (int i = threadIdx.x; i < p.columns; i += SOFTMAX_THREADS) {
    softmax_row[i] = __ldg(scores + i);
    most = fmaxf(most, softmax_row[i]);
  }
  most = warp_max(most);
  if (lane == 0) of_warps[warp] = most;
  __syncthreads();
  most = warp_max(lane < SOFTMAX_THREADS / 32 ? of_warps[lane] : minus_infinity());
  __syncthreads();  // all have read the maxima before sums take their place

  float total = 0.0f;
  for (int i = threadIdx.x; i < p.columns; i += SOFTMAX_THREADS)
    total += softmax_row[i] = exp2_approx((softmax_row[i] - most) * LOG2_E);
  total = warp_sum(total);
  if (lane == 0) of_warps[warp] = total;
  __syncthreads();
  total = warp_sum(lane < SOFTMAX_THREADS / 32 ? of_warps[lane] : 0.0f);

  await_previous();  // nothing is written before: an earlier launch may still write the same place
  for (int i = threadIdx.x; i < p.columns; i += SOFTMAX_THREADS) out[i] = softmax_row[i] / total;
}
