// decode: attention of one new token over a cache, split over blocks, combined by the block of the last split.
//   out[row, j] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i        (Dao et al., flash-decoding)
//
// Traffic: every live key and value once (per TILE query heads; tiles of a row run side by side and share them through L2),
// 4 bytes per quantised slot for its scales, 4 per slot for a bias, q and out once.
// Launch: grid (splits, ceil(group / TILE), rows), any whole number of warps up to 16 (TILE 1) or 12 (TILE 4), which is
// what the registers of an SM hold; shared memory as Stage and Scratch. One wave of resident blocks is best.
//
// Supports caches with segment 0 (exact) and optionally segment 1 (middle), whose keys and values have the same format.
// The units of the middle segment (reader.cuh), then those of the exact one, form one list. A block owns a range of the list
// and its warps take turns, so that adjacent memory is read at about the same time.
#include "fresh.cuh"
#include "reader.cuh"

// One warp's share goes to shared memory: lanes that hold the same dims of different rows are summed first.
template <class S>
__device__ void publish(State<S>& state, const typename S::Lane& columns, int lane,
                        const Scratch<S::TILE, S::WIDEST>& scratch) {
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
    float4* sums = scratch.sums + warp * scratch.ITEMS;
    const int first = columns.position(0), second = S::SPLIT ? columns.position(1) : first + 4;
    sums[scratch.spread(j, first / 4)] = make_float4(o[0], o[1], o[2], o[3]);
    sums[scratch.spread(j, second / 4)] = make_float4(o[4], o[5], o[6], o[7]);
  }
}

// The initial state: the queries, times scale * log2 e (zero for lanes past dim). meanwhile: work to do while they are loaded.
template <class S, class Meanwhile>
__device__ void begin(State<S>& state, const DecodeParams& p, const Tile& tile, const typename S::Lane& columns,
                      const Meanwhile& meanwhile) {
  Fragment<S::DTYPE> q[S::TILE];
#pragma unroll
  for (int j = 0; j < S::TILE; j++) {
    columns.load_new(q[j], static_cast<const char*>(p.q) + query_of(p, tile, j) * row_bytes(S::DTYPE, p.cache.dim));
  }
  meanwhile();
#pragma unroll
  for (int j = 0; j < S::TILE; j++) {
    q[j].unpack(state.q[j]);
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
      state.q[j][e] *= columns.inside(e / S::Lane::WIDTH) ? p.scale * LOG2_E : 0.0f;
      state.o[j][e] = 0.0f;
    }
    state.m[j] = NO_LOGIT;
    state.l[j] = 0.0f;
  }
}

template <class S, int MIDDLE>
__device__ void decode(const DecodeParams& p) {
  if (p.waits) await_previous();
  let_next_begin();
  extern __shared__ float4 shared_memory[];
  using Exact = Reader<S, S::DTYPE>;
  using Middle = Reader<S, MIDDLE>;
  const int lane = threadIdx.x % 32;
  const Tile tile = {int(blockIdx.z), int(blockIdx.y) * S::TILE};
  Live exact_live, middle_live;
  int token;
  const auto ask_for_places = [&] {
    exact_live = load_live(p.cache, p.pending, tile.row, 0);
    middle_live = MIDDLE != S::DTYPE || p.touched[1] > 0 ? load_live(p.cache, p.pending, tile.row, 1) : Live{};
    token = p.fresh.k ? load_fresh(p.cache.tokens) : 0;
  };
  // Loaded first: values that depend on them are computed while the queries are being loaded.
  if constexpr (MIDDLE == S::DTYPE) ask_for_places();
  const typename S::Lane columns = {lane % S::LANES, p.cache.dim};
  // The shuffle tells the compiler that the warp's number, so the loops' conditions, are the same in all lanes.
  const int warp = __shfl_sync(WHOLE_WARP, int(threadIdx.x) / 32, 0), warps = blockDim.x / 32;
  if (warp == 0) prefetch_queries<S::DTYPE>(p, tile, S::TILE, lane);

  Units units = {slots_of<MIDDLE>(p.cache.segments[1], p.cache.dim, tile.row),
                 slots_of<S::DTYPE>(p.cache.segments[0], p.cache.dim, tile.row)};
  units.of_middle = Middle::units(p.touched[1]);
  const int all = units.of_middle + Exact::units(p.touched[0]);
  const Share share(all);
  const int end = share.end;
  int unit = share.first + warp;

  const bool stages = Exact::STAGES && MIDDLE == S::DTYPE && launch_stages();
  const bool staged = stages && unit + warps < end;
  const Stage stage(shared_memory, warp, lane);
  State<S> state;
  Exact exact = {columns, lane};
  if constexpr (MIDDLE != S::DTYPE) ask_for_places();
  const auto find_held = [&] {
    units.held_middle = held_slots(middle_live, 0);
    units.held_exact = held_slots(exact_live, p.fresh.k != nullptr);
  };
  if constexpr (MIDDLE == S::DTYPE) {
    // Waits for them before the first loads: loads that go out earlier hold up those of the launch before, whose end this
    // one awaits. Hidden from the optimiser, which else moves it ahead of the prefetch of the queries.
    hide(exact_live), hide(middle_live);
    find_held();
    if (unit < end) exact.load(units.slots(unit), units.number(unit));
  }
  await_previous();
  const auto scratch = [&] { return Scratch<S::TILE, S::WIDEST>(shared_memory + (stages ? warps * STAGE_BYTES / 16 : 0)); };
  begin<S>(state, p, tile, columns, [&] {
    if constexpr (Exact::STAGES)
      if (staged) exact.stage(stage, units.slots(unit + warps), units.number(unit + warps) * Exact::UNIT);
    if (appends_fresh(p, warp)) ask_for_fresh<S::DTYPE>(p, tile, token, exact_live, lane, scratch());
    if constexpr (MIDDLE != S::DTYPE) find_held();
  });
  if constexpr (MIDDLE != S::DTYPE) {
    // Registers suffice for one segment's live slots with one query, with several for none.
    constexpr bool KEEPS = S::TILE > 1;
    [[maybe_unused]] unsigned kept;
    if constexpr (KEEPS) {
      float4* sums = scratch().sums + warp * Scratch<S::TILE, S::WIDEST>::ITEMS;
      kept = keep_held(sums, units.held_middle, units.held_exact, lane);
      __syncwarp();
    }
    const auto held_middle = [&] {
      if constexpr (KEEPS) return kept;
      else return units.held_middle;
    };
    const auto held_exact = [&] {
      if constexpr (KEEPS) return kept + HELD_BYTES;
      else return held_slots(load_live(p.cache, p.pending, tile.row, 0), p.fresh.k != nullptr);
    };
    using Segment = Alone<decltype(held_middle())>;
    const int end_middle = min(end, units.of_middle);
    Middle middle = {columns, lane};
    if (unit < end_middle) middle.load(units.middle, unit);
    unit = middle.run(state, Segment{units.middle, held_middle(), 0}, unit, end_middle, stage, false);
    // Computed only now, because keeping it would also take registers.
    const Segment second = {slots_of<S::DTYPE>(p.cache.segments[0], p.cache.dim, tile.row), held_exact(), units.of_middle};
    if (unit < end) exact.load(second.slots(unit), second.number(unit));
    exact.run(state, second, unit, end, stage, false);
    __syncwarp();
  } else {
    exact.run(state, units, unit, end, stage, staged);
  }
  stage.await();

  if (threadIdx.x == 0) ask_for_live(p.cache, p.pending, tile.row);
  // Worked out again, hidden from the optimiser: kept through the loop, both take registers there.
  int thread = threadIdx.x;
  asm volatile("" : "+r"(thread));
  const typename S::Lane its = {thread % S::LANES, p.cache.dim};
  publish<S>(state, its, thread % 32, scratch());
  if (appends_fresh(p, warp)) append_fresh<S::DTYPE>(p, tile, lane, scratch());
  __syncthreads();
  finish<S::DTYPE>(p, scratch(), tile);
}

// Names: decode_<dtype>_<cache_dtype>_d<largest dim>_g<TILE>; which of them exist: also in launch.py.
// 512 threads bound the registers to 128, 384 to 168: 16 or 12 warps an SM then keep 128 or 96 KB in flight.
#define DECODE(name, DTYPE, MIDDLE, DIM, TILE)                                                                      \
  extern "C" __global__ __launch_bounds__(TILE == 1 ? 512 : 384, 1) void decode_##name##_d##DIM##_g##TILE(          \
      const DecodeParams p) {                                                                                       \
    decode<Shape<DTYPE, DIM / ELEMENTS, TILE>, MIDDLE>(p);                                                          \
  }

// Four query heads at once where sharing K/V is worthwhile, in 16-bit caches. Dim 64 has separate instances there; elsewhere it
// uses half of the lanes of dim 128. Each instance costs a third of a second of compilation per architecture.
#define DECODE_16BIT(name, DTYPE)                \
  DECODE(name##_##name, DTYPE, DTYPE, 64, 1)     \
  DECODE(name##_##name, DTYPE, DTYPE, 64, 4)     \
  DECODE(name##_##name, DTYPE, DTYPE, 128, 1)    \
  DECODE(name##_##name, DTYPE, DTYPE, 128, 4)    \
  DECODE(name##_##name, DTYPE, DTYPE, 256, 1)
#define DECODE_MIXED_32(DTYPE, dtype, MIDDLE, middle) \
  DECODE(dtype##_##middle, DTYPE, MIDDLE, 128, 1)     \
  DECODE(dtype##_##middle, DTYPE, MIDDLE, 256, 1)
#define DECODE_MIXED_16(DTYPE, dtype, MIDDLE, middle) \
  DECODE(dtype##_##middle, DTYPE, MIDDLE, 128, 4)     \
  DECODE_MIXED_32(DTYPE, dtype, MIDDLE, middle)

DECODE_16BIT(fp16, FP16)
DECODE_16BIT(bf16, BF16)
DECODE(fp32_fp32, FP32, FP32, 128, 1)
DECODE(fp32_fp32, FP32, FP32, 256, 1)
ELASTICKV_MIXED_16(DECODE_MIXED_16)
ELASTICKV_MIXED_32(DECODE_MIXED_32)
