// Every CUDA kernel in one translation unit, so that each architecture is one compilation (nvcc or NVRTC).
// Conventions: kernels are extern "C", take one parameter block of ../params.h by value, and use no CUDA header.
#include "kernels_cuda.h"  // written by build/headers.py: kernels/<name>/kernel.cu of each
