// Functions of every target other than kernels: timing of replayed launches, and a parallel memset.
#pragma once
#include <chrono>
#include <cstring>

#include "threads.hpp"

namespace elastickv {

// Makes n launches in order; returns the seconds they took, or -1 at the first that is refused (nothing after it runs).
template <typename Launch>
static double seconds_of(int n, const Launch& launch) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < n; ++i)
    if (!launch(i)) return -1;
  return double((std::chrono::steady_clock::now() - start).count()) * std::chrono::steady_clock::period::num /
         std::chrono::steady_clock::period::den;
}

// memset by all threads in the parts that `fill` and `stream` use: each touches first what it later works on (NUMA).
static void set_bytes(void* address, long long bytes, int value) {
#pragma omp parallel num_threads(thread_count) if (bytes > (1 << 20))
  {
    const Share share = my_share(bytes, 4096);
    std::memset(static_cast<char*>(address) + share.begin, value, size_t(share.end - share.begin));
  }
}

}  // namespace elastickv
