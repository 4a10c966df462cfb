// Every CUDA kernel in one translation unit, so that each architecture is one compilation (nvcc or NVRTC).
// Conventions: kernels are extern "C", take one parameter block of ../params.h by value, and use no CUDA header.
#include "advance.cu"
#include "append.cu"
#include "close.cu"
#include "compress.cu"
#include "decode.cu"
#include "decode_tensor.cu"
#include "elementwise.cu"
#include "fill.cu"
#include "stream.cu"
