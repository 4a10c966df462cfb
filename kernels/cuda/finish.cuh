// Merges the partial answers of a block's warps in shared memory. With several splits, every block except that of the last
// split leaves its partial in the workspace, and the block of the last split merges them.
// Sizes are those of the instance, not of the launch, which avoids divisions. All orders are fixed, so results are bitwise
// repeatable.
//
// Partials serve as their own flags: every word of a free place is NOTHING_YET, a NaN that arithmetic never produces. A reader
// loads until no word has this value and then frees the place for the next launch, without counters or fences. This requires
// that blocks start in the order of their index (the last split of a tile comes last) and that the workspace was filled with
// 0xff once.
#pragma once
#include "state.cuh"
#include "tile.cuh"

constexpr Word32 NOTHING_YET = 0xffffffffu;
constexpr int WARPS_IN_FLIGHT = 8, SPLITS_IN_FLIGHT = 4;  // partials that a thread loads before merging them

// Dynamic shared memory per block (decode/launch.py computes the same size). WIDEST: largest dim of the instance.
template <int TILE, int WIDEST>
struct Scratch {
  static constexpr int HEADS = TILE, QUADS = WIDEST / 4, ITEMS = TILE * QUADS;  // an item: four dims of one head
  static constexpr int QUERY_BYTES = TILE * 4 * WIDEST + 16 * TILE;
  float4* sums;         // [warps + 1, TILE, QUADS], the quads of a head in the order of `spread`; the last: of fresh.cuh
  float4* crew_sums;    // [threads]
  char* query;          // [TILE == 1 ? warps : 1, QUERY_BYTES]: what a loop makes of the queries
  float2* bounds;       // [warps + 1, TILE]: m, l
  float2* crew_bounds;  // [threads]

  __device__ explicit Scratch(float4* memory) {
    const int warps = blockDim.x / 32;
    sums = memory;
    crew_sums = sums + (warps + 1) * ITEMS;
    query = reinterpret_cast<char*>(crew_sums + blockDim.x);
    bounds = reinterpret_cast<float2*>(query + (TILE == 1 ? warps : 1) * QUERY_BYTES);
    crew_bounds = bounds + (warps + 1) * TILE;
  }

  // Position of a quad among those of a warp, chosen to avoid bank conflicts: lanes with adjacent dims, or every fourth quad,
  // of one head or of heads two apart access different banks.
  static __device__ int spread(int head, int quad) { return head * QUADS + (quad ^ (quad >> 3) ^ (head & 2 ? 3 : 0)); }
};

#if __CUDA_ARCH__ >= 700
#define SHARED_STORE "st.relaxed.gpu.global"
#define SHARED_LOAD "ld.relaxed.gpu.global"
#else
#define SHARED_STORE "st.volatile.global"
#define SHARED_LOAD "ld.volatile.global"
#endif

// Partials in the workspace: [tiles, splits - 1, ITEMS] sums, then as many bounds (m, l), a copy for every item.
template <int ITEMS>
struct Workspace {
  float4* sums;
  float2* bounds;

  __device__ explicit Workspace(void* memory) {
    sums = static_cast<float4*>(memory);
    bounds = reinterpret_cast<float2*>(sums + (long long)gridDim.y * gridDim.z * (gridDim.x - 1) * ITEMS);
  }

  __device__ long long place(int split, int item) const {
    const long long tile = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    return (tile * (gridDim.x - 1) + split) * ITEMS + item;
  }

  __device__ void put(long long at, const float4& o, float m, float l) const {
    asm volatile(SHARED_STORE ".v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(sums + at), "f"(o.x), "f"(o.y), "f"(o.z), "f"(o.w)
                 : "memory");
    asm volatile(SHARED_STORE ".v2.f32 [%0], {%1, %2};" ::"l"(bounds + at), "f"(m), "f"(l) : "memory");
  }

  __device__ void get(long long at, float4& o, float2& bound) const {
    asm volatile(SHARED_LOAD ".v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(o.x), "=f"(o.y), "=f"(o.z), "=f"(o.w)
                 : "l"(sums + at)
                 : "memory");
    asm volatile(SHARED_LOAD ".v2.f32 {%0, %1}, [%2];" : "=f"(bound.x), "=f"(bound.y) : "l"(bounds + at) : "memory");
  }

  __device__ void free(long long at) const {
    const float nothing = __uint_as_float(NOTHING_YET);
    put(at, make_float4(nothing, nothing, nothing, nothing), nothing, nothing);
  }
};

__device__ inline bool is_missing(float x) { return __float_as_uint(x) == NOTHING_YET; }

__device__ inline bool is_missing(const float4& o, const float2& bound) {
  return is_missing(o.x) || is_missing(o.y) || is_missing(o.z) || is_missing(o.w) || is_missing(bound.x) ||
         is_missing(bound.y);
}

template <int DTYPE, class Scratch>
__device__ void write_answer(const DecodeParams& p, const Tile& tile, int item, const Partial& partial) {
  const int head_of_tile = item / Scratch::QUADS, first = item % Scratch::QUADS * 4;
  if (tile.first_head + head_of_tile >= p.group || first >= p.cache.dim) return;
  const long long at = ((long long)tile.row * p.group + tile.first_head + head_of_tile) * p.cache.dim + first;
  const float4 x = partial.normalised();
  store4<DTYPE>(p.out, at, x);
}

// Merges partials first, first + step, ... below `count`, IN_FLIGHT at a time: load(i, o, bound) reads those from i on.
template <int IN_FLIGHT, class Load>
__device__ void merge_all(Partial& all, int first, int step, int count, const Load& load) {
#pragma unroll 1
  for (int at = first; at < count; at += step * IN_FLIGHT) {
    float2 bound[IN_FLIGHT];
    float4 sum[IN_FLIGHT];
    load(at, sum, bound);
    float largest = all.m;
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++) largest = fmaxf(largest, at + i * step < count ? bound[i].x : NO_LOGIT);
    all.rescale(largest);
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++)
      if (at + i * step < count) all.add(exp2_approx(bound[i].x - largest), bound[i].y, sum[i]);
  }
}

// Whether this block of a launch that appends holds the partial of the new token, too: one that has few units and does not
// wait for the others' partials.
__device__ inline bool takes_fresh(const DecodeParams& p) { return p.fresh.k && blockIdx.x == max(int(gridDim.x) - 2, 0); }

// The share of one item of all `warps` partials of this block.
template <int TILE, int WIDEST>
__device__ Partial merge_warps(const Scratch<TILE, WIDEST>& scratch, int item, int warps) {
  using S = Scratch<TILE, WIDEST>;
  const int head = item / S::QUADS;
  Partial all;
  merge_all<WARPS_IN_FLIGHT>(all, 0, 1, warps, [&](int first, float4* sum, float2* bound) {
#pragma unroll
    for (int i = 0; i < WARPS_IN_FLIGHT; i++) {
      const int warp = min(first + i, warps - 1);
      bound[i] = scratch.bounds[warp * TILE + head];
      sum[i] = scratch.sums[warp * S::ITEMS + S::spread(head, item % S::QUADS)];
    }
  });
  return all;
}

// Adds what the other splits left for one item: partials first, first + step, ...; waits for them and frees their places.
template <int ITEMS>
__device__ void collect(Partial& all, const Workspace<ITEMS>& workspace, int item, int first, int step) {
  const int others = gridDim.x - 1;
  merge_all<SPLITS_IN_FLIGHT>(all, first, step, others, [&](int at, float4* sum, float2* bound) {
    bool missing;
    do {
      missing = false;
#pragma unroll
      for (int i = 0; i < SPLITS_IN_FLIGHT; i++)
        workspace.get(workspace.place(min(at + i * step, others - 1), item), sum[i], bound[i]);
#pragma unroll
      for (int i = 0; i < SPLITS_IN_FLIGHT; i++)
        if (at + i * step < others) missing |= is_missing(sum[i], bound[i]);
    } while (missing);
  });
  for (int at = first; at < others; at += step) workspace.free(workspace.place(at, item));
}

// Merges the warps of a block; stores a partial or, in the block of the last split, writes the answer. With fewer items than
// threads, several crews of threads each collect every crews-th split, and crew 0 merges their results.
template <int DTYPE, int TILE, int WIDEST>
__device__ void finish(const DecodeParams& p, const Scratch<TILE, WIDEST>& scratch, const Tile& tile) {
  using S = Scratch<TILE, WIDEST>;
  const int threads = blockDim.x, others = gridDim.x - 1;
  const Workspace<S::ITEMS> workspace(p.workspace);
  const bool last = blockIdx.x == others;
  const int crews = last ? max(1, min(threads / S::ITEMS, others)) : 1, partials = threads / 32 + takes_fresh(p);
#pragma unroll 1
  for (int thread = threadIdx.x; thread < S::ITEMS * crews; thread += threads) {
    const int item = thread % S::ITEMS, crew = thread / S::ITEMS;
    Partial all;
    if (crew == 0) all = merge_warps(scratch, item, partials);
    if (!last) {
      workspace.put(workspace.place(blockIdx.x, item), all.o, all.m, all.l);
      continue;
    }
    collect(all, workspace, item, crew, crews);
    if (crews == 1) {
      write_answer<DTYPE, S>(p, tile, item, all);
    } else {
      scratch.crew_sums[thread] = all.o;
      scratch.crew_bounds[thread] = make_float2(all.m, all.l);
    }
  }
  if (crews == 1) return;
  __syncthreads();
  if (threadIdx.x >= S::ITEMS) return;
  Partial all;
  merge_all<SPLITS_IN_FLIGHT>(all, 0, 1, crews, [&](int first, float4* sum, float2* bound) {
#pragma unroll
    for (int i = 0; i < SPLITS_IN_FLIGHT; i++) {
      const int at = min(first + i, crews - 1) * S::ITEMS + threadIdx.x;
      bound[i] = scratch.crew_bounds[at];
      sum[i] = scratch.crew_sums[at];
    }
  });
  write_answer<DTYPE, S>(p, tile, threadIdx.x, all);
}
