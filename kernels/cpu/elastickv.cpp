// All CPU kernels for one target, as one translation unit and one table of functions.
// Build: g++ -O3 -fopenmp -fPIC -std=c++17 -fno-math-errno -I kernels -c kernels/cpu/elastickv.cpp -o avx2.o
//          -mavx2 -mfma -mf16c -Delastickv=elastickv_avx2 -DELASTICKV_TABLE=elastickv_table_avx2
//        for each target, then g++ -shared -fopenmp *.o kernels/cpu/dispatch.cpp with -DELASTICKV_TARGETS=…
// (never -ffast-math: quantisation must round as IEEE says, and a NaN must reach the output).
// The namespace is renamed for each target, and nothing here may leave functions of the standard library behind that
// were not inlined: the linker keeps one of equal names, perhaps one with instructions that the processor lacks.
#include <chrono>

#include "kernels.hpp"

#include "fill.cpp"
#include "compress.cpp"
#include "append.cpp"
#include "close.cpp"
#include "advance.cpp"
#include "decode.cpp"
#include "elementwise.cpp"
#include "stream.cpp"

namespace elastickv {

// In the order of KERNEL_NAMES (dispatch.cpp).
enum Kernel { FILL = 0, COMPRESS = 1, APPEND = 2, ADVANCE = 3, DECODE = 4, ELEMENTWISE = 5, STREAM = 6, CLOSE = 7 };

template <typename Params>
static const Params& as(const void* params) {
  return *static_cast<const Params*>(params);
}

// Replays n launches in order; returns the seconds they took, or -1 at the first unknown kernel (nothing after it runs).
static double run(int n, const int* kernels, void* const* params) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < n; ++i) {
    const void* p = params[i];
    switch (kernels[i]) {
      case FILL: fill(as<FillParams>(p)); break;
      case COMPRESS: compress(as<CompressParams>(p)); break;
      case APPEND: append(as<AppendParams>(p)); break;
      case CLOSE: close(as<CloseParams>(p)); break;
      case ADVANCE: advance(as<AdvanceParams>(p)); break;
      case DECODE: decode(as<DecodeParams>(p)); break;
      case ELEMENTWISE: elementwise(as<ElementwiseParams>(p)); break;
      case STREAM: stream(as<StreamParams>(p)); break;
      default: return -1;
    }
  }
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

extern "C" const Kernels ELASTICKV_TABLE;
const Kernels ELASTICKV_TABLE = {elastickv::INSTRUCTIONS, elastickv::run, elastickv::decode_workspace,
                                 elastickv::set_bytes, &elastickv::thread_count};
