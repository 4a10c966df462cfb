// stream: a pure pass over read_bytes and write_bytes (multiples of 16), for the ceilings. Reads and writes advance at the
// same pace: step i of n reads the i-th n-th of the one buffer and writes the i-th n-th of the other.
// Traffic: what it says. Launch: any grid of 256-thread blocks; a step is at most 2048 vectors (32 KB) each way.
#include "fragment.cuh"

constexpr int STREAM_THREADS = 256;
constexpr int STREAM_LOADS = 8;

extern "C" __global__ __launch_bounds__(STREAM_THREADS) void stream(const StreamParams p) {
  const long long reads = p.read_bytes / 16, writes = p.write_bytes / 16;
  constexpr int STEP = STREAM_THREADS * STREAM_LOADS;
  const long long steps = ((reads > writes ? reads : writes) + STEP - 1) / STEP;
  const uint4* from = static_cast<const uint4*>(p.read);
  uint4* to = static_cast<uint4*>(p.write);
  uint4 seen = make_uint4(0, 0, 0, 0);
  for (long long step = blockIdx.x; step < steps; step += gridDim.x) {
    // steps * larger fits: 2^63 / 2^11 vectors of 16 bytes is far beyond any memory.
    const long long read_begin = reads * step / steps, read_end = reads * (step + 1) / steps;
    uint4 word[STREAM_LOADS];
#pragma unroll
    for (int i = 0; i < STREAM_LOADS; i++) {
      const long long at = read_begin + threadIdx.x + i * STREAM_THREADS;
      word[i] = make_uint4(0, 0, 0, 0);
      if (at < read_end) load_streamed(from + at, word[i]);
    }
    const long long write_begin = writes * step / steps, write_end = writes * (step + 1) / steps;
    const unsigned value = unsigned(step);
#pragma unroll
    for (int i = 0; i < STREAM_LOADS; i++) {
      const long long at = write_begin + threadIdx.x + i * STREAM_THREADS;
      if (at < write_end) to[at] = make_uint4(value, value, value, value);
    }
#pragma unroll
    for (int i = 0; i < STREAM_LOADS; i++)
      seen = make_uint4(seen.x ^ word[i].x, seen.y ^ word[i].y, seen.z ^ word[i].z, seen.w ^ word[i].w);
  }
  // Practically never true, which the compiler cannot know: everything read must really be read.
  if ((seen.x ^ seen.y ^ seen.z ^ seen.w) == 0x9E3779B9u) *p.sink = seen.x;
}
