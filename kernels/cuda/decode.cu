// decode: attention of one new token over a cache, split over blocks, combined by the block that arrives last.
//   out[row, j] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i        (Dao et al., flash-decoding)
//
// Traffic: every live key and value once (per TILE query heads; tiles of a row run side by side and share them through L2),
// 4 bytes per quantised slot for its scales, 4 per slot for a bias, q and out once.
// Launch: grid (rows * ceil(group / TILE), splits), any whole number of warps up to 16 (TILE 1) or 12 (TILE 4), which is
// what the registers of an SM hold; shared memory as Scratch. One wave of resident blocks is best.
//
// The units of the middle segment (reader.cuh), then those of the exact one, form one list. A block owns a range of it and
// its warps take turns, so that neighbouring rows of memory are read at about the same time.
#include "combine.cuh"
#include "reader.cuh"

// One warp's share goes to shared memory: lanes that hold the same dims of different rows are summed first.
template <class S>
__device__ void publish(State<S>& state, const typename S::Lane& columns, int lane, const Scratch& scratch) {
  const int warp = threadIdx.x / 32;
#pragma unroll
  for (int j = 0; j < S::TILE; j++) {
    const float l = warp_sum(state.l[j]);
    if (lane == 0) scratch.bounds[warp * S::TILE + j] = make_float2(state.m[j], l);
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++)
#pragma unroll
      for (int step = S::LANES; step < 32; step *= 2)
        state.o[j][e] += __shfl_xor_sync(WHOLE_WARP, state.o[j][e], step);
    if (lane >= S::LANES) continue;
    const float* o = state.o[j];
    float4* sums = scratch.sums + (warp * S::TILE + j) * (S::WIDEST / 4);
    const int first = columns.position(0), second = S::SPLIT ? columns.position(1) : first + 4;
    sums[first / 4] = make_float4(o[0], o[1], o[2], o[3]);
    sums[second / 4] = make_float4(o[4], o[5], o[6], o[7]);
  }
}

// The queries, times scale * log2 e (zero where a lane lies past dim), and nothing seen yet. Heads past the group repeat the
// last one and are not written.
template <class S>
__device__ void begin(State<S>& state, const DecodeParams& p, const Tile& tile, const typename S::Lane& columns) {
#pragma unroll
  for (int j = 0; j < S::TILE; j++) {
    const long long head = (long long)tile.row * p.group + min(tile.first_head + j, p.group - 1);
    Fragment<S::DTYPE> q;
    columns.load(q, static_cast<const char*>(p.q) + head * row_bytes(S::DTYPE, p.cache.dim));
    q.unpack(state.q[j]);
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
      state.q[j][e] *= columns.inside(e / S::Lane::WIDTH) ? p.scale * LOG2_E : 0.0f;
      state.o[j][e] = 0.0f;
    }
    state.m[j] = NO_LOGIT;
    state.l[j] = 0.0f;
  }
}

// First unit of split `split` when `units` are dealt out in contiguous ranges whose lengths differ by at most one.
__device__ inline int first_unit(int units, int split) {
  const int each = units / gridDim.y, rest = units % gridDim.y;
  return split * each + min(split, rest);
}

template <class S, int MIDDLE>
__device__ void decode(const DecodeParams& p) {
  extern __shared__ float4 shared_memory[];
  using Exact = Reader<S, S::DTYPE>;
  const int lane = threadIdx.x % 32, tiles = (p.group + S::TILE - 1) / S::TILE;
  const Tile tile = {int(blockIdx.x) / tiles, int(blockIdx.x) % tiles * S::TILE, S::TILE, S::WIDEST};
  const typename S::Lane columns = {lane % S::LANES, p.cache.dim};
  const int tokens = *p.cache.tokens + p.pending;

  State<S> state;
  begin<S>(state, p, tile, columns);
  const Segment middle = middle_segment(p.cache, tile.row, tokens), exact = exact_segment(p.cache, tile.row, tokens);
  const int middle_units = Reader<S, MIDDLE>::units(middle.slots.count);
  const int units = middle_units + Exact::units(exact.slots.count);
  const int end = first_unit(units, blockIdx.y + 1);
  // The shuffle tells the compiler that the warp's number, so the loops' conditions, are the same in all lanes.
  const int warp = __shfl_sync(WHOLE_WARP, int(threadIdx.x) / 32, 0);
  int unit = first_unit(units, blockIdx.y) + warp;
  if (MIDDLE != S::DTYPE) {
    Reader<S, MIDDLE> reader = {columns, lane};
    unit = reader.run(state, middle, middle_units, middle, unit, min(end, middle_units));
  }
  Exact reader = {columns, lane};
  reader.run(state, middle, middle_units, exact, unit, end);

  const Scratch scratch(shared_memory, S::TILE, S::WIDEST);
  publish<S>(state, columns, lane, scratch);
  __syncthreads();
  finish(p, scratch, tile);
}

// Names: decode_<dtype>_<cache_dtype>_d<largest dim>_g<TILE>; which of them exist: also in backends/cuda_launch.py.
// 512 threads bound the registers to 128, 384 to 168: 16 or 12 warps an SM then keep 128 or 96 KB in flight.
#define DECODE(name, DTYPE, MIDDLE, DIM, TILE)                                                                      \
  extern "C" __global__ __launch_bounds__(TILE == 1 ? 512 : 384, 1) void decode_##name##_d##DIM##_g##TILE(          \
      const DecodeParams p) {                                                                                       \
    decode<Shape<DTYPE, DIM / ELEMENTS, TILE>, MIDDLE>(p);                                                          \
  }

// Four query heads at once where sharing K/V pays, in 16-bit caches; dim 64 has rows of its own there and elsewhere half of
// the lanes of 128. Every instance costs a third of a second to compile, seven times.
#define DECODE_16BIT(name, DTYPE)                \
  DECODE(name##_##name, DTYPE, DTYPE, 64, 1)     \
  DECODE(name##_##name, DTYPE, DTYPE, 64, 4)     \
  DECODE(name##_##name, DTYPE, DTYPE, 128, 1)    \
  DECODE(name##_##name, DTYPE, DTYPE, 128, 4)    \
  DECODE(name##_##name, DTYPE, DTYPE, 256, 1)    \
  DECODE(name##_int8, DTYPE, INT8, 128, 1)       \
  DECODE(name##_int8, DTYPE, INT8, 128, 4)       \
  DECODE(name##_int8, DTYPE, INT8, 256, 1)       \
  DECODE(name##_int4, DTYPE, INT4, 128, 1)       \
  DECODE(name##_int4, DTYPE, INT4, 128, 4)       \
  DECODE(name##_int4, DTYPE, INT4, 256, 1)

DECODE_16BIT(fp16, FP16)
DECODE_16BIT(bf16, BF16)
DECODE(fp32_fp32, FP32, FP32, 128, 1)
DECODE(fp32_fp32, FP32, FP32, 256, 1)
DECODE(fp32_int8, FP32, INT8, 128, 1)
DECODE(fp32_int8, FP32, INT8, 256, 1)
DECODE(fp32_int4, FP32, INT4, 128, 1)
DECODE(fp32_int4, FP32, INT4, 256, 1)
