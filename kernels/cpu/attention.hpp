// Attention of a tile of query heads over a stretch of slots in one storage format, as online softmax over
// blocks of slots (Milakov & Gimelshein 2018; split over the sequence as in Flash-Decoding):
//   s_i = q.k_i + bias_i;  m' = max(m, max s_i);  l' = l e^(m - m') + sum e^(s_i - m');  o' = o e^(m - m') + sum e^(s_i - m') v_i
// Each block sums on its own before it joins the state, so rounding grows with the block and the number of blocks, not
// with the number of slots. A NaN in a key or value reaches the output: no comparison drops it.
#pragma once
#include <algorithm>

#include "simd.hpp"

namespace elastickv {

// Consecutive slots of one segment; scales and bias may be null.
struct Stretch {
  const char* k;
  const char* v;
  const uint16_t* k_scale;  // fp16, only for quantised formats
  const uint16_t* v_scale;
  const float* bias;
  int slots;
};

// The softmax state of one query head: running maximum, sum and `dim` weighted sums that follow in memory.
struct State {
  float max;
  float sum;
  float* out;
};

constexpr int MOST_SLOTS = 64;
// A block's keys or values stay in the L1 cache between passes. Short blocks were faster on AVX2 processors (one page: 0.9
// of the read ceiling instead of 0.7) and slower on the AVX-512 processors that were measured.
constexpr int BLOCK_BYTES = LANES == 16 ? 16 << 10 : 4 << 10;
constexpr int ACCUMULATORS = 8;        // enough to hide the latency of fused multiply-adds
constexpr int MOST_ACCUMULATORS = LANES == 16 ? 16 : 8;  // what registers allow: wider passes reuse weights more often

// Slots per block: a multiple of LANES (scores are padded to whole vectors) and of the dot products computed at once.
constexpr int block_slots(int format, int dim) {
  constexpr int WHOLE = LANES > ACCUMULATORS ? LANES : ACCUMULATORS;
  const int fit = BLOCK_BYTES / row_bytes(format, dim) / WHOLE * WHOLE;
  return fit > MOST_SLOTS ? MOST_SLOTS : fit < WHOLE ? WHOLE : fit;
}

// Prefetches to the L2 cache, which keeps the few L1 fill buffers free for demand loads (6-8% of bandwidth).
ELASTICKV_INLINE void prefetch(const char* address, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(address + i, 0, 2);
}

// scores[g * MOST_SLOTS + i] = q_g . k_i for a tile of TILE queries; 8 dot products at a time. `ahead` (as long as the
// keys) is the data needed next: it is prefetched here, so that memory transfers overlap with computation.
template <int FORMAT, int TILE>
ELASTICKV_INLINE void score(const char* k, int slots, int dim, const float* q, float* scores, const char* ahead) {
  constexpr int TOGETHER = ACCUMULATORS / TILE;
  const int bytes = row_bytes(FORMAT, dim);
  for (int first = 0; first < slots; first += TOGETHER) {
    if (ahead) prefetch(ahead + first * bytes, TOGETHER * bytes);
    const char* keys[TOGETHER];
    for (int i = 0; i < TOGETHER; ++i) keys[i] = k + std::min(first + i, slots - 1) * bytes;
    Floats sums[ACCUMULATORS] = {};
    for (int step = 0; step < dim / STEP; ++step)
      for (int part = 0; part < STEPS; ++part) {
        Floats query[TILE];
        for (int g = 0; g < TILE; ++g) {
          query[g] = load<Floats>(q + g * dim + step * STEP + part * LANES);
          keep_in_register(query[g]);
        }
        for (int i = 0; i < TOGETHER; ++i) {
          const Floats key = load_floats<FORMAT>(keys[i], step, part);
          for (int g = 0; g < TILE; ++g) sums[i * TILE + g] += key * query[g];
        }
      }
    float dots[ACCUMULATORS];
    reduce8(sums, dots);
    for (int i = 0; i < TOGETHER; ++i)
      for (int g = 0; g < TILE; ++g) scores[g * MOST_SLOTS + first + i] = dots[i * TILE + g];
  }
}

// Software prefetching during passes over a block: `bytes` (perhaps 0) from `next` on per slot. In memory order, which the
// hardware prefetcher continues, and evenly spread, so that memory is never idle during a pass.
struct Ahead {
  const char* next;
  int bytes;
};

// o_g = o_g * rescale_g + sum_i weights_gi v_i over dims [16 * step, 16 * (step + WIDTH)).
template <int FORMAT, int TILE, int WIDTH>
ELASTICKV_INLINE void accumulate_steps(const char* v, int slots, int dim, int step, const float* weights,
                                       const float* rescale, State* states, Ahead& ahead) {
  const int bytes = row_bytes(FORMAT, dim);
  Floats sums[TILE][WIDTH * STEPS] = {};
  for (int i = 0; i < slots; ++i, ahead.next += ahead.bytes) {
    prefetch(ahead.next, ahead.bytes);
    Floats weight[TILE];
    for (int g = 0; g < TILE; ++g) weight[g] = splat(weights[g * MOST_SLOTS + i]);
    for (int j = 0; j < WIDTH * STEPS; ++j) {
      const Floats value = load_floats<FORMAT>(v + i * bytes, step + j / STEPS, j % STEPS);
      for (int g = 0; g < TILE; ++g) sums[g][j] += weight[g] * value;
    }
  }
  for (int g = 0; g < TILE; ++g)
    for (int j = 0; j < WIDTH * STEPS; ++j) {
      float* out = states[g].out + step * STEP + j * LANES;
      store(out, load<Floats>(out) * rescale[g] + sums[g][j]);
    }
}

// The same for all dims, in passes of about equal width, as wide as registers allow.
template <int FORMAT, int TILE, int WIDTH>
ELASTICKV_INLINE void accumulate(const char* v, int slots, int dim, const float* weights, const float* rescale,
                                 State* states, const char* ahead) {
  const int steps = dim / STEP, passes = (steps + WIDTH - 1) / WIDTH, even = (steps + passes - 1) / passes;
  if constexpr (WIDTH > 1)
    if (even < WIDTH) return accumulate<FORMAT, TILE, WIDTH - 1>(v, slots, dim, weights, rescale, states, ahead);
  Ahead part{ahead, ahead ? row_bytes(FORMAT, dim) / (steps / WIDTH + steps % WIDTH) : 0};
  int step = 0;
  for (; step + WIDTH <= steps; step += WIDTH)
    accumulate_steps<FORMAT, TILE, WIDTH>(v, slots, dim, step, weights, rescale, states, part);
  for (; step < steps; ++step)
    accumulate_steps<FORMAT, TILE, 1>(v, slots, dim, step, weights, rescale, states, part);
}

// Turns a query's scores into weights e^(score - max) in place, updates its state; returns the factor for old sums.
inline __attribute__((noinline)) float soften(float* scores, int slots, State& state) {
  const int padded = (slots + LANES - 1) / LANES * LANES;
  std::fill(scores + slots, scores + padded, -INFINITY);
  Floats largest = splat(-INFINITY);
  for (int i = 0; i < padded; i += LANES) {
    const Floats s = load<Floats>(scores + i);
    largest = s > largest ? s : largest;
  }
  const float old = state.max;
  state.max = std::max(old, lane_max(largest));
  const float base = state.max == -INFINITY ? 0 : state.max;  // no finite score yet: -inf - -inf would be a NaN
  Floats sum = {};
  for (int i = 0; i < padded; i += LANES) {
    const Floats weight = exp_floats(load<Floats>(scores + i) - base);
    store(scores + i, weight);
    sum += weight;
  }
  const float rescale = old == state.max ? 1 : old == -INFINITY ? 0 : std::exp(old - base);
  state.sum = state.sum * rescale + lane_sum(sum);
  return rescale;
}

// values[g, i] *= factors[i] for the tile's queries.
template <int TILE>
ELASTICKV_INLINE void multiply(float* values, const float* factors, int slots) {
  for (int g = 0; g < TILE; ++g)
    for (int i = 0; i < slots; ++i) values[g * MOST_SLOTS + i] *= factors[i];
}

// All query heads of a row (tiles x TILE, padded) over one stretch. q: [tiles * TILE, dim] floats, scaled by 1 / sqrt(D).
template <int FORMAT, int TILE>
void attend(const Stretch& stretch, int dim, const float* q, int tiles, State* states) {
  constexpr int WIDTH = std::max(1, (TILE == 4 ? MOST_ACCUMULATORS : ACCUMULATORS) / TILE / STEPS);
  const int bytes = row_bytes(FORMAT, dim), block = block_slots(FORMAT, dim);
  alignas(64) float scores[TILE * MOST_SLOTS], k_scale[MOST_SLOTS], v_scale[MOST_SLOTS];
  for (int begin = 0; begin < stretch.slots; begin += block) {
    const int slots = std::min(block, stretch.slots - begin);
    const char* k = stretch.k + (long long)begin * bytes;
    const char* v = stretch.v + (long long)begin * bytes;
    if constexpr (is_scaled(FORMAT))
      for (int i = 0; i < slots; ++i) {
        k_scale[i] = decode_fp16(stretch.k_scale[begin + i]) * Stored<FORMAT>::FACTOR;
        v_scale[i] = decode_fp16(stretch.v_scale[begin + i]) * Stored<FORMAT>::FACTOR;
      }
    for (int tile = 0; tile < tiles; ++tile) {
      State* state = states + tile * TILE;
      float rescale[TILE];
      score<FORMAT, TILE>(k, slots, dim, q + tile * TILE * dim, scores, tile == 0 ? v : nullptr);
      if constexpr (is_scaled(FORMAT)) multiply<TILE>(scores, k_scale, slots);
      for (int g = 0; g < TILE; ++g) {
        float* row = scores + g * MOST_SLOTS;
        if (stretch.bias)
          for (int i = 0; i < slots; ++i) row[i] += stretch.bias[begin + i];
        rescale[g] = soften(row, slots, state[g]);
      }
      if constexpr (is_scaled(FORMAT)) multiply<TILE>(scores, v_scale, slots);
      const bool last = tile == tiles - 1;
      const char* ahead = last ? k + slots * bytes : nullptr;  // the next block's keys
      accumulate<FORMAT, TILE, WIDTH>(v, slots, dim, scores, rescale, state, ahead);
    }
  }
}

}  // namespace elastickv
