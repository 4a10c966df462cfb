// The functions of one target of the library (elastickv.cpp defines one such table per target, dispatch.cpp selects one).
#pragma once
#include "../params.h"

struct Kernel {
  const char* name;
  void (*launch)(const void* params);  // params: the kernel's parameter block
};

struct Kernels {
  const char* instructions;  // vector instructions that it was compiled for
  const Kernel* kernels;     // in the same order for every target
  int count;
  double (*run)(int n, const int* kernels, void* const* params);  // kernels: places in that list
  long long (*decode_workspace)(const DecodeParams* p);
  void (*set_bytes)(void* address, long long bytes, int value);
  int* threads;
};
