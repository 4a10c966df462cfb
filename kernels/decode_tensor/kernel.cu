// decode on tensor cores (sm_80 and up): dim 128, exact slots in fp16 or bf16, middle slots the same, int8 or int4.
//   out[row, j] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i
//
// Used for grouped queries, whose heads share one read of the cache, and for quantised middles, whose conversion would take
// longer on CUDA cores than reading memory. Codes are multiplied without conversion: logits by integer products with q as
// 16-bit fixed point in two columns (high and low byte), values as fp16 subnormals (code + offset) * 2^-24. Scales multiply
// logits and weights; the offset is removed by one more product. Values' scales must be at most 255 (weights times scales are
// fp16).
//
// Traffic, splits, merge: as decode.cu. Launch: the same grid, 12, 6 or 3 warps (registers: 12 warps an SM), Scratch.
// A unit is the data that a warp holds at once: 4 KB of keys and 4 KB of values, that is 16 exact, 32 int8 or 64 int4 slots.
#include "fresh.cuh"
#include "reader.cuh"

#if __CUDA_ARCH__ >= 800
#include "tensor.cuh"

constexpr int TENSOR_DIM = 128;
constexpr float FIXED_POINT = 32500.0f;           // of the largest |q|: hi * 256 + lo with two signed bytes
constexpr float SUBNORMAL = 5.9604644775390625e-8f;  // 2^-24: what the fp16 pattern 1 is worth

template <int DTYPE_, int MIDDLE_, int TILE_>
struct TensorShape {
  static constexpr int DTYPE = DTYPE_, MIDDLE = MIDDLE_, TILE = TILE_;
  static constexpr bool QUANTISED = MIDDLE == INT8 || MIDDLE == INT4;
  static constexpr int TILES = MIDDLE == INT4 ? 4 : MIDDLE == INT8 ? 2 : 1;  // runs of 16 slots in a middle unit
  static constexpr int OWNED = TILE == 1 ? 1 : TILES;  // of them, how many a lane weighs: with one head lanes share them
  static constexpr int OFFSET = MIDDLE == INT4 ? 8 : 128;  // stored value code minus code
};

// One warp's work on TILE query heads. Lane (g, t) weighs head t (TILE 1: the only one) for slots g and g + 8 of a run of 16;
// its sums o[j] belong to dims dim_of(j) and the next, columns 2t and 2t + 1, which are heads modulo TILE.
template <class S>
struct TensorReader {
  int lane, g, t;
  uint4 k[8];
  uint4 v[8];
  Word16 k_scale[2];
  Word16 v_scale[2];
  float bias[2];
  float o[8][4];
  float offset[4];  // what the values' offsets add to columns 2t, 2t + 1 of every o[j], since it was taken out last
  float m;
  float l;

  __device__ explicit TensorReader(int lane_) : lane(lane_), g(lane_ / 4), t(lane_ % 4), m(NO_LOGIT), l(0.0f) {
#pragma unroll
    for (int j = 0; j < 8; j++) o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
    offset[0] = offset[1] = offset[2] = offset[3] = 0.0f;
  }

  template <int FORMAT>
  static constexpr int UNIT = FORMAT == INT4 ? 64 : FORMAT == INT8 ? 32 : 16;

  template <int FORMAT>
  static __device__ int units(int slots) {
    return (slots + UNIT<FORMAT> - 1) / UNIT<FORMAT>;
  }

  // First of the two dims of o[j]: values of quantised slots come 16 dims a lane, exact ones 2 x 8.
  template <int FORMAT>
  __device__ int dim_of(int j) const {
    if constexpr (FORMAT == INT8 || FORMAT == INT4) return 16 * g + 2 * j;
    else return 64 * (j / 4) + 8 * g + 2 * (j % 4);
  }

  // The run of 16 slots whose scales and biases this lane loads.
  template <int FORMAT>
  __device__ int run_of() const {
    return FORMAT == INT4 ? t : FORMAT == INT8 ? t & 1 : 0;
  }

  template <int FORMAT>
  __device__ void load_keys(const Slots& slots, int number) {
    constexpr int ROW = row_bytes(FORMAT, TENSOR_DIM);
    const int base = number * UNIT<FORMAT>;
    const char* from = slots.k + (long long)base * ROW + g * ROW + 16 * t;
    if constexpr (FORMAT == INT4) {
#pragma unroll
      for (int i = 0; i < 8; i++) load_streamed(from + 8 * i * ROW, k[i]);
    } else if constexpr (FORMAT == INT8) {
#pragma unroll
      for (int i = 0; i < 8; i++) load_streamed(from + i / 2 * 8 * ROW + 64 * (i % 2), k[i]);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) load_streamed(from + i % 2 * 8 * ROW + 64 * (i / 2), k[i]);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int owned = base + 16 * run_of<FORMAT>() + 8 * i + g;
      if constexpr (FORMAT == INT8 || FORMAT == INT4) {
        load_streamed(slots.k_scale + owned, k_scale[i]);
        load_streamed(slots.v_scale + owned, v_scale[i]);
      }
      bias[i] = slots.bias ? __ldg(slots.bias + owned) : 0.0f;
    }
  }

  // Values of slots t, t + 8, t + 4, t + 12 of each run, in this order.
  template <int FORMAT>
  __device__ void load_values(const Slots& slots, int number) {
    constexpr int ROW = row_bytes(FORMAT, TENSOR_DIM), PART = FORMAT == INT4 ? 8 : 16;
    const char* from = slots.v + (long long)number * UNIT<FORMAT> * ROW + t * ROW + PART * g;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      if constexpr (FORMAT == INT4) {
        uint2 first, second;
        load_streamed(from + (i / 2 * 16 + i % 2 * 4) * ROW, first);
        load_streamed(from + (i / 2 * 16 + i % 2 * 4 + 8) * ROW, second);
        v[i] = make_uint4(first.x, first.y, second.x, second.y);
      } else if constexpr (FORMAT == INT8) {
        load_streamed(from + (i / 4 * 16 + i % 2 * 8 + i / 2 % 2 * 4) * ROW, v[i]);
      } else {
        load_streamed(from + (i / 2 % 2 * 8 + i / 4 * 4) * ROW + 128 * (i % 2), v[i]);
      }
    }
  }

  __device__ void load_keys(const Units& units, int unit) {
    if constexpr (!S::QUANTISED) load_keys<S::DTYPE>(units.slots(unit), units.number(unit));
    else if (unit < units.of_middle) load_keys<S::MIDDLE>(units.middle, unit);
    else load_keys<S::DTYPE>(units.exact, unit - units.of_middle);
  }

  __device__ void load_values(const Units& units, int unit) {
    if constexpr (!S::QUANTISED) load_values<S::DTYPE>(units.slots(unit), units.number(unit));
    else if (unit < units.of_middle) load_values<S::MIDDLE>(units.middle, unit);
    else load_values<S::DTYPE>(units.exact, unit - units.of_middle);
  }

  // Raises the bound m of the logits seen, when `largest` outgrew it, and rescales what was summed.
  __device__ void raise(float largest) {
    if (!__any_sync(WHOLE_WARP, largest > m + RESCALE_STEP)) return;
#pragma unroll
    for (int step = S::TILE == 1 ? 1 : 4; step < 32; step *= 2)
      largest = fmaxf(largest, __shfl_xor_sync(WHOLE_WARP, largest, step));
    const float bound = fmaxf(m, largest), shrink = exp2_approx(m - bound);
    m = bound;
    l *= shrink;
    const float even = S::TILE == 1 ? shrink : __shfl_sync(WHOLE_WARP, shrink, 2 * t % 4);
    const float odd = S::TILE == 1 ? shrink : __shfl_sync(WHOLE_WARP, shrink, (2 * t + 1) % 4);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      o[j][0] *= even;
      o[j][1] *= odd;
      o[j][2] *= even;
      o[j][3] *= odd;
    }
    offset[0] *= even;
    offset[1] *= odd;
  }

  // ---- exact slots ----

  struct ExactQuery {
    uint4 words[4];  // dims 32 i + 8 t ... + 7 of head g / 2; zero in odd columns
  };

  // q: of the tile's first head, in shared memory (STAGED) or where the kernel before may have written it.
  template <bool STAGED>
  __device__ void load_query(ExactQuery& query, const char* q, int head_of_column) const {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const char* from = q + head_of_column * 2 * TENSOR_DIM + 64 * i + 16 * t;
      query.words[i] = make_uint4(0, 0, 0, 0);
      if (g % 2) continue;
      if constexpr (STAGED) query.words[i] = *reinterpret_cast<const uint4*>(from);
      else load_fresh(from, query.words[i]);
    }
  }

  __device__ void reduce_exact(const ExactQuery& query, float scale, const Units& units, int unit, int next, bool more) {
    float even[4] = {0.0f, 0.0f, 0.0f, 0.0f}, odd[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const uint4 a = k[2 * i], b = k[2 * i + 1], q = query.words[i];
      mma16<S::DTYPE>(even, a.x, b.x, a.y, b.y, q.x, q.y);
      mma16<S::DTYPE>(odd, a.z, b.z, a.w, b.w, q.z, q.w);
    }
    const int base = (S::QUANTISED ? unit - units.of_middle : units.number(unit)) * UNIT<S::DTYPE>;
    const Held held = S::QUANTISED ? units.held_exact : units.held(unit);
    float x[2] = {fmaf(even[0] + odd[0], scale, bias[0] * LOG2_E), fmaf(even[2] + odd[2], scale, bias[1] * LOG2_E)};
    const bool whole = held.all(base, UNIT<S::DTYPE>);
    if (!whole) {
#pragma unroll
      for (int i = 0; i < 2; i++)
        if (!held(base + 8 * i + g)) x[i] = minus_infinity();
    }
    if (more) load_keys(units, next);
    raise(fmaxf(x[0], x[1]));
    const float p0 = exp2_approx(x[0] - m), p1 = exp2_approx(x[1] - m);
    if (S::TILE > 1 || t == 0) l += p0 + p1;  // with one head the lanes of a row hold the same logits
    const Word32 weights = pack_pair<S::DTYPE>(p0, p1);
    const Word32 b0 = __shfl_sync(WHOLE_WARP, weights, t * 4 + g % 4), b1 = __shfl_sync(WHOLE_WARP, weights, 16 + t * 4 + g % 4);
    if (!whole) {  // an empty slot may contain NaN
#pragma unroll
      for (int i = 0; i < 8; i++)
        if (!held(base + i / 2 % 2 * 8 + i / 4 * 4 + t)) v[i] = make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int half = j / 4, word = j % 4;
      const Word32 w0 = word_of(v[half], word), w1 = word_of(v[2 + half], word), w2 = word_of(v[4 + half], word),
                   w3 = word_of(v[6 + half], word);
      mma16<S::DTYPE>(o[j], low_halves(w0, w1), high_halves(w0, w1), low_halves(w2, w3), high_halves(w2, w3), b0, b1);
    }
    if (more) load_values(units, next);
  }

  // ---- quantised slots ----

  struct FixedQuery {
    Word32 bytes[8];  // the high (even columns) or low bytes of this lane's 32 dims of head g / 2, as keys bring them
    int offset[2];    // what the logits of columns 2t, 2t + 1 start from: -8 times the sum of q, for INT4
    float step;       // what a unit of the fixed-point logit of head t is worth, times scale * log2 e
  };

  // What quantised units need of the tile's queries, in shared memory: as they are, [TILE, 128] in dtype, then their
  // fixed-point bytes [TILE][high, low][128] in the order in which keys bring the dims, then what a fixed-point unit is
  // worth, [TILE]. One query a warp makes for itself; of several, the warps of a block make them together.
  static constexpr bool TOGETHER = S::TILE > 1;
  static __device__ char* fixed_of(char* shared) { return shared + S::TILE * TENSOR_DIM * 2; }
  static __device__ float* steps_of(char* shared) { return reinterpret_cast<float*>(shared + S::TILE * TENSOR_DIM * 4); }

  // Heads after last_head repeat it. meanwhile: work to do while the queries are loaded.
  template <class Meanwhile>
  __device__ void make_queries(char* shared, const char* q, int last_head, float scale, int warp, const Meanwhile& meanwhile) const {
    const int from = TOGETHER ? warp : 0, step = TOGETHER ? blockDim.x / 32 : 1;
    if (from >= S::TILE) meanwhile();
#pragma unroll 1
    for (int head = from; head < S::TILE; head += step) {
      uint2 words;
      load_fresh(q + (min(head, last_head) * TENSOR_DIM + 4 * lane) * 2, words);
      if (head == from) meanwhile();
      reinterpret_cast<uint2*>(shared)[head * 32 + lane] = words;
      float x[4];
      float largest = 1e-20f;
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const Word32 word = e < 2 ? words.x : words.y;
        x[e] = from_word16<S::DTYPE>(Word16(e % 2 ? word >> 16 : word & 0xffffu));
        largest = fmaxf(largest, fabsf(x[e]));
      }
      largest = __uint_as_float(__reduce_max_sync(WHOLE_WARP, __float_as_uint(largest)));  // bits of positive floats ascend
      const float inverse = FIXED_POINT / largest;
      Word32 high = 0, low = 0;
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int whole = __float2int_rn(x[e] * inverse), upper = (whole + 128) >> 8;
        const int place = S::MIDDLE == INT4 ? e % 2 * 2 + e / 2 : e;  // INT4: even dims meet the low nibbles, odd the high ones
        high |= Word32(upper & 255) << (8 * place);
        low |= Word32((whole - upper * 256) & 255) << (8 * place);
      }
      char* to = fixed_of(shared) + head * 2 * TENSOR_DIM;
      if constexpr (S::MIDDLE == INT4) {
        to += lane / 2 * 8 + lane % 2 * 2;
        *reinterpret_cast<Word16*>(to) = Word16(high);
        *reinterpret_cast<Word16*>(to + 4) = Word16(high >> 16);
        *reinterpret_cast<Word16*>(to + TENSOR_DIM) = Word16(low);
        *reinterpret_cast<Word16*>(to + TENSOR_DIM + 4) = Word16(low >> 16);
      } else {
        to += lane % 16 / 4 * 32 + lane / 16 * 16 + lane % 4 * 4;
        *reinterpret_cast<Word32*>(to) = high;
        *reinterpret_cast<Word32*>(to + TENSOR_DIM) = low;
      }
      if (lane == 0) steps_of(shared)[head] = scale * largest / FIXED_POINT;
    }
    if (TOGETHER) __syncthreads();
    else __syncwarp();
  }

  __device__ void load_query(FixedQuery& query, char* shared) const {
    const int column = S::TILE == 1 ? 0 : g / 2;
    const uint4* bytes = reinterpret_cast<const uint4*>(fixed_of(shared) + (2 * column + g % 2) * TENSOR_DIM + 32 * t);
#pragma unroll
    for (int i = 0; i < 8; i++) query.bytes[i] = word_of(bytes[i / 4], i % 4);
    query.step = steps_of(shared)[S::TILE == 1 ? 0 : t];
    int sum[4] = {0, 0, 0, 0};
    if constexpr (S::MIDDLE == INT4) {
      const Word32 minus8 = 0xf8f8f8f8u;
#pragma unroll
      for (int i = 0; i < 4; i++) mma8<INT8>(sum, minus8, minus8, minus8, minus8, query.bytes[2 * i], query.bytes[2 * i + 1]);
    }
    query.offset[0] = sum[0];
    query.offset[1] = sum[1];
  }

  // logits[i][0, 1]: fixed point, of slots g and g + 8 of the runs of 16 that this lane owns.
  __device__ void fixed_logits(const FixedQuery& query, float (&logits)[S::OWNED][2]) const {
    constexpr Word32 LOW = 0x0f0f0f0fu;
    int sums[S::TILES][4];
#pragma unroll
    for (int run = 0; run < S::TILES; run++) {
      sums[run][0] = sums[run][2] = query.offset[0];
      sums[run][1] = sums[run][3] = query.offset[1];
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int run = 0; run < S::TILES; run++) {
        const Word32 q0 = query.bytes[2 * i], q1 = query.bytes[2 * i + 1];
        if constexpr (S::MIDDLE == INT4) {
          const Word32 a = word_of(k[2 * run], i), b = word_of(k[2 * run + 1], i);
          mma8<INT4>(sums[run], a & LOW, b & LOW, (a >> 4) & LOW, (b >> 4) & LOW, q0, q1);
        } else {
          const uint4 a = k[4 * run + i / 2], b = k[4 * run + 2 + i / 2];
          const int word = 2 * (i % 2);
          mma8<INT8>(sums[run], word_of(a, word), word_of(b, word), word_of(a, word + 1), word_of(b, word + 1), q0, q1);
        }
      }
#pragma unroll
    for (int i = 0; i < S::OWNED; i++) {
      int own[4] = {sums[i][0], sums[i][1], sums[i][2], sums[i][3]};
      if constexpr (S::TILE == 1) {  // by masks: a choice would put the sums into local memory
#pragma unroll
        for (int c = 0; c < 4; c++) {
          own[c] = 0;
#pragma unroll
          for (int run = 0; run < S::TILES; run++) own[c] |= sums[run][c] & -int(run_of<S::MIDDLE>() == run);
        }
      }
      logits[i][0] = float(own[0] * 256 + own[1]);
      logits[i][1] = float(own[2] * 256 + own[3]);
    }
  }

  // Scales or biases of slots g and g + 8 of run i: this lane's own ones, or those of the lane of its row that loaded them.
  __device__ float of_run(float mine, int i) const {
    return S::TILE == 1 ? mine : __shfl_sync(WHOLE_WARP, mine, (lane & ~3) | i);
  }

  // Adds weight * value of one run, whose weights (times the values' scales) are b0 and b1.
  __device__ void add_run(int run, Word32 b0, Word32 b1) {
    if constexpr (S::MIDDLE == INT4) {
      constexpr Word32 EVEN = 0x000f000fu, ODD = 0x00f000f0u;  // ODD ones count 16 times
      const uint4 a = v[2 * run], b = v[2 * run + 1];
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        const Word32 w0 = j < 4 ? a.x : a.y, w1 = j < 4 ? a.z : a.w, w2 = j < 4 ? b.x : b.y, w3 = j < 4 ? b.z : b.w;
        const Word32 first = j % 4 ? high_halves(w0, w1) : low_halves(w0, w1);
        const Word32 second = j % 4 ? high_halves(w2, w3) : low_halves(w2, w3);
        mma16<FP16>(o[j], first & EVEN, first & ODD, second & EVEN, second & ODD, b0, b1);
        mma16<FP16>(o[j + 1], (first >> 8) & EVEN, (first >> 8) & ODD, (second >> 8) & EVEN, (second >> 8) & ODD, b0, b1);
      }
    } else {
      constexpr Word32 SIGNS = 0x80808080u, BYTES = 0x00ff00ffu;
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        Word32 even[4], odd[4];  // dims 2j, 2j + 2 and 2j + 1, 2j + 3 of each of the four slots
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const Word32 word = word_of(v[4 * run + i], j / 2) ^ SIGNS;  // code + 128
          even[i] = word & BYTES;
          odd[i] = (word >> 8) & BYTES;
        }
        mma16<FP16>(o[j], low_halves(even[0], even[1]), low_halves(odd[0], odd[1]), low_halves(even[2], even[3]),
                    low_halves(odd[2], odd[3]), b0, b1);
        mma16<FP16>(o[j + 1], high_halves(even[0], even[1]), high_halves(odd[0], odd[1]), high_halves(even[2], even[3]),
                    high_halves(odd[2], odd[3]), b0, b1);
      }
    }
  }

  // Takes the sum of the values' offsets out of o and forgets it.
  __device__ void take_offset_out() {
    constexpr float ODD = S::MIDDLE == INT4 ? 16.0f : 1.0f;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      o[j][0] -= offset[0];
      o[j][1] -= offset[1];
      o[j][2] -= offset[0] * ODD;
      o[j][3] -= offset[1] * ODD;
    }
    offset[0] = offset[1] = offset[2] = offset[3] = 0.0f;
  }

  __device__ void reduce_quantised(const FixedQuery& query, const Units& units, const Held& held, int unit, int next,
                                   bool more) {
    constexpr int SLOTS = UNIT<S::MIDDLE>;
    float x[S::OWNED][2];
    fixed_logits(query, x);
    const float key_scale[2] = {from_fp16(k_scale[0]), from_fp16(k_scale[1])};
    const float own_bias[2] = {bias[0] * LOG2_E, bias[1] * LOG2_E};
    float value_scale[2] = {from_fp16(v_scale[0]), from_fp16(v_scale[1])};
    const bool biased = units.middle.bias != nullptr;
    const int base = unit * SLOTS;
#pragma unroll
    for (int i = 0; i < S::OWNED; i++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        x[i][e] *= of_run(key_scale[e], i) * query.step;
        if (biased) x[i][e] += of_run(own_bias[e], i);
      }
    if (!held.all(base, SLOTS)) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        if (!held(base + 16 * run_of<S::MIDDLE>() + 8 * e + g)) value_scale[e] = 0.0f;
#pragma unroll
        for (int i = 0; i < S::OWNED; i++)
          if (!held(base + 16 * (S::TILE == 1 ? run_of<S::MIDDLE>() : i) + 8 * e + g)) x[i][e] = minus_infinity();
      }
    }
    float largest = minus_infinity();
#pragma unroll
    for (int i = 0; i < S::OWNED; i++) largest = fmaxf(largest, fmaxf(x[i][0], x[i][1]));
    if (more) load_keys(units, next);
    raise(largest);
    Word32 weights[S::OWNED];
#pragma unroll
    for (int i = 0; i < S::OWNED; i++) {
      const float p0 = exp2_approx(x[i][0] - m), p1 = exp2_approx(x[i][1] - m);
      if (S::TILE > 1 || S::MIDDLE == INT4 || t < 2) l += p0 + p1;
      weights[i] = pack_pair<FP16>(p0 * of_run(value_scale[0], i), p1 * of_run(value_scale[1], i));
    }
    constexpr Word32 ONE_OFFSET = S::OFFSET | S::OFFSET << 16;
#pragma unroll
    for (int run = 0; run < S::TILES; run++) {
      const Word32 held_weights = weights[S::TILE == 1 ? 0 : run];
      const int column = S::TILE == 1 ? run : g % 4;  // which lane of the row holds them
      const Word32 b0 = __shfl_sync(WHOLE_WARP, held_weights, t * 4 + column);
      const Word32 b1 = __shfl_sync(WHOLE_WARP, held_weights, 16 + t * 4 + column);
      mma16<FP16>(offset, ONE_OFFSET, ONE_OFFSET, ONE_OFFSET, ONE_OFFSET, b0, b1);
      add_run(run, b0, b1);
    }
    if (more) load_values(units, next);
  }

  // ---- sums ----

  // Where this warp leaves two dims of a head.
  static __device__ float2* sum_at(float4* sums, int head, int dim) {
    return reinterpret_cast<float2*>(sums + Scratch<S::TILE, TENSOR_DIM>::spread(head, dim / 4)) + dim / 2 % 2;
  }

  // The sums of this warp's heads, to `sums` [TILE, 32]: out of the registers, as FORMAT brought them ...
  template <int FORMAT>
  __device__ void put_sums(float4* sums) const {
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int dim = dim_of<FORMAT>(j);
      if (2 * t < S::TILE) *sum_at(sums, 2 * t, dim) = make_float2(o[j][0], o[j][2]);
      if (2 * t + 1 < S::TILE) *sum_at(sums, 2 * t + 1, dim) = make_float2(o[j][1], o[j][3]);
    }
  }

  // ... and back, as FORMAT will bring the next ones.
  template <int FORMAT>
  __device__ void get_sums(float4* sums) {
    __syncwarp();
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int dim = dim_of<FORMAT>(j);
      const float2 even = *sum_at(sums, 2 * t % S::TILE, dim), odd = *sum_at(sums, (2 * t + 1) % S::TILE, dim);
      o[j][0] = even.x;
      o[j][1] = odd.x;
      o[j][2] = even.y;
      o[j][3] = odd.y;
    }
    __syncwarp();
  }

  // From units of codes to those of values.
  __device__ void leave_quantised(float4* sums) {
    take_offset_out();
    constexpr float EVEN = 1.0f / SUBNORMAL, ODD = S::MIDDLE == INT4 ? EVEN / 16.0f : EVEN;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      o[j][0] *= EVEN;
      o[j][1] *= EVEN;
      o[j][2] *= ODD;
      o[j][3] *= ODD;
    }
    put_sums<S::MIDDLE>(sums);
  }

  __device__ void put_bounds(float2* bounds) {
#pragma unroll
    for (int step = S::TILE == 1 ? 1 : 4; step < 32; step *= 2) l += __shfl_xor_sync(WHOLE_WARP, l, step);
    if (g == 0 && t < S::TILE) bounds[t] = make_float2(m, l);
  }
};

constexpr int TURNS_BETWEEN_OFFSETS = 8;  // tensor cores truncate: an offset that grew would cost the small sums their bits

template <class S>
__device__ void decode_tensor(const DecodeParams& p) {
  if (p.waits) await_previous();
  let_next_begin();
  extern __shared__ float4 shared_memory[];
  using Reader = TensorReader<S>;
  constexpr int MIDDLE_UNIT = Reader::template UNIT<S::MIDDLE>, EXACT_UNIT = Reader::template UNIT<S::DTYPE>;
  const int warps = blockDim.x / 32;
  const Tile tile = {int(blockIdx.z), int(blockIdx.y) * S::TILE};
  // Loaded first: values that depend on them are computed while the queries are being loaded.
  const Live exact_live = load_live(p.cache, p.pending, tile.row, 0);
  const Live middle_live = p.touched[1] > 0 ? load_live(p.cache, p.pending, tile.row, 1) : Live{};
  const int token = p.fresh.k ? load_fresh(p.cache.tokens) : 0;
  const int warp = __shfl_sync(WHOLE_WARP, int(threadIdx.x) / 32, 0);

  Units units = {slots_of<S::MIDDLE>(p.cache.segments[1], TENSOR_DIM, tile.row),
                 slots_of<S::DTYPE>(p.cache.segments[0], TENSOR_DIM, tile.row)};
  units.of_middle = Reader::template units<S::MIDDLE>(p.touched[1]);
  const int all = units.of_middle + Reader::template units<S::DTYPE>(p.touched[0]);
  const Share share(all);
  const int end = share.end;
  int unit = share.first + warp;

  Reader reader(threadIdx.x % 32);
  const int last_head = S::TILE == 1 ? 0 : min(S::TILE, p.group - tile.first_head) - 1, column = min(reader.g / 2, last_head);
  const char* q = static_cast<const char*>(p.q) + query_of(p, tile, 0) * TENSOR_DIM * 2;
  if (warp == 0) prefetch_queries<S::DTYPE>(p, tile, S::TILE, reader.lane);
  if (unit < end) {
    reader.load_keys(units, unit);
    reader.load_values(units, unit);
  }
  await_previous();
  const float scale = p.scale * LOG2_E;
  const Scratch<S::TILE, TENSOR_DIM> scratch(shared_memory);
  float4* sums = scratch.sums + warp * scratch.ITEMS;
  if (appends_fresh(p, warp)) ask_for_fresh<S::DTYPE>(p, tile, token, exact_live, reader.lane, scratch);
  bool summed = false;
  char* queries = scratch.query + (Reader::TOGETHER ? 0 : warp * scratch.QUERY_BYTES);
  if constexpr (S::QUANTISED) {
    unsigned held;
    reader.make_queries(queries, q, last_head, scale, warp, [&] {
      held = keep_held(sums, held_slots(middle_live, 0), held_slots(exact_live, p.fresh.k != nullptr), reader.lane);
    });
    const int end_middle = min(end, units.of_middle);
    summed = unit < end_middle;
    if (summed) {
      typename Reader::FixedQuery query;
      reader.load_query(query, queries);
#pragma unroll 1
      for (int turn = 1; unit < end_middle; unit += warps, turn++) {
        const Held its = load_held(held);
        const int next = unit + warps;
        const bool worth = next < end && (next >= units.of_middle || its.any(next * MIDDLE_UNIT));
        reader.reduce_quantised(query, units, its, unit, next, worth);
        if (turn % TURNS_BETWEEN_OFFSETS == 0) reader.take_offset_out();
      }
    }
    units.held_exact = load_held(held + HELD_BYTES);
    __syncwarp();  // before sums take their place
    if (summed) reader.leave_quantised(sums);
  }
  if (unit < end || !summed) {
    typename Reader::ExactQuery query;
    if constexpr (S::QUANTISED) {
      reader.template load_query<true>(query, queries, column);
      if (summed) reader.template get_sums<S::DTYPE>(sums);
    } else {
      reader.template load_query<false>(query, q, column);
      units.held_middle = held_slots(middle_live, 0);
      units.held_exact = held_slots(exact_live, p.fresh.k != nullptr);
    }
#pragma unroll 1
    for (; unit < end; unit += warps) {
      const int next = unit + warps;
      const bool worth = next < end && (S::QUANTISED ? units.held_exact.any((next - units.of_middle) * EXACT_UNIT)
                                                     : units.worth(next, EXACT_UNIT));
      reader.reduce_exact(query, scale, units, unit, next, worth);
    }
    reader.template put_sums<S::DTYPE>(sums);
  }
  if (threadIdx.x == 0) ask_for_live(p.cache, p.pending, tile.row);
  reader.put_bounds(scratch.bounds + warp * S::TILE);
  if (appends_fresh(p, warp)) append_fresh<S::DTYPE>(p, tile, reader.lane, scratch);
  __syncthreads();
  finish<S::DTYPE>(p, scratch, tile);
}

// Names: decode_tensor_<dtype>_<cache_dtype>_g<TILE>; which of them exist: also in decode/launch.py.
#define DECODE_TENSOR(name, DTYPE, MIDDLE, TILE)                                                                 \
  extern "C" __global__ __launch_bounds__(384, 1) void decode_tensor_##name##_g##TILE(const DecodeParams p) { \
    decode_tensor<TensorShape<DTYPE, MIDDLE, TILE>>(p);                                                          \
  }

DECODE_TENSOR(fp16_fp16, FP16, FP16, 4)
DECODE_TENSOR(fp16_int8, FP16, INT8, 1)
DECODE_TENSOR(fp16_int8, FP16, INT8, 4)
DECODE_TENSOR(fp16_int4, FP16, INT4, 1)
DECODE_TENSOR(fp16_int4, FP16, INT4, 4)
DECODE_TENSOR(bf16_bf16, BF16, BF16, 4)
DECODE_TENSOR(bf16_int8, BF16, INT8, 1)
DECODE_TENSOR(bf16_int8, BF16, INT8, 4)
DECODE_TENSOR(bf16_int4, BF16, INT4, 1)
DECODE_TENSOR(bf16_int4, BF16, INT4, 4)
#endif
