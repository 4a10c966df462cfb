// Reads the slots of a cache with one warp and accumulates them into its partial answer.
//
// A unit is LOADS * (32 / LANES) adjacent slots of one segment, whose keys and values a warp holds in registers. While one
// unit is reduced, the loads of the warp's next unit are in flight: keys as soon as the dot products are done, then values.
// The location of a unit follows from the largest number of tokens that the launch may encounter, which the host knows, so the
// addresses of the first loads do not depend on the number of tokens on the device. Whole units are read: the arrays of a cache
// are followed by readable padding (params.h), whose contents get zero weight.
#pragma once
#include "cache.cuh"
#include "fragment.cuh"
#include "stage.cuh"
#include "state.cuh"

constexpr int RESCALE_STEP = 8;  // the running maximum is raised only for jumps beyond this, so weights stay below 2^8

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
  return format_bits(format) == 32 ? 4 : is_scaled(format) && tile == 1 ? 16 : 8;
}

// One segment of one row. Slots are read in memory order; empty slots are masked at the softmax.
struct Slots {
  const char* k;
  const char* v;
  const float* bias;      // null: none
  const Word16* k_scale;  // null unless quantised
  const Word16* v_scale;
};

// Keys and values in FORMAT.
template <int FORMAT>
__device__ inline Slots slots_of(const Segment& segment, int dim, int row) {
  const long long first = (long long)row * segment.capacity, bytes = first * row_bytes(FORMAT, dim);
  return {static_cast<const char*>(segment.k) + bytes, static_cast<const char*>(segment.v) + bytes,
          segment.bias ? segment.bias + first : nullptr, static_cast<const Word16*>(segment.k_scale) + first,
          static_cast<const Word16*>(segment.v_scale) + first};
}

// The units of a row: those of segment 1 (the middle), then those of segment 0 (exact). A warp processes the units unit,
// unit + warps, ... below `end`.
struct Units {
  Slots middle;
  Slots exact;
  Held held_middle;
  Held held_exact;
  int of_middle;  // how many units are the middle's

  // Field by field: a choice between structures would put both into local memory.
  __device__ Slots slots(int unit) const {
    const bool first = unit < of_middle;
    return {first ? middle.k : exact.k, first ? middle.v : exact.v, first ? middle.bias : exact.bias,
            first ? middle.k_scale : exact.k_scale, first ? middle.v_scale : exact.v_scale};
  }
  __device__ Held held(int unit) const {
    const bool first = unit < of_middle;
    return {first ? held_middle.low : held_exact.low, first ? held_middle.first : held_exact.first,
            first ? held_middle.count : held_exact.count};
  }
  __device__ int number(int unit) const { return unit < of_middle ? unit : unit - of_middle; }
  // Whether a unit of `size` slots, or one behind it, may hold a token at all.
  __device__ bool worth(int unit, int size) const { return held(unit).any(number(unit) * size); }
};

// With two formats, loops have no registers left for the live slots: those of both segments are kept in shared memory, in the
// place of this warp's later sums. An address in shared memory: the middle segment's live slots, then the exact segment's.
constexpr int HELD_BYTES = 16;

__device__ inline unsigned keep_held(float4* sums, const Held& middle, const Held& exact, int lane) {
  const auto word = [&](int Held::*which) { return __int_as_float(lane == 0 ? middle.*which : exact.*which); };
  if (lane < 2) sums[lane] = make_float4(word(&Held::low), word(&Held::first), word(&Held::count), 0.0f);
  return shared_address(sums);
}

__device__ inline Held load_held(unsigned address) {
  const uint4 words = load_shared(address);
  return {int(words.x), int(words.y), int(words.z)};
}

__device__ inline Held load_held(const Held& held) { return held; }

// The units of a single segment, whose first one is number `before`; its live slots in registers, or where they wait.
template <class Live>
struct Alone {
  Slots its;
  Live live;
  int before;

  __device__ const Slots& slots(int) const { return its; }
  __device__ Held held(int) const { return load_held(live); }
  __device__ int number(int unit) const { return unit - before; }
  __device__ bool worth(int unit, int size) const { return held(unit).any(number(unit) * size); }
};

// The units of this block, [first, end), when `units` are dealt out in contiguous ranges whose lengths differ by at most one.
struct Share {
  int first;
  int end;

  __device__ explicit Share(int units) {
    const int split = blockIdx.x, each = quotient(units, gridDim.x), rest = units - each * int(gridDim.x);
    first = split * each + min(split, rest);
    end = first + each + (split < rest);
  }
};

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
  static constexpr bool QUANTISED = is_scaled(FORMAT);
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

  // The factor for an unpacked value.
  static __device__ float scale_of([[maybe_unused]] Word16 scale) {
    if constexpr (QUANTISED) return from_fp16(scale) * Fragment<FORMAT>::FACTOR;
    else return 1.0f;
  }

  static __host__ __device__ int units(int slots) { return (slots + UNIT - 1) / UNIT; }

  __device__ int slot_of_load(int base, int load) const { return base + load * S::ROWS + lane / S::LANES; }
  __device__ int slot_of_logit(int base, int batch) const { return slot_of_load(base, batch * BATCH + lane % BATCH); }

  // Where a load is 4 bytes its address takes more registers than it: there each one is made from the one before.
  static constexpr bool STEPS = S::SPLIT && QUANTISED;

  __device__ void load_rows(Fragment<FORMAT> (&to)[LOADS], const char* from, int base) {
    const int bytes = row_bytes(FORMAT, columns.dim);
    const char* at = from + (long long)slot_of_load(base, 0) * bytes;
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      columns.load(to[i], STEPS ? at : from + (long long)slot_of_load(base, i) * bytes);
      at += S::ROWS * bytes;
      if constexpr (STEPS) asm("" : "+l"(at));
    }
  }

  __device__ void load_keys(const Slots& slots, int base) {
    load_rows(k, slots.k, base);
    load_beside_keys(slots, base);
  }

  __device__ void load_beside_keys(const Slots& slots, int base) {
#pragma unroll
    for (int b = 0; b < BATCHES; b++) {
      const int at = slot_of_logit(base, b);
      bias[b] = slots.bias ? __ldg(slots.bias + at) : 0.0f;
      if (QUANTISED) k_scale[b] = __ldg(slots.k_scale + at);
    }
  }

  __device__ void load_values(const Slots& slots, int base) {
    load_rows(v, slots.v, base);
#pragma unroll
    for (int b = 0; b < BATCHES; b++)
      if (QUANTISED) v_scale[b] = __ldg(slots.v_scale + slot_of_logit(base, b));
  }

  // Where a load is 16 bytes and registers suffice.
  static constexpr bool STAGES = format_bits(FORMAT) == 16 && !QUANTISED && S::TILE == 1;

  __device__ void stage(const Stage& stage, const Slots& slots, int base) const {
    const int bytes = row_bytes(FORMAT, columns.dim), mine = columns.inside(0) ? row_bytes(FORMAT, columns.position(0)) : 0;
#pragma unroll
    for (int i = 0; i < LOADS; i++) stage.ask(i, slots.k + (long long)slot_of_load(base, i) * bytes + mine);
#pragma unroll
    for (int i = 0; i < LOADS; i++) stage.ask(8 + i, slots.v + (long long)slot_of_load(base, i) * bytes + mine);
    if (slots.bias) prefetch(slots.bias + slot_of_logit(base, 0));
  }

  __device__ void take_keys(const Stage& stage, const Slots& slots, int base) {
    stage.await();
#pragma unroll
    for (int i = 0; i < LOADS; i++) k[i].part(0) = stage.take(i);
    load_beside_keys(slots, base);
  }

  __device__ void take_values(const Stage& stage) {
#pragma unroll
    for (int i = 0; i < LOADS; i++) v[i].part(0) = stage.take(8 + i);
  }

  // An empty slot may contain anything, even NaN: its value is set to zero (like its weight).
  __device__ void drop_dead_values(const Held& held, int base) {
    if constexpr (QUANTISED) {
#pragma unroll
      for (int b = 0; b < BATCHES; b++)
        if (!held(slot_of_logit(base, b))) v_scale[b] = 0;
    } else {
#pragma unroll
      for (int i = 0; i < LOADS; i++)
        if (!held(slot_of_load(base, i))) v[i].clear();
    }
  }

  // logits[j][b], times log2 e, of the slot that this lane owns in batch b; minus infinity past the end.
  __device__ void dots(const State<S>& state, int base, const Held& held, float (&logits)[S::TILE][BATCHES]) const {
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
      const bool live = held(slot_of_logit(base, b));
      const float scale = QUANTISED ? scale_of(k_scale[b]) : 1.0f;
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
        logits[j][b] = QUANTISED ? weight * scale_of(v_scale[b]) : weight;
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

  __device__ void load(const Slots& slots, int number) {
    load_keys(slots, number * UNIT);
    load_values(slots, number * UNIT);
  }

  // Reduces units unit, unit + warps, ... below `end`; the first one is loaded already, the second one perhaps `staged`.
  // Returns the first unit of this warp that is not below `end`.
  template <class Units>
  __device__ int run(State<S>& state, const Units& units, int unit, int end, const Stage& stage,
                     [[maybe_unused]] bool staged) {
    const int warps = blockDim.x / 32;
#pragma unroll 1
    for (; unit < end; unit += warps) {
      // Hidden from the optimiser, which else keeps in registers what follows from it, more than there are.
      if constexpr (S::SPLIT && QUANTISED && S::LANES == 32) asm("" : "+r"(columns.column));
      const int next = unit + warps, base = units.number(unit) * UNIT;
      const bool more = next < end && units.worth(next, UNIT);
      const Held held = units.held(unit);
      float weights[S::TILE][BATCHES];
      dots(state, base, held, weights);
      if (more) {
        const int following = units.number(next) * UNIT;
        bool taken = false;
        if constexpr (STAGES) {
          taken = staged;
          if (staged) take_keys(stage, units.slots(next), following);
        }
        if (!taken) load_keys(units.slots(next), following);
      }
      if (!held.all(base, UNIT)) drop_dead_values(held, base);
      weigh(state, weights);
      add_values(state, weights);
      if (more) {
        bool taken = false;
        if constexpr (STAGES) {
          taken = staged;
          if (staged) take_values(stage);
        }
        if (!taken) load_values(units.slots(next), units.number(next) * UNIT);
      }
      if constexpr (STAGES) staged = false;
    }
    return unit;
  }
};
