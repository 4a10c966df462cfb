// Decode launches that also append a token. One warp of a row's tile, after its units, takes the token from the pool, attends
// to it (one more partial of its block) and stores it. No other warp reads its slot in this launch (held_slots).
#pragma once
#include "cache.cuh"
#include "finish.cuh"

// The warp that appends. It keeps the token's number and slot in the place of its partial's bounds.
__device__ inline bool appends_fresh(const DecodeParams& p, int warp) {
  return takes_fresh(p) && warp == int(blockDim.x) / 32 - 1;
}

template <class Scratch>
__device__ int2* fresh_place(const Scratch& scratch) {
  return reinterpret_cast<int2*>(scratch.bounds + blockDim.x / 32 * Scratch::HEADS);
}

// The token's key and value on their way to L2. live: of segment 0 with the token.
template <int DTYPE, class Scratch>
__device__ void ask_for_fresh(const DecodeParams& p, const Tile& tile, int token, const Live& live, int lane,
                              const Scratch& scratch) {
  const int bytes = row_bytes(DTYPE, p.cache.dim);
  const long long at = fresh_vector(p.fresh, p.cache.rows, tile.row, token) * bytes + lane % 16 * 128;
  if (lane % 16 * 128 < bytes) prefetch(static_cast<const char*>(lane < 16 ? p.fresh.k : p.fresh.v) + at);
  if (lane == 0) *fresh_place(scratch) = make_int2(token, newest_slot(live));
}

// Two elements of a row as stored, and as numbers; read behind L1, as what a launch before has written.
template <int DTYPE>
struct Pair {
  Word32 both;
  static __device__ Pair load(const void* from, long long at) {
    return {Word32(load_fresh(static_cast<const int*>(from) + at))};
  }
  __device__ float2 numbers() const {
    return make_float2(from_word16<DTYPE>(Word16(both & 0xffffu)), from_word16<DTYPE>(Word16(both >> 16)));
  }
};

template <>
struct Pair<FP32> {
  uint2 both;
  static __device__ Pair load(const void* from, long long at) {
    Pair pair;
    load_fresh(static_cast<const uint2*>(from) + at, pair.both);
    return pair;
  }
  __device__ float2 numbers() const { return make_float2(__uint_as_float(both.x), __uint_as_float(both.y)); }
};

// The partial of the warp behind the block's own: for each of the tile's queries m the logit, l 1, o the value.
template <int DTYPE, int TILE, int WIDEST>
__device__ void append_fresh(const DecodeParams& p, const Tile& tile, int lane, const Scratch<TILE, WIDEST>& scratch) {
  using Two = Pair<DTYPE>;
  constexpr int PAIRS = WIDEST / 64;  // a lane's: pair lane, lane + 32, ...
  const Cache& cache = p.cache;
  __syncwarp();
  const Segment& exact = cache.segments[0];
  const int pairs = cache.dim / 2, warps = blockDim.x / 32;
  const int2 place = *fresh_place(scratch);
  __syncwarp();
  Two key[PAIRS], value[PAIRS];
  const long long from = fresh_vector(p.fresh, cache.rows, tile.row, place.x) * pairs;
  const long long slot = (long long)tile.row * exact.capacity + place.y;
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    const int pair = lane + 32 * i;
    key[i] = pair < pairs ? Two::load(p.fresh.k, from + pair) : Two{};
    value[i] = pair < pairs ? Two::load(p.fresh.v, from + pair) : Two{};
  }
#pragma unroll 1
  for (int j = 0; j < TILE; j++) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      const int pair = lane + 32 * i;
      const Two query = pair < pairs ? Two::load(p.q, query_of(p, tile, j) * pairs + pair) : Two{};
      const float2 q = query.numbers(), k = key[i].numbers();
      sum = fmaf(q.x, k.x, fmaf(q.y, k.y, sum));
      reinterpret_cast<float2*>(scratch.sums + warps * scratch.ITEMS + scratch.spread(j, pair / 2))[pair % 2] =
          value[i].numbers();
    }
    const float logit = warp_sum(sum) * p.scale * LOG2_E;
    if (lane == 0) scratch.bounds[warps * TILE + j] = make_float2(logit, 1.0f);
  }
  if (tile.first_head != 0) return;  // the row's first tile stores for all of them
  if (lane == 0 && exact.bias) exact.bias[slot] = 0.0f;
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    const int pair = lane + 32 * i;
    if (pair >= pairs) continue;
    static_cast<Two*>(exact.k)[slot * pairs + pair] = key[i];
    static_cast<Two*>(exact.v)[slot * pairs + pair] = value[i];
  }
}
