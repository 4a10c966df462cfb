// The number of threads that kernels use, and the part of the work of each. Parts depend only on the number of threads,
// so results are bitwise repeatable for a fixed number.
#pragma once
#include <omp.h>

namespace elastickv {

// Set once by the backend (affinity, cgroup quota, OMP_NUM_THREADS); omp_set_num_threads would hold for one caller only.
inline int thread_count = omp_get_max_threads();

struct Share {
  long long begin;
  long long end;
};

// The calling thread's contiguous part of [0, count), its ends multiples of `grain` except the last.
inline Share my_share(long long count, long long grain = 1) {
  const long long pieces = (count + grain - 1) / grain;
  const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
  const long long begin = pieces * thread / threads * grain, end = pieces * (thread + 1) / threads * grain;
  return {begin < count ? begin : count, end < count ? end : count};
}

}  // namespace elastickv
