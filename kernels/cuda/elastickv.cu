// Every CUDA kernel in one translation unit, so that each architecture is one compilation (nvcc or NVRTC).
// Kernels are extern "C", take one parameter block of ../params.h by value, and need no CUDA header.
// backends/cuda_launch.py knows their names and launch shapes.
#include "advance.cu"
#include "append.cu"
#include "compress.cu"
#include "decode.cu"
#include "elementwise.cu"
#include "fill.cu"
#include "stream.cu"
