// All CPU kernels for one target, as one translation unit and one table of functions. It only lists them: all other code
// that measurements depend on is in the headers (build/fingerprint.py).
// Build: g++ -O3 -fopenmp -fPIC -std=c++17 -fno-math-errno -I kernels -I kernels/cpu … -c kernels/cpu/elastickv.cpp -o avx2.o
//          -mavx2 -mfma -mf16c -Delastickv=elastickv_avx2 -DELASTICKV_TABLE=elastickv_table_avx2
//        for each target, then g++ -shared -fopenmp *.o kernels/cpu/dispatch.cpp with -DELASTICKV_TARGETS=…
// (never -ffast-math: quantisation must round as IEEE says, and a NaN must reach the output).
// The namespace is renamed for each target, and nothing here may leave functions of the standard library behind that
// were not inlined: the linker keeps one of equal names, perhaps one with instructions that the processor lacks.
#include "kernels.hpp"
#include "runtime.hpp"

#include "kernels_cpu.h"  // written by build/headers.py: kernels/<name>/kernel.cpp of each

namespace elastickv {

template <typename Params>
static const Params& as(const void* params) {
  return *static_cast<const Params*>(params);
}

static const Kernel KERNELS[] = {
#define X(NAME, PARAMS) {#NAME, [](const void* params) { NAME(as<PARAMS>(params)); }},
    ELASTICKV_KERNELS(X)
#undef X
};
constexpr int COUNT = sizeof(KERNELS) / sizeof(*KERNELS);

static double run(int n, const int* kernels, void* const* params) {
  return seconds_of(n, [&](int i) {
    const bool known = kernels[i] >= 0 && kernels[i] < COUNT;
    if (known) KERNELS[kernels[i]].launch(params[i]);
    return known;
  });
}

}  // namespace elastickv

extern "C" const Kernels ELASTICKV_TABLE;
const Kernels ELASTICKV_TABLE = {elastickv::INSTRUCTIONS,     elastickv::KERNELS,   elastickv::COUNT,       elastickv::run,
                                 elastickv::decode_workspace, elastickv::set_bytes, &elastickv::thread_count};
