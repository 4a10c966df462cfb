// The CPU library's interface: the kernels of the best target that this processor can run. ELASTICKV_TARGETS lists the
// targets compiled in, the best one first, as X(name) X(name) …; compiled for any processor of the architecture.
#include <cstring>

#include "kernels.hpp"

#define X(name) extern "C" const Kernels elastickv_table_##name;
ELASTICKV_TARGETS
#undef X

// Whether the processor and the system support a target. Targets not listed here need only the base architecture, or were
// compiled for this machine.
static bool runs(const char* target) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (!std::strcmp(target, "avx2")) return avx2;
  if (!std::strcmp(target, "avx512"))
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  return target != nullptr;
}

static const Kernels* table_of(const char* target) {
#define X(name) \
  if (!std::strcmp(target, #name)) return &elastickv_table_##name;
  ELASTICKV_TARGETS
#undef X
  return nullptr;
}

static const char* const TARGETS[] = {
#define X(name) #name,
    ELASTICKV_TARGETS
#undef X
};

static const char* best() {
  for (const char* target : TARGETS)
    if (runs(target)) return target;
  return nullptr;
}

static const Kernels* chosen = best() ? table_of(best()) : nullptr;

// Name of target number `id`, the best one first; null past the last.
extern "C" const char* elastickv_target(int id) {
  return id >= 0 && id < int(sizeof(TARGETS) / sizeof(*TARGETS)) ? TARGETS[id] : nullptr;
}

// Switches to another target (for tests and experiments); returns 0, or -1 if it is unknown or cannot run here.
extern "C" int elastickv_use_target(const char* target) {
  const Kernels* table = table_of(target);
  if (!table || !runs(target)) return -1;
  *table->threads = *chosen->threads;
  chosen = table;
  return 0;
}

// The number of a kernel for `elastickv_run`, by its name; -1 if there is none.
extern "C" int elastickv_kernel(const char* name) {
  for (int number = 0; number < chosen->count; ++number)
    if (!std::strcmp(chosen->kernels[number].name, name)) return number;
  return -1;
}

extern "C" double elastickv_run(int n, const int* kernels, void* const* params) {
  return chosen->run(n, kernels, params);
}

// Bytes of workspace that a decode launch needs.
extern "C" long long elastickv_decode_workspace(const DecodeParams* p) { return chosen->decode_workspace(p); }

extern "C" void elastickv_set_bytes(void* address, long long bytes, int value) {
  chosen->set_bytes(address, bytes, value);
}

extern "C" int elastickv_threads() { return *chosen->threads; }

extern "C" void elastickv_set_threads(int threads) { *chosen->threads = threads; }

// The vector instructions of the target in use.
extern "C" const char* elastickv_instructions() { return chosen->instructions; }
