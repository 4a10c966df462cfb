// decode: attention of one new token over a cache, split over blocks, combined by the block that arrives last.
//   out[row, j] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i        (Dao et al., flash-decoding)
//
// Traffic: every live key and value once (per tile of TILE query heads; tiles of a row run side by side and share them
// through L2), 4 bytes per quantised slot for its scales, 4 per slot for a bias, q and out once.
// Launch: grid (rows * ceil(group / TILE), splits), WARPS * 32 threads. One wave of resident blocks is best.
//
// A unit is LOADS * (32 / LANES) neighbouring slots, whose keys and values a warp holds in registers. The units of the
// middle segment, then those of the exact one, form one list; a block owns a range of it, its warps take turns. While a
// unit is reduced the loads of the warp's next one are in flight: keys as soon as the dots are done, then values.
#include "cache.cuh"
#include "fragment.cuh"
#include "state.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * 32;
constexpr int RESCALE_STEP = 8;  // the running maximum follows only jumps beyond this: weights stay below 2^8

// DTYPE: of q, out and exact slots; LANES per row (8: dim 64, 16: 80 to 128, 32: 256); TILE query heads at once.
template <int DTYPE_, int LANES_, int TILE_>
struct Shape {
  static constexpr int DTYPE = DTYPE_, LANES = LANES_, TILE = TILE_;
  static constexpr bool SPLIT = DTYPE == FP32;
  static constexpr int ROWS = 32 / LANES;         // cached rows that one load of a warp touches
  static constexpr int WIDEST = LANES * ELEMENTS;  // largest dim
  using Lane = Columns<LANES, SPLIT>;
};

// Loads in flight per lane, for keys and again for values.
__host__ __device__ constexpr int loads_of(int format, int tile) {
  return format == FP32 ? 4 : (format == INT8 || format == INT4) && tile == 1 ? 16 : 8;
}

struct Segment {
  const char* k;
  const char* v;
  const float* bias;      // null: none
  const Word16* k_scale;  // null unless quantised
  const Word16* v_scale;
  Slots slots;
};

__device__ inline Segment middle_segment(const Cache& cache, int row, int tokens) {
  const long long first = (long long)row * cache.middle_capacity, bytes = first * row_bytes(cache.cache_dtype, cache.dim);
  return {static_cast<const char*>(cache.middle_k) + bytes, static_cast<const char*>(cache.middle_v) + bytes,
          cache.middle_bias ? cache.middle_bias + first : nullptr, static_cast<const Word16*>(cache.middle_k_scale) + first,
          static_cast<const Word16*>(cache.middle_v_scale) + first, middle_slots(cache, tokens)};
}

__device__ inline Segment exact_segment(const Cache& cache, int row, int tokens) {
  const long long first = (long long)row * (cache.sinks + cache.ring), bytes = first * row_bytes(cache.dtype, cache.dim);
  return {static_cast<const char*>(cache.exact_k) + bytes, static_cast<const char*>(cache.exact_v) + bytes,
          cache.exact_bias ? cache.exact_bias + first : nullptr, nullptr, nullptr, exact_slots(cache, tokens)};
}

// What one warp knows about TILE query heads so far; m is the same in all lanes, l and o are a lane's share.
template <class S>
struct State {
  float q[S::TILE][ELEMENTS];  // times scale * log2 e
  float o[S::TILE][ELEMENTS];
  float m[S::TILE];
  float l[S::TILE];
};

// The units of one storage format, read and reduced by one warp.
template <class S, int FORMAT>
struct Reader {
  static constexpr bool QUANTISED = FORMAT == INT8 || FORMAT == INT4;
  static constexpr int LOADS = loads_of(FORMAT, S::TILE);
  static constexpr int BATCH = LOADS < 8 ? LOADS : 8;  // dots reduced together
  static constexpr int BATCHES = LOADS / BATCH;
  static constexpr int UNIT = LOADS * S::ROWS;

  typename S::Lane columns;
  int lane;
  Fragment<FORMAT> k[LOADS];
  Fragment<FORMAT> v[LOADS];
  float bias[BATCHES];  // of the slots whose logits this lane ends up with
  Word16 k_scale[BATCHES];
  Word16 v_scale[BATCHES];

  static __host__ __device__ int units(int slots) { return (slots + UNIT - 1) / UNIT; }

  __device__ int entry_of_load(int base, int load) const { return base + load * S::ROWS + lane / S::LANES; }
  __device__ int entry_of_logit(int base, int batch) const { return entry_of_load(base, batch * BATCH + lane % BATCH); }

  // Rows past the end are read as the last one: valid memory, weight zero.
  __device__ int slot(const Segment& segment, int entry) const { return segment.slots[min(entry, segment.slots.count - 1)]; }

  __device__ void load_keys(const Segment& segment, int base) {
    const int bytes = row_bytes(FORMAT, columns.dim);
#pragma unroll
    for (int i = 0; i < LOADS; i++) columns.load(k[i], segment.k + (long long)slot(segment, entry_of_load(base, i)) * bytes);
#pragma unroll
    for (int b = 0; b < BATCHES; b++) {
      const int at = slot(segment, entry_of_logit(base, b));
      bias[b] = segment.bias ? __ldg(segment.bias + at) : 0.0f;
      if (QUANTISED) k_scale[b] = __ldg(segment.k_scale + at);
    }
  }

  __device__ void load_values(const Segment& segment, int base) {
    const int bytes = row_bytes(FORMAT, columns.dim);
#pragma unroll
    for (int i = 0; i < LOADS; i++) columns.load(v[i], segment.v + (long long)slot(segment, entry_of_load(base, i)) * bytes);
#pragma unroll
    for (int b = 0; b < BATCHES; b++)
      if (QUANTISED) v_scale[b] = __ldg(segment.v_scale + slot(segment, entry_of_logit(base, b)));
  }

  // logits[j][b], times log2 e, of the slot that this lane owns in batch b; minus infinity past the end.
  __device__ void dots(const State<S>& state, int base, int count, float (&logits)[S::TILE][BATCHES]) const {
#pragma unroll
    for (int b = 0; b < BATCHES; b++) {
      float sums[S::TILE][BATCH];
#pragma unroll
      for (int i = 0; i < BATCH; i++) {
        float key[ELEMENTS];
        k[b * BATCH + i].unpack(key);
#pragma unroll
        for (int j = 0; j < S::TILE; j++) {
          float sum = 0.0f;
#pragma unroll
          for (int e = 0; e < ELEMENTS; e++) sum = fmaf(state.q[j][e], key[e], sum);
          sums[j][i] = sum;
        }
      }
      const bool live = entry_of_logit(base, b) < count;
      const float scale = QUANTISED ? from_fp16(k_scale[b]) : 1.0f;
#pragma unroll
      for (int j = 0; j < S::TILE; j++) {
        const float sum = reduce_scatter<BATCH, S::LANES>(sums[j], lane);
        logits[j][b] = live ? fmaf(bias[b], LOG2_E, sum * scale) : minus_infinity();
      }
    }
  }

  // logits -> weights 2^(x - m), after raising m (and rescaling what was summed) when they outgrew it.
  __device__ void weigh(State<S>& state, float (&logits)[S::TILE][BATCHES]) const {
#pragma unroll
    for (int j = 0; j < S::TILE; j++) {
      float largest = logits[j][0];
#pragma unroll
      for (int b = 1; b < BATCHES; b++) largest = fmaxf(largest, logits[j][b]);
      if (__any_sync(WHOLE_WARP, largest > state.m[j] + RESCALE_STEP)) {
        const float bound = fmaxf(state.m[j], warp_max(largest));
        const float shrink = exp2_approx(state.m[j] - bound);
        state.m[j] = bound;
        state.l[j] *= shrink;
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) state.o[j][e] *= shrink;
      }
#pragma unroll
      for (int b = 0; b < BATCHES; b++) {
        const float weight = exp2_approx(logits[j][b] - state.m[j]);
        if (columns.column < BATCH) state.l[j] += weight;  // the other lanes of the row hold the same logits again
        logits[j][b] = QUANTISED ? weight * from_fp16(v_scale[b]) : weight;
      }
    }
  }

  __device__ void add_values(State<S>& state, const float (&weights)[S::TILE][BATCHES]) const {
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      float value[ELEMENTS];
      v[i].unpack(value);
#pragma unroll
      for (int j = 0; j < S::TILE; j++) {
        const float weight = __shfl_sync(WHOLE_WARP, weights[j][i / BATCH], (lane & ~(BATCH - 1)) | i % BATCH);
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) state.o[j][e] = fmaf(weight, value[e], state.o[j][e]);
      }
    }
  }

  // Units unit, unit + WARPS, ... below `end`: those below `units_of_first` lie in `first`, the others in `second`.
  // Returns the first unit of this warp that is not below `end`.
  __device__ int run(State<S>& state, const Segment& first, int units_of_first, const Segment& second, int unit, int end) {
    // One turn behind the loads: turn `unit` reduces what the turn before loaded, so that loads and arithmetic are written
    // (and compiled) once.
    auto segment_of = [&](int u) -> Segment { return u < units_of_first ? first : second; };
    auto base_of = [&](int u) { return (u < units_of_first ? u : u - units_of_first) * UNIT; };
    const int begin = unit;
#pragma unroll 1
    for (unit -= WARPS; unit < end; unit += WARPS) {
      const int next = unit + WARPS;
      const bool loaded = unit >= begin, more = next < end;
      float weights[S::TILE][BATCHES];
      if (loaded) dots(state, base_of(unit), segment_of(unit).slots.count, weights);
      if (more) load_keys(segment_of(next), base_of(next));
      if (loaded) {
        weigh(state, weights);
        add_values(state, weights);
      }
      if (more) load_values(segment_of(next), base_of(next));
    }
    return unit;
  }
};

// Where the partials of all blocks lie: a counter per (row, query head), whatever the tile, then one (m, l) per partial
// and head, then the unnormalised answers. backends/cuda_launch.py computes the same size.
struct Workspace {
  unsigned* arrived;
  float2* bounds;  // [blocks, TILE]
  float4* sums;    // [blocks, TILE, dim / 4]

  __device__ Workspace(const DecodeParams& p, int tile) {
    const long long counters = ((long long)p.cache.rows * p.group * 4 + 255) / 256 * 256;
    const long long heads = (long long)gridDim.x * gridDim.y * tile;
    arrived = static_cast<unsigned*>(p.workspace);
    bounds = reinterpret_cast<float2*>(static_cast<char*>(p.workspace) + counters);
    sums = reinterpret_cast<float4*>(bounds + (heads + 1) / 2 * 2);
  }
};

// Reads that must see what other blocks wrote during this launch come from L2.
__device__ inline float4 load_from_l2(const float4* from) {
  float4 x;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "l"(from)
               : "memory");
  return x;
}

__device__ inline float2 load_from_l2(const float2* from) {
  float2 x;
  asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "l"(from) : "memory");
  return x;
}

// Counts this block as arrived; true in all threads of the one that completes `expected`. That block resets the counter for
// the next launch. What every block wrote before its call is visible to the last one after it.
__device__ inline bool arrived_last(unsigned* counter, unsigned expected) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned before;
#if __CUDA_ARCH__ >= 700
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
#else
    __threadfence();
    before = atomicAdd(counter, 1u);
    __threadfence();
#endif
    last = before == expected - 1;
    if (last) *counter = 0;
  }
  __syncthreads();
  return last;
}

// What the warps of a block hand over: for each warp and head dim / 4 sums, and (m, l).
template <class S>
struct Scratch {
  float4 sums[WARPS][S::TILE][S::WIDEST / 4];
  float2 bounds[WARPS][S::TILE];
};

// One warp's share goes to shared memory: lanes of different rows are summed, then lane by lane.
template <class S>
__device__ void publish(State<S>& state, const typename S::Lane& columns, int lane, Scratch<S>& scratch) {
  const int warp = threadIdx.x / 32;
#pragma unroll
  for (int j = 0; j < S::TILE; j++) {
    const float l = warp_sum(state.l[j]);
    if (lane == 0) scratch.bounds[warp][j] = make_float2(state.m[j], l);
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++)
#pragma unroll
      for (int step = S::LANES; step < 32; step *= 2)
        state.o[j][e] += __shfl_xor_sync(WHOLE_WARP, state.o[j][e], step);
    if (lane >= S::LANES) continue;
    const float* o = state.o[j];
    const int first = columns.position(0), second = S::SPLIT ? columns.position(1) : first + 4;
    scratch.sums[warp][j][first / 4] = make_float4(o[0], o[1], o[2], o[3]);
    scratch.sums[warp][j][second / 4] = make_float4(o[4], o[5], o[6], o[7]);
  }
}

// What follows the loop is not hot and depends on no template parameter: compiled once, called by every instance.
struct Tile {
  const float4* sums;    // shared: [WARPS, heads, stride]
  const float2* bounds;  // shared: [WARPS, heads]
  int heads;             // TILE
  int stride;            // widest dim / 4
  int row;
  int first_head;
};

__device__ void write_answer(const DecodeParams& p, const Tile& tile, int j, int quad, const Partial& partial) {
  if (tile.first_head + j >= p.group) return;
  const long long at = ((long long)tile.row * p.group + tile.first_head + j) * p.cache.dim + quad * 4;
  if (p.cache.dtype == FP32) store4<FP32>(p.out, at, partial.normalised());
  else if (p.cache.dtype == FP16) store4<FP16>(p.out, at, partial.normalised());
  else store4<BF16>(p.out, at, partial.normalised());
}

// Merges partials first, first + step, ... of the splits of this block's tile, four loads in flight.
__device__ Partial gather(const Workspace& workspace, int heads, int quads, int j, int quad, int first, int step) {
  constexpr int IN_FLIGHT = 4;
  const int splits = gridDim.y;
  Partial all;
#pragma unroll 1
  for (int split = first; split < splits; split += step * IN_FLIGHT) {
    float2 bound[IN_FLIGHT];
    float4 sum[IN_FLIGHT];
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++) {
      const long long block = (long long)min(split + i * step, splits - 1) * gridDim.x + blockIdx.x;
      bound[i] = load_from_l2(workspace.bounds + block * heads + j);
      sum[i] = load_from_l2(workspace.sums + (block * heads + j) * quads + quad);
    }
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++)
      if (split + i * step < splits) all.merge(bound[i].x, bound[i].y, sum[i]);
  }
  return all;
}

// The answers of this block's tile from the partials of all its splits, in a fixed order. With fewer (head, four dims)
// items than threads several crews take every crews-th split each; crew 0 merges what they found.
__device__ void combine(const DecodeParams& p, const Workspace& workspace, const Tile& tile, int quads) {
  __shared__ float4 crew_sums[THREADS];
  __shared__ float2 crew_bounds[THREADS];
  const int items = tile.heads * quads, crews = items < THREADS ? THREADS / items : 1;
#pragma unroll 1
  for (int thread = threadIdx.x; thread < items * crews; thread += THREADS) {
    const int crew = thread / items, item = thread % items, j = item / quads, quad = item % quads;
    const Partial all = gather(workspace, tile.heads, quads, j, quad, crew, crews);
    if (crews == 1) {
      write_answer(p, tile, j, quad, all);
    } else {
      crew_sums[thread] = all.o;
      crew_bounds[thread] = make_float2(all.m, all.l);
    }
  }
  __syncthreads();
  if (crews == 1 || threadIdx.x >= items) return;
  Partial all;
#pragma unroll 1
  for (int at = threadIdx.x; at < items * crews; at += items) all.merge(crew_bounds[at].x, crew_bounds[at].y, crew_sums[at]);
  write_answer(p, tile, threadIdx.x / quads, threadIdx.x % quads, all);
}

// Merges the warps of a block; writes the answer, or a partial and, in the last block to arrive, the answer of all splits.
__device__ __noinline__ void finish(const DecodeParams& p, const Tile& tile) {
  const int quads = p.cache.dim / 4;
  const Workspace workspace(p, tile.heads);
  const long long block = (long long)blockIdx.y * gridDim.x + blockIdx.x;
#pragma unroll 1
  for (int item = threadIdx.x; item < tile.heads * quads; item += THREADS) {
    const int j = item / quads, quad = item % quads;
    Partial all;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) {
      const float2 bound = tile.bounds[warp * tile.heads + j];
      all.merge(bound.x, bound.y, tile.sums[(warp * tile.heads + j) * tile.stride + quad]);
    }
    if (gridDim.y == 1) {
      write_answer(p, tile, j, quad, all);
    } else {
      workspace.sums[(block * tile.heads + j) * quads + quad] = all.o;
      if (quad == 0) workspace.bounds[block * tile.heads + j] = make_float2(all.m, all.l);
    }
  }
  if (gridDim.y > 1 && arrived_last(workspace.arrived + blockIdx.x, gridDim.y)) combine(p, workspace, tile, quads);
}

template <class S, int MIDDLE>
__device__ void decode(const DecodeParams& p) {
  using Exact = Reader<S, S::DTYPE>;
  __shared__ Scratch<S> scratch;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int tiles = (p.group + S::TILE - 1) / S::TILE;
  const int row = blockIdx.x / tiles, first_head = blockIdx.x % tiles * S::TILE;
  const typename S::Lane columns = {lane % S::LANES, p.cache.dim};

  State<S> state;
#pragma unroll
  for (int j = 0; j < S::TILE; j++) {
    const int head = min(first_head + j, p.group - 1);  // heads past the group repeat the last one and are not written
    Fragment<S::DTYPE> q;
    columns.load(q, static_cast<const char*>(p.q) + ((long long)row * p.group + head) * row_bytes(S::DTYPE, p.cache.dim));
    q.unpack(state.q[j]);
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
      state.q[j][e] *= columns.inside(e / S::Lane::WIDTH) ? p.scale * LOG2_E : 0.0f;
      state.o[j][e] = 0.0f;
    }
    state.m[j] = NO_LOGIT;
    state.l[j] = 0.0f;
  }

  const int tokens = *p.cache.tokens + p.pending;
  const Segment middle = middle_segment(p.cache, row, tokens), exact = exact_segment(p.cache, row, tokens);
  const int middle_units = Reader<S, MIDDLE>::units(middle.slots.count);
  const long long units = middle_units + Exact::units(exact.slots.count);
  const int begin = int(units * blockIdx.y / gridDim.y), end = int(units * (blockIdx.y + 1) / gridDim.y);
  int unit = begin + warp;
  if (MIDDLE != S::DTYPE) {
    Reader<S, MIDDLE> reader = {columns, lane};
    unit = reader.run(state, middle, middle_units, middle, unit, min(end, middle_units));
  }
  Exact reader = {columns, lane};
  reader.run(state, middle, middle_units, exact, unit, end);

  publish<S>(state, columns, lane, scratch);
  __syncthreads();

  finish(p, {&scratch.sums[0][0][0], &scratch.bounds[0][0], S::TILE, S::WIDEST / 4, row, first_head});
}

// Names: decode_<dtype>_<cache_dtype>_d<largest dim>_g<TILE>. Blocks per SM bound the registers: 128 for one query head,
// 168 for four, so that 16 or 12 warps an SM keep 128 or 96 KB in flight.
#define DECODE_INSTANCE(name, DTYPE, MIDDLE, DIM, TILE)                                                       \
  extern "C" __global__ __launch_bounds__(THREADS, TILE == 1 ? 4 : 3) void decode_##name##_d##DIM##_g##TILE( \
      const DecodeParams p) {                                                                                 \
    decode<Shape<DTYPE, DIM / ELEMENTS, TILE>, MIDDLE>(p);                                                    \
  }
// Four query heads at once where sharing K/V pays: 16-bit caches of up to 128 dims. Others share through L2 only.
#define DECODE_ONE(name, DTYPE, MIDDLE)         \
  DECODE_INSTANCE(name, DTYPE, MIDDLE, 64, 1)  \
  DECODE_INSTANCE(name, DTYPE, MIDDLE, 128, 1) \
  DECODE_INSTANCE(name, DTYPE, MIDDLE, 256, 1)
#define DECODE_BOTH(name, DTYPE, MIDDLE)       \
  DECODE_ONE(name, DTYPE, MIDDLE)              \
  DECODE_INSTANCE(name, DTYPE, MIDDLE, 64, 4)  \
  DECODE_INSTANCE(name, DTYPE, MIDDLE, 128, 4)

DECODE_ONE(fp32_fp32, FP32, FP32)
DECODE_ONE(fp32_int8, FP32, INT8)
DECODE_ONE(fp32_int4, FP32, INT4)
DECODE_BOTH(fp16_fp16, FP16, FP16)
DECODE_BOTH(fp16_int8, FP16, INT8)
DECODE_BOTH(fp16_int4, FP16, INT4)
DECODE_BOTH(bf16_bf16, BF16, BF16)
DECODE_BOTH(bf16_int8, BF16, INT8)
DECODE_BOTH(bf16_int4, BF16, INT4)
