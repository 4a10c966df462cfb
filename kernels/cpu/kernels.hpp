// What one target of the library offers (elastickv.cpp makes one such table per target, dispatch.cpp picks one).
#pragma once
#include "../params.h"

struct Kernels {
  const char* instructions;  // vector instructions that it was compiled for
  double (*run)(int n, const int* kernels, void* const* params);
  long long (*decode_workspace)(const DecodeParams* p);
  void (*set_bytes)(void* address, long long bytes, int value);
  int* threads;
};
