// Closes a group: computes the slot that represents its tokens (../anchors) and stores it with its scales. Used by compress,
// close and append; one warp per group. Bitwise equal to workflow/elastickv/anchors and workflow/elastickv/formats.
#pragma once
#include "../anchor.h"
#include "cache.cuh"
#include "fragment.cuh"
#include "state.cuh"

constexpr int MOST_PAIRS = 4;        // pairs of dims a lane holds: dim <= 256
constexpr int MOST_GROUP_WARPS = 4;  // most warps per block of kernels that make slots

// A lane's pairs of dims of one vector: pairs lane, lane + 32, ...; zero past the end. A warp holds 64 * COUNT dims.
// FLIGHT: vectors of a group whose loads are issued before the first one is used.
template <int COUNT, int FLIGHT = 4>
struct Pairs {
  static constexpr int PAIRS = COUNT, IN_FLIGHT = FLIGHT;
  float x[COUNT][2];

  // Calls act(i, e) for each of the lane's numbers x[i][e].
  template <class Act>
  static __device__ void each(const Act& act) {
#pragma unroll
    for (int e = 0; e < 2 * COUNT; e++) act(e / 2, e % 2);
  }
};

// A lane's pairs as memory holds them: two words of fp32, or one word of two 16-bit numbers. Converted only after all loads
// are issued, because a branch on the type between two loads would make the second one wait for the first.
template <class Vector>
struct StoredPairs {
  uint2 words[Vector::PAIRS];

  __device__ void load(const void* from, long long vector, int dtype, int dim, int lane) {
#pragma unroll
    for (int i = 0; i < Vector::PAIRS; i++) {
      const int pair = lane + 32 * i;
      const long long at = vector * (dim / 2) + pair;
      words[i] = make_uint2(0, 0);
      if (pair >= dim / 2) continue;
      if (dtype == FP32) words[i] = static_cast<const uint2*>(from)[at];
      else words[i].x = static_cast<const Word32*>(from)[at];
    }
  }

  __device__ Vector unpacked(int dtype) const {
    Vector pairs;
#pragma unroll
    for (int i = 0; i < Vector::PAIRS; i++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const Word16 half = Word16(words[i].x >> 16 * e);
        const float number = dtype == FP16 ? from_fp16(half) : from_bf16(half);
        pairs.x[i][e] = dtype == FP32 ? __uint_as_float(e ? words[i].y : words[i].x) : number;
      }
    }
    return pairs;
  }
};

__device__ inline double warp_sum_double(double x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, step);
  return x;
}

// The sum of a vector's squares, in float64, the same in all lanes.
template <class Vector>
__device__ inline double squared_norm(const Vector& pairs) {
  double sum = 0.0;
  Vector::each([&](int i, int e) {
    const double x = pairs.x[i][e];
    sum += x * x;
  });
  return warp_sum_double(sum);
}

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
  template <class Vector>
  __device__ void load(const void* from, int i, Vector& to) const {
    StoredPairs<Vector> stored;
    stored.load(from, vector(i), dtype, dim, lane);
    to = stored.unpacked(dtype);
  }

  // Loads token i and returns i.
  template <class Vector>
  __device__ int load_both(int i, Vector& key, Vector& value) const {
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
  template <class Vector, class Take>
  __device__ void each(const void* from, const Take& take) const {
#pragma unroll 1
    for (int start = 0; start < size; start += Vector::IN_FLIGHT) {
      StoredPairs<Vector> stored[Vector::IN_FLIGHT];
#pragma unroll
      for (int i = 0; i < Vector::IN_FLIGHT; i++)
        if (start + i < size) stored[i].load(from, vector(start + i), dtype, dim, lane);
#pragma unroll
      for (int i = 0; i < Vector::IN_FLIGHT; i++)
        if (start + i < size) take(start + i, stored[i].unpacked(dtype));
    }
  }

  // The token whose vector in k or v has the best sum of squares, better(norm, best); the earliest of equals, the first NaN
  // before any number (as numpy.argmax and argmin). `its`: that vector.
  template <class Vector, class Better>
  __device__ int choose(const void* from, Vector& its, const Better& better) const {
    int chosen = 0;
    double best = 0.0;
    each<Vector>(from, [&](int i, const Vector& pairs) {
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

template <class Vector>
__device__ inline int close_by_rule(int rule, const Group& group, Vector& key, Vector& value) {
#define X(NAME, NUMBER) \
  if (rule == NAME) return Rule<NAME>::close(group, key, value);
  ELASTICKV_ANCHORS(X)
#undef X
  return 0;
}

// The vector to encode, transformed by the format's per-head state (`states`: of all heads).
template <int FORMAT, class Vector>
__device__ inline void pass_through(const void* states, int head, Vector& vector, int dim, int lane) {
  __shared__ float whole[MOST_GROUP_WARPS][64 * Vector::PAIRS];
  float* x = whole[threadIdx.x / 32];
  const float* state = static_cast<const float*>(states) + (long long)head * PerHead<FORMAT>::floats(dim);
  __syncwarp();
  Vector::each([&](int i, int e) { x[2 * (lane + 32 * i) + e] = vector.x[i][e]; });
  __syncwarp();
  Vector::each([&](int i, int e) {
    const int at = 2 * (lane + 32 * i) + e;
    vector.x[i][e] = at < dim ? PerHead<FORMAT>::stored(state, x, dim, at) : 0.0f;
  });
}

template <class Vector>
__device__ inline void pass_through(int format, const void* states, int head, Vector& vector, int dim, int lane) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if constexpr (PerHead<NAME>::KEPT)   \
    if (format == NAME) return pass_through<NAME>(states, head, vector, dim, lane);
  ELASTICKV_FORMATS(X)
#undef X
}

// Stores one vector as slot `slot` (over all rows) of keys or values, divided by its scale where the format has one.
template <int FORMAT, class Vector>
__device__ inline void store_as(void* to, void* scales, long long slot, const Vector& vector, int dim, int lane) {
  const int pairs = dim / 2;
  float divisor = 0.0f;
  if constexpr (is_scaled(FORMAT)) {
    Word32 peak = 0;  // |x| as an integer orders like |x|, with NaN above all: a NaN reaches the scale
#pragma unroll
    for (int i = 0; i < Vector::PAIRS; i++)
      if (lane + 32 * i < pairs)
        peak = max(peak, max(__float_as_uint(vector.x[i][0]) & 0x7fffffffu, __float_as_uint(vector.x[i][1]) & 0x7fffffffu));
#pragma unroll
    for (int step = 16; step > 0; step /= 2) peak = max(peak, __shfl_xor_sync(WHOLE_WARP, peak, step));
    const float quotient = div_rn(__uint_as_float(peak), format_largest(FORMAT));
    const Word16 scale = to_fp16(quotient > LARGEST_FP16 ? LARGEST_FP16 : quotient);
    divisor = from_fp16(scale);
    if (lane == 0) static_cast<Word16*>(scales)[slot] = scale;
  }
#pragma unroll
  for (int i = 0; i < Vector::PAIRS; i++) {
    const int pair = lane + 32 * i;
    if (pair >= pairs) continue;
    float first = vector.x[i][0], second = vector.x[i][1];
    if constexpr (is_scaled(FORMAT)) {
      first = divisor == 0.0f ? 0.0f : div_rn(first, divisor);
      second = divisor == 0.0f ? 0.0f : div_rn(second, divisor);
    }
    Stored<FORMAT>::put(to, slot * dim + 2 * pair, first, second);
  }
}

// The same in a format known at run time: chosen once per vector, not once per number.
template <class Vector>
__device__ inline void store_vector(void* to, void* scales, int format, long long slot, const Vector& vector, int dim, int lane) {
#define X(NAME, NUMBER, BITS, LARGEST) \
  if (format == NAME) return store_as<NAME>(to, scales, slot, vector, dim, lane);
  ELASTICKV_FORMATS(X)
#undef X
}

// Makes slot `slot` of a row of `segment` from a group whose first token is number `token`.
template <class Vector>
__device__ inline void close_group(const Group& group, const Cache& cache, const Segment& segment, int row, int slot,
                                   int token, float bias) {
  Vector key, value;
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
  close_group<Pairs<MOST_PAIRS>>(group, cache, cache.segments[closing.segment], row, closing.slot, closing.token, closing.bias);
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
