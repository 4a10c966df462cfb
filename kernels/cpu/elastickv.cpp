// The CPU library: one translation unit of all kernels, and what the backend needs beside them.
// Build: g++ -O3 -march=native -fopenmp -fPIC -shared -std=c++17 -fno-math-errno -I kernels kernels/cpu/elastickv.cpp
// (never -ffast-math: quantisation must round as IEEE says, and a NaN must reach the output).
#include <chrono>

#include "fill.cpp"
#include "compress.cpp"
#include "append.cpp"
#include "advance.cpp"
#include "decode.cpp"
#include "elementwise.cpp"
#include "stream.cpp"

enum Kernel { FILL = 0, COMPRESS = 1, APPEND = 2, ADVANCE = 3, DECODE = 4, ELEMENTWISE = 5, STREAM = 6, KERNELS = 7 };

static const char* const KERNEL_NAMES[KERNELS] = {"fill",   "compress",    "append", "advance",
                                                  "decode", "elementwise", "stream"};

// Name of kernel number `id`; null past the last.
extern "C" const char* elastickv_kernel_name(int id) { return id >= 0 && id < KERNELS ? KERNEL_NAMES[id] : nullptr; }

// Replays n launches in order; returns the seconds they took, or -1 at the first unknown kernel (nothing after it runs).
extern "C" double elastickv_run(int n, const int* kernels, void* const* params) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < n; ++i) {
    const void* p = params[i];
    switch (kernels[i]) {
      case FILL: elastickv_fill(static_cast<const FillParams*>(p)); break;
      case COMPRESS: elastickv_compress(static_cast<const CompressParams*>(p)); break;
      case APPEND: elastickv_append(static_cast<const AppendParams*>(p)); break;
      case ADVANCE: elastickv_advance(static_cast<const AdvanceParams*>(p)); break;
      case DECODE: elastickv_decode(static_cast<const DecodeParams*>(p)); break;
      case ELEMENTWISE: elastickv_elementwise(static_cast<const ElementwiseParams*>(p)); break;
      case STREAM: elastickv_stream(static_cast<const StreamParams*>(p)); break;
      default: return -1;
    }
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

extern "C" int elastickv_threads() { return elastickv::thread_count; }

extern "C" void elastickv_set_threads(int threads) { elastickv::thread_count = threads; }

// The vector instructions that this library was compiled for.
extern "C" const char* elastickv_instructions() { return elastickv::INSTRUCTIONS; }

// memset by all threads in the parts that `fill` and `stream` use: each touches first what it later works on (NUMA).
extern "C" void elastickv_set_bytes(void* address, long long bytes, int value) {
  using namespace elastickv;
#pragma omp parallel num_threads(thread_count) if (bytes > (1 << 20))
  {
    const Share share = my_share(bytes, 4096);
    std::memset(static_cast<char*>(address) + share.begin, value, size_t(share.end - share.begin));
  }
}
