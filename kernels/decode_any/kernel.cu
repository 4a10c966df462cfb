// decode_any: decode over any list of segments, in which keys and values may have different formats with per-head state.
// Formats are selected at run time, once for many slots, so that no instance per pair of formats is needed.
//
// Traffic: as decode, plus the per-head state once per block (from L2) and partials through the workspace.
// Launch: grid (pieces, ceil(group / TILE), rows), 256 threads. A piece is a range of slots of one segment: 64 times a power of
// two, determined by the number of pieces (any.cuh).
#pragma once
#include "any.cuh"
#include "finish.cuh"

constexpr int ANY_THREADS = 256, ANY_WARPS = ANY_THREADS / 32, ANY_DIM = 256;
constexpr int CHUNK = ANY_THREADS;  // slots between two updates of the running maximum; each thread computes the weight of one

// Each array begins at a multiple of 16 bytes: loads of four words then never touch a word of the array before.
template <int TILE>
struct AnyShared {
  alignas(16) float q[TILE][ANY_DIM];      // transformed for the segment's keys, times scale * log2 e; zero past dim
  alignas(16) float shift[TILE];           // term to add to its scores, times the same factor
  alignas(16) float weights[TILE][CHUNK];  // dot products, then weights
  alignas(16) float bounds[TILE][ANY_WARPS];
  alignas(16) float sums[ANY_WARPS][TILE][ANY_DIM];
};

// A place of the workspace: m, l, two unused words and dim sums of one head of one piece.
struct AnyPlace {
  float* at;

  __device__ AnyPlace(const DecodeParams& p, int tile_size, int piece, int head) {
    const long long tile = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    at = static_cast<float*>(p.workspace) + ((tile * gridDim.x + piece) * tile_size + head) * (p.cache.dim + 4);
  }
  __device__ void put(int word, float x) const { asm volatile(SHARED_STORE ".f32 [%0], %1;" ::"l"(at + word), "f"(x) : "memory"); }
  __device__ float get(int word) const {  // waits for it
    float x;
    do asm volatile(SHARED_LOAD ".f32 %0, [%1];" : "=f"(x) : "l"(at + word) : "memory");
    while (is_missing(x));
    return x;
  }
  __device__ void free(int word) const { put(word, __uint_as_float(NOTHING_YET)); }
};

// What a block works on: slots [begin, end) of one segment of one row, for TILE query heads.
template <int TILE>
struct AnyBlock {
  const DecodeParams& p;
  AnyShared<TILE>& shared;
  const Segment& segment;
  const Tile tile;
  const AnyLive live;
  const char* fresh_k;  // of the slot that this launch writes
  const char* fresh_v;
  const int begin, end;
  int lanes, lane, warp;  // lanes: that share a vector

  __device__ bool inside() const { return lane % lanes * ELEMENTS < p.cache.dim; }
  __device__ int element() const { return inside() ? lane % lanes * ELEMENTS : 0; }
  __device__ long long slot_of_row(int slot) const { return (long long)tile.row * segment.capacity + slot; }

  // The vector of a slot. Slots past the end and empty slots get zero weight.
  __device__ const char* vector(const void* vectors, const char* fresh, int format, int slot) const {
    if (slot == live.newest) return fresh;
    return static_cast<const char*>(vectors) + slot_of_row(min(slot, segment.capacity - 1)) * row_bytes(format, p.cache.dim);
  }

  // Calls use(number, fragment) for this warp's slots of a chunk, LOADS vectors at a time.
  template <int FORMAT, class Use>
  __device__ void each_vector(const void* vectors, const char* fresh, int first, const Use& use) const {
    constexpr int LOADS = TILE == 1 ? 4 : 2;      // what registers hold
    const int together = ANY_WARPS * 32 / lanes;  // slots that all warps load at once
#pragma unroll 1
    for (int number = warp * (32 / lanes) + lane / lanes; number < CHUNK; number += LOADS * together) {
      Fragment<FORMAT> loaded[LOADS];
#pragma unroll
      for (int i = 0; i < LOADS; i++)
        load_any<FORMAT>(loaded[i], vector(vectors, fresh, FORMAT, first + number + i * together), element());
#pragma unroll
      for (int i = 0; i < LOADS; i++) use(number + i * together, loaded[i]);
    }
  }

  // The queries, first unchanged, then transformed for the segment's keys.
  __device__ void ask() const {
    const int dim = p.cache.dim;
    float(&raw)[TILE][ANY_DIM] = shared.sums[0];
    for (int i = threadIdx.x; i < TILE * dim; i += ANY_THREADS) {
      const long long at = query_of(p, tile, i / dim) * dim + i % dim;
      raw[i / dim][i % dim] = load_value(p.q, p.cache.dtype, at);
    }
    __syncthreads();
    const float scale = p.scale * LOG2_E;
    for (int i = threadIdx.x; i < TILE * ANY_DIM; i += ANY_THREADS)
      shared.q[i / ANY_DIM][i % ANY_DIM] = i % ANY_DIM < dim ? raw[i / ANY_DIM][i % ANY_DIM] * scale : 0.0f;
    if (threadIdx.x < TILE) shared.shift[threadIdx.x] = 0.0f;
    __syncthreads();
#define X(NAME, NUMBER, BITS, LARGEST) \
  if constexpr (PerHead<NAME>::KEPT)   \
    if (segment.k_format == NAME) ask_with<NAME>(raw, scale);
    ELASTICKV_FORMATS(X)
#undef X
    __syncthreads();
  }

  template <int FORMAT>
  __device__ void ask_with(const float (&raw)[TILE][ANY_DIM], float scale) const {
    using Keeps = PerHead<FORMAT>;
    const float* state = state_of<FORMAT>(segment.k_state, p.cache, tile.row);
    const int dim = p.cache.dim;
    for (int i = threadIdx.x; i < TILE * dim; i += ANY_THREADS)
      shared.q[i / dim][i % dim] = Keeps::query(state, raw[i / dim], dim, i % dim) * scale;
    if (threadIdx.x < TILE) shared.shift[threadIdx.x] = Keeps::shift(state, raw[threadIdx.x], dim) * scale;
  }

  // shared.weights: dot products of a chunk, without the slots' scales.
  __device__ void score(int first) const {
    float q[TILE][ELEMENTS];
    for (int j = 0; j < TILE; j++)
      for (int e = 0; e < ELEMENTS; e++) q[j][e] = inside() ? shared.q[j][element() + e] : 0.0f;
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (segment.k_format == NAME) score_as<NAME>(first, q);
    ELASTICKV_FORMATS(X)
#undef X
  }

  template <int FORMAT>
  __device__ void score_as(int first, const float (&q)[TILE][ELEMENTS]) const {
    each_vector<FORMAT>(segment.k, fresh_k, first, [&](int number, const Fragment<FORMAT>& loaded) {
      float key[ELEMENTS];
      loaded.unpack(key);
#pragma unroll
      for (int j = 0; j < TILE; j++) {
        float sum = 0.0f;
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) sum = fmaf(q[j][e], key[e], sum);
        for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(WHOLE_WARP, sum, step);
        if (lane % lanes == 0) shared.weights[j][number] = sum;
      }
    });
  }

  // shared.weights: weights of a chunk, times the scales of the values; m, l: of all slots so far (l: this thread's share).
  // Returns the factor for older sums.
  __device__ void weigh(int first, float (&m)[TILE], float (&l)[TILE], float (&shrink)[TILE]) const {
    const int slot = first + threadIdx.x;
    const bool alive = slot < end && live(slot);
    const long long at = slot_of_row(slot);
    const float bias = alive && segment.bias && slot != live.newest ? segment.bias[at] * LOG2_E : 0.0f;
    const float k_scale = alive ? scale_of_slot(segment.k_format, segment.k_scale, at) : 0.0f;
    const float v_scale = alive ? scale_of_slot(segment.v_format, segment.v_scale, at) : 0.0f;
    float logits[TILE];
#pragma unroll
    for (int j = 0; j < TILE; j++) {
      logits[j] = alive ? fmaf(shared.weights[j][threadIdx.x], k_scale, shared.shift[j] + bias) : minus_infinity();
      const float largest = warp_max(logits[j]);
      if (lane == 0) shared.bounds[j][warp] = largest;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < TILE; j++) {
      float bound = m[j];
      for (int other = 0; other < ANY_WARPS; other++) bound = fmaxf(bound, shared.bounds[j][other]);
      shrink[j] = exp2_approx(m[j] - bound);
      m[j] = bound;
      const float weight = exp2_approx(logits[j] - bound);
      l[j] = fmaf(l[j], shrink[j], weight);
      shared.weights[j][threadIdx.x] = weight * v_scale;
    }
  }

  __device__ void add_values(int first, float (&o)[TILE][ELEMENTS], const float (&shrink)[TILE]) const {
    for (int j = 0; j < TILE; j++)
      for (int e = 0; e < ELEMENTS; e++) o[j][e] *= shrink[j];
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (segment.v_format == NAME) add_values_as<NAME>(first, o);
    ELASTICKV_FORMATS(X)
#undef X
  }

  template <int FORMAT>
  __device__ void add_values_as(int first, float (&o)[TILE][ELEMENTS]) const {
    each_vector<FORMAT>(segment.v, fresh_v, first, [&](int number, const Fragment<FORMAT>& loaded) {
      const int slot = first + number;
      if (slot >= end || !live(slot)) return;  // it may contain anything, even NaN
      float value[ELEMENTS];
      loaded.unpack(value);
#pragma unroll
      for (int j = 0; j < TILE; j++)
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) o[j][e] = fmaf(shared.weights[j][number], value[e], o[j][e]);
    });
  }

  // Leaves the sums of all warps, the bound and the sum of weights in the workspace.
  __device__ void publish(float (&o)[TILE][ELEMENTS], const float (&m)[TILE], const float (&l)[TILE]) const {
    __syncthreads();
    for (int j = 0; j < TILE; j++) {
      for (int e = 0; e < ELEMENTS; e++) {
        for (int step = lanes; step < 32; step *= 2) o[j][e] += __shfl_xor_sync(WHOLE_WARP, o[j][e], step);
        if (lane < lanes && inside()) shared.sums[warp][j][element() + e] = o[j][e];
      }
      const float share = warp_sum(l[j]);
      if (lane == 0) shared.bounds[j][warp] = share;
    }
    __syncthreads();
    for (int j = 0; j < TILE; j++) {
      const AnyPlace place(p, TILE, blockIdx.x, j);
      if (threadIdx.x < p.cache.dim) {
        float sum = 0.0f;
        for (int other = 0; other < ANY_WARPS; other++) sum += shared.sums[other][j][threadIdx.x];
        place.put(4 + threadIdx.x, sum);
      }
      if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int other = 0; other < ANY_WARPS; other++) sum += shared.bounds[j][other];
        place.put(0, m[j]);
        place.put(1, sum);
      }
    }
  }

  __device__ void run() const {
    float o[TILE][ELEMENTS] = {}, l[TILE] = {}, m[TILE], shrink[TILE];
    for (int j = 0; j < TILE; j++) m[j] = NO_LOGIT;
    ask();
#pragma unroll 1
    for (int first = begin; first < end; first += CHUNK) {
      score(first);
      __syncthreads();
      weigh(first, m, l, shrink);
      __syncthreads();
      add_values(first, o, shrink);
      __syncthreads();
    }
    publish(o, m, l);
  }
};

// A segment's answer, of vectors as they are stored -> of the vectors themselves. mean: of dim floats, for all threads.
template <int FORMAT>
__device__ void answer_with(const DecodeParams& p, const Tile& tile, int segment, AnyPartial& part, float* mean) {
  const int dim = p.cache.dim, mine = threadIdx.x;
  __syncthreads();
  if (mine < dim) mean[mine] = part.normalised();
  __syncthreads();
  const float* state = state_of<FORMAT>(p.cache.segments[segment].v_state, p.cache, tile.row);
  if (mine < dim && part.l != 0.0f) part.o = PerHead<FORMAT>::answer(state, mean, dim, mine) * part.l;
}

// Merges a row's pieces, one dim per thread; each segment's answer is transformed by the per-head state of its values.
template <int TILE>
__device__ void finish_any(const DecodeParams& p, const Tile& tile, const AnyPieces& pieces, float* mean) {
  const int dim = p.cache.dim, mine = threadIdx.x;
  for (int j = 0; j < TILE; j++) {
    AnyPartial all;
    for (int s = 0; s < p.cache.segment_count; s++) {
      AnyPartial part;
      for (int piece = pieces.first[s]; piece < pieces.first[s + 1]; piece++) {
        const AnyPlace place(p, TILE, piece, j);
        const float m = place.get(0), l = place.get(1);
        part.merge({m, l, mine < dim ? place.get(4 + mine) : 0.0f});
      }
#define X(NAME, NUMBER, BITS, LARGEST) \
  if constexpr (PerHead<NAME>::KEPT)   \
    if (p.cache.segments[s].v_format == NAME) answer_with<NAME>(p, tile, s, part, mean);
      ELASTICKV_FORMATS(X)
#undef X
      all.merge(part);
    }
    if (mine < dim && tile.first_head + j < p.group)
      store_value(p.out, p.cache.dtype, ((long long)tile.row * p.group + tile.first_head + j) * dim + mine, all.normalised());
  }
  __syncthreads();
  for (int place = 0; place < int(gridDim.x) * TILE; place++) {
    const AnyPlace used(p, TILE, place / TILE, place % TILE);
    if (mine < dim) used.free(4 + mine);
    if (mine < 2) used.free(mine);
  }
}

template <int TILE>
__device__ void decode_any(const DecodeParams& p) {
  await_previous();
  let_next_begin();
  __shared__ AnyShared<TILE> shared;
  const AnyPieces pieces(p);
  const Tile tile = {int(blockIdx.z), int(blockIdx.y) * TILE};
  const int number = pieces.segment(blockIdx.x);
  const Segment& segment = p.cache.segments[number];
  const int begin = (blockIdx.x - pieces.first[number]) << pieces.shift, lane = threadIdx.x % 32;
  const AnyLive live(p, tile.row, number);
  const AnyFresh fresh(p, tile.row);
  const int lanes = p.cache.dim <= 64 ? 8 : p.cache.dim <= 128 ? 16 : 32;
  const AnyBlock<TILE> block = {p, shared, segment, tile, live, fresh.k, fresh.v, begin,
                                min(begin + (1 << pieces.shift), p.touched[number]), lanes, lane, int(threadIdx.x) / 32};
  if (blockIdx.y == 0 && live.newest >= begin && live.newest < block.end) fresh.store(p.cache, tile.row, live.newest);
  block.run();
  if (blockIdx.x == gridDim.x - 1) {
    __syncthreads();
    finish_any<TILE>(p, tile, pieces, shared.weights[0]);
  }
}

// Names: decode_any_g<TILE>; which one a launch takes: launch.py.
#define DECODE_ANY(TILE) \
  extern "C" __global__ __launch_bounds__(ANY_THREADS, 2) void decode_any_g##TILE(const DecodeParams p) { decode_any<TILE>(p); }
DECODE_ANY(1)
DECODE_ANY(4)
