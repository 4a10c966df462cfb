// Closes a group: computes the slot that represents its tokens (../anchors) and stores it with its scales. Used by compress,
// close and append; one warp per group. Bitwise equal to workflow/elastickv/anchors and workflow/elastickv/formats.
#pragma once
#include "../anchor.h"
#include "cache.cuh"
#include "fragment.cuh"
#include "state.cuh"

constexpr int MOST_PAIRS = 4;        // pairs of dims a lane holds: dim <= 256
constexpr int MOST_GROUP_WARPS = 4;  // most warps per block of kernels that make slots

// A lane's pairs of dims of one vector: pairs lane, lane + 32, ...; zero past the end.
struct Pairs {
  float x[MOST_PAIRS][2];
};

// Calls act(i, e) for each of a lane's numbers x[i][e].
template <class Act>
__device__ inline void for_each_dim(const Act& act) {
#pragma unroll
  for (int e = 0; e < 2 * MOST_PAIRS; e++) act(e / 2, e % 2);
}

template <int DTYPE>
__device__ inline void load_pairs(Pairs& to, const void* from, long long vector, int dim, int lane) {
#pragma unroll
  for (int i = 0; i < MOST_PAIRS; i++) {
    const int pair = lane + 32 * i;
    to.x[i][0] = to.x[i][1] = 0.0f;
    if (pair >= dim / 2) continue;
    const long long at = vector * (dim / 2) + pair;
    if constexpr (DTYPE == FP32) {
      const float2 two = static_cast<const float2*>(from)[at];
      to.x[i][0] = two.x;
      to.x[i][1] = two.y;
    } else {
      const Word32 two = static_cast<const Word32*>(from)[at];
      to.x[i][0] = from_word16<DTYPE>(Word16(two & 0xffffu));
      to.x[i][1] = from_word16<DTYPE>(Word16(two >> 16));
    }
  }
}

__device__ inline double warp_sum_double(double x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, step);
  return x;
}

// The sum of a vector's squares, in float64, the same in all lanes.
__device__ inline double squared_norm(const Pairs& pairs) {
  double sum = 0.0;
  for_each_dim([&](int i, int e) {
    const double x = pairs.x[i][e];
    sum += x * x;
  });
  return warp_sum_double(sum);
}

constexpr int GROUP_IN_FLIGHT = 4;  // tokens whose vectors are loaded before the first one is used
constexpr int ENDLESS = 0x7fffffff;  // slots of a ring that never wraps

// `size` tokens of one row, as a warp sees them. Token i is vector base + (first + i) % ring of k and v.
struct Group {
  const void* k;
  const void* v;
  long long base;
  int first;
  int ring;
  int size;
  int dtype;
  int dim;
  int lane;

  __device__ long long vector(int i) const {
    const int step = first + i;
    return base + (step < ring ? step : step - ring);
  }

  // from: k or v.
  __device__ void load(const void* from, int i, Pairs& to) const {
    if (dtype == FP32) load_pairs<FP32>(to, from, vector(i), dim, lane);
    else if (dtype == FP16) load_pairs<FP16>(to, from, vector(i), dim, lane);
    else load_pairs<BF16>(to, from, vector(i), dim, lane);
  }

  // Loads token i and returns i.
  __device__ int load_both(int i, Pairs& key, Pairs& value) const {
    load(k, i, key);
    load(v, i, value);
    return i;
  }

  // All vectors of k or v on their way to L2.
  __device__ void ask_for(const void* from) const {
    const int bytes = row_bytes(dtype, dim), lines = (bytes + 127) / 128;
    for (int i = lane; i < size * lines; i += 32)
      prefetch(static_cast<const char*>(from) + vector(i / lines) * bytes + i % lines * 128);
  }

  // Calls take(i, pairs) for the tokens' vectors in k or v, in order.
  template <class Take>
  __device__ void each(const void* from, const Take& take) const {
#pragma unroll 1
    for (int start = 0; start < size; start += GROUP_IN_FLIGHT) {
      Pairs pairs[GROUP_IN_FLIGHT];
#pragma unroll
      for (int i = 0; i < GROUP_IN_FLIGHT; i++) load(from, min(start + i, size - 1), pairs[i]);
#pragma unroll
      for (int i = 0; i < GROUP_IN_FLIGHT; i++)
        if (start + i < size) take(start + i, pairs[i]);
    }
  }

  // The token whose vector in k or v has the best sum of squares, better(norm, best); the earliest of equals, the first NaN
  // before any number (as numpy.argmax and argmin). `its`: that vector.
  template <class Better>
  __device__ int choose(const void* from, Pairs& its, const Better& better) const {
    int chosen = 0;
    double best = 0.0;
    each(from, [&](int i, const Pairs& pairs) {
      const double norm = squared_norm(pairs);
      if (i == 0 || better(norm, best) || (norm != norm && best == best)) {
        best = norm;
        chosen = i;
        its = pairs;
      }
    });
    return chosen;
  }
};

// Defined for each rule in kernels/anchors/<name>.h. close(group, key, value): computes the key and value that represent a
// group; returns the index of the token that they are recorded as.
template <int RULE>
struct Rule;
#include "anchors_code.h"

__device__ inline int close_by_rule(int rule, const Group& group, Pairs& key, Pairs& value) {
#define X(NAME, NUMBER) \
  if (rule == NAME) return Rule<NAME>::close(group, key, value);
  ELASTICKV_ANCHORS(X)
#undef X
  return 0;
}

// Values at and at + 1 of an array in any format.
__device__ inline void put(int format, void* to, long long at, float x, float y) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) return Stored<NAME>::put(to, at, x, y);
  ELASTICKV_FORMATS(X)
#undef X
}

// The vector to encode, transformed by the format's per-head state (`states`: of all heads).
template <int FORMAT>
__device__ inline void pass_through(const void* states, int head, Pairs& vector, int dim, int lane) {
  __shared__ float whole[MOST_GROUP_WARPS][64 * MOST_PAIRS];
  float* x = whole[threadIdx.x / 32];
  const float* state = static_cast<const float*>(states) + (long long)head * PerHead<FORMAT>::floats(dim);
  __syncwarp();
  for_each_dim([&](int i, int e) { x[2 * (lane + 32 * i) + e] = vector.x[i][e]; });
  __syncwarp();
  for_each_dim([&](int i, int e) {
    const int at = 2 * (lane + 32 * i) + e;
    vector.x[i][e] = at < dim ? PerHead<FORMAT>::stored(state, x, dim, at) : 0.0f;
  });
}

__device__ inline void pass_through(int format, const void* states, int head, Pairs& vector, int dim, int lane) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if constexpr (PerHead<NAME>::KEPT)   \
    if (format == NAME) return pass_through<NAME>(states, head, vector, dim, lane);
  ELASTICKV_FORMATS(X)
#undef X
}

// Stores one vector as slot `slot` (over all rows) of keys or values in `format`, divided by its scale where there is one.
__device__ inline void store_vector(void* to, void* scales, int format, long long slot, const Pairs& vector, int dim, int lane) {
  const int pairs = dim / 2;
  const float largest = format_largest(format);
  const bool quantised = largest != 0.0f;
  float divisor = 0.0f;
  if (quantised) {
    Word32 peak = 0;  // |x| as an integer orders like |x|, with NaN above all: a NaN reaches the scale
#pragma unroll
    for (int i = 0; i < MOST_PAIRS; i++)
      if (lane + 32 * i < pairs)
        peak = max(peak, max(__float_as_uint(vector.x[i][0]) & 0x7fffffffu, __float_as_uint(vector.x[i][1]) & 0x7fffffffu));
#pragma unroll
    for (int step = 16; step > 0; step /= 2) peak = max(peak, __shfl_xor_sync(WHOLE_WARP, peak, step));
    const float quotient = div_rn(__uint_as_float(peak), largest);
    const Word16 scale = to_fp16(quotient > LARGEST_FP16 ? LARGEST_FP16 : quotient);
    divisor = from_fp16(scale);
    if (lane == 0) static_cast<Word16*>(scales)[slot] = scale;
  }
#pragma unroll
  for (int i = 0; i < MOST_PAIRS; i++) {
    const int pair = lane + 32 * i;
    if (pair >= pairs) continue;
    float first = vector.x[i][0], second = vector.x[i][1];
    if (quantised) {
      first = divisor == 0.0f ? 0.0f : div_rn(first, divisor);
      second = divisor == 0.0f ? 0.0f : div_rn(second, divisor);
    }
    put(format, to, slot * dim + 2 * pair, first, second);
  }
}

// Makes slot `slot` of a row of `segment` from a group whose first token is number `token`.
__device__ inline void close_group(const Group& group, const Cache& cache, const Segment& segment, int row, int slot, int token,
                                   float bias) {
  Pairs key, value;
  token += close_by_rule(cache.anchor, group, key, value);
  pass_through(segment.k_format, segment.k_state, row % cache.kv_heads, key, group.dim, group.lane);
  pass_through(segment.v_format, segment.v_state, row % cache.kv_heads, value, group.dim, group.lane);
  const long long at = (long long)row * segment.capacity + slot;
  store_vector(segment.k, segment.k_scale, segment.k_format, at, key, group.dim, group.lane);
  store_vector(segment.v, segment.v_scale, segment.v_format, at, value, group.dim, group.lane);
  if (group.lane == 0) {
    segment.token[at] = token;
    if (segment.bias) segment.bias[at] = bias;
  }
}

// Makes the slot of a closing, whose tokens the cache itself holds exactly; nothing where its count is 0.
__device__ inline void close_group(const Cache& cache, const Closing& closing, int row, int lane) {
  if (closing.count == 0) return;
  const Segment& exact = cache.segments[0];
  const Group group = {exact.k,       exact.v,       (long long)row * exact.capacity + closing.head, closing.first, closing.ring,
                       closing.count, cache.dtype, cache.dim,                                        lane};
  close_group(group, cache, cache.segments[closing.segment], row, closing.slot, closing.token, closing.bias);
}

// Copies one token's key and value into slot `slot` of a row's segment 0 (where a bias is 0). `from` indexes vectors of k and v.
__device__ inline void copy_token(const Cache& cache, const void* k, const void* v, long long from, int row, int slot, int lane) {
  const Segment& exact = cache.segments[0];
  const long long at = (long long)row * exact.capacity + slot, to = at * cache.dim;
  if (lane == 0 && exact.bias) exact.bias[at] = 0.0f;
  if (cache.dtype == FP32) {
    for (int d = lane; d < cache.dim; d += 32) {
      static_cast<float*>(exact.k)[to + d] = static_cast<const float*>(k)[from * cache.dim + d];
      static_cast<float*>(exact.v)[to + d] = static_cast<const float*>(v)[from * cache.dim + d];
    }
  } else {
    for (int d = lane; d < cache.dim; d += 32) {
      static_cast<Word16*>(exact.k)[to + d] = static_cast<const Word16*>(k)[from * cache.dim + d];
      static_cast<Word16*>(exact.v)[to + d] = static_cast<const Word16*>(v)[from * cache.dim + d];
    }
  }
}
