// Attention over int4 slots with integer products, which process 32 codes per instruction instead of 8 floats. Computes the
// same sums as attention.hpp, with queries and a block's weights p_i v_scale_i as 16-bit fixed-point numbers:
//   q_d = unit (256 hi_d + lo_d), unit = max |q| / 32639;   q.k = k_scale unit sum_d (256 hi_d + lo_d) code_d
// Codes are multiplied as stored, with an offset of 8, which is removed exactly as 8 times the sum of the numbers. The
// fixed-point rounding adds an error of 5e-5 to logits of spread 1: negligible for fp16 and bf16, too much for fp32, which
// uses floats.
// Sums of products of bytes are 16 bits wide: at most 2 * 15 * 128 each, 8 of which fit.
// For dims that are multiples of 64, on AVX2 and up.
#pragma once
#include <vector>

#include "attention.hpp"
#include "scratch.hpp"

#if defined(__AVX2__)
#define ELASTICKV_WHOLE_NUMBERS 1

namespace elastickv {

constexpr int CHUNK = 64;        // dims in 32 bytes: the even ones in the low nibbles, the odd ones in the high nibbles
constexpr int PARTS = 4;         // of a chunk's dims, as two slots' bytes interleave: 16 dims each
constexpr int RUN_SLOTS = 16;    // whose products are summed in 16 bits
constexpr int LARGEST = 32639;   // 256 * 127 + 127
constexpr int STORED = 8;        // a code is stored as code + 8
constexpr float SMALLEST = 1e-30f;  // a largest weight below it is treated as zero

typedef float Eight __attribute__((vector_size(32)));

struct Nibbles {
  __m256i even, odd;
};

ELASTICKV_INLINE Nibbles nibbles_of(const char* codes) {
  const __m256i bytes = load<__m256i>(codes), low = _mm256_set1_epi8(15);
  return {_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low)};
}

// Adds the products of stored codes (unsigned) and bytes of numbers (signed), two adjacent ones at a time, in 16 bits.
ELASTICKV_INLINE __m256i add_products(__m256i sum, __m256i codes, __m256i bytes) {
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, bytes));
}

// `count` floats (a multiple of 8) as numbers: value = unit * (256 hi + lo). total: 8 times their sum.
struct Numbers {
  float unit;  // NaN when a value is not finite
  int total;

  Numbers(const float* values, int count, int8_t* hi, int8_t* lo) : unit(0), total(0) {
    float largest = 0, zero = 0;
    for (int i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
    for (int i = 0; i < count; ++i) zero += values[i] * 0.0f;  // a NaN if one value is not finite
    const float inverse = largest < SMALLEST ? 0.0f : LARGEST / largest;
    for (int i = 0; i < count; ++i) {
      const int number = zero == 0 ? int(std::rint(values[i] * inverse)) : 0;
      const int upper = (number + 128) >> 8;
      hi[i] = int8_t(upper), lo[i] = int8_t(number - 256 * upper);
      total += number;
    }
    total *= STORED;
    unit = zero == 0 ? largest / LARGEST : zero;
  }
};

// A query as numbers, its bytes in the order of nibbles: of each chunk hi and lo of the even dims, then of the odd ones.
template <int CHUNKS>
struct NumberedQuery {
  __m256i bytes[CHUNKS][4];
  float unit;
  int total;

  void set(const float* q) {
    alignas(32) float ordered[CHUNKS * CHUNK];
    alignas(32) int8_t hi[CHUNKS * CHUNK], lo[CHUNKS * CHUNK];
    for (int i = 0; i < CHUNKS * CHUNK; ++i) ordered[i] = q[i / CHUNK * CHUNK + i % 32 * 2 + i % CHUNK / 32];
    const Numbers numbers(ordered, CHUNKS * CHUNK, hi, lo);
    unit = numbers.unit, total = numbers.total;
    for (int i = 0; i < 2 * CHUNKS; ++i) {
      bytes[i / 2][i % 2 * 2] = load<__m256i>(hi + 32 * i);
      bytes[i / 2][i % 2 * 2 + 1] = load<__m256i>(lo + 32 * i);
    }
  }
};

// out[i] = the sum of the lanes of sums[i].
ELASTICKV_INLINE __m256i reduce8(const __m256i* sums) {
  const __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
  const __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));
  const __m256i swapped = _mm256_permute2x128_si256(low, high, 0x21);
  return _mm256_add_epi32(_mm256_blend_epi32(low, high, 0xF0), swapped);
}

// scores[g * MOST_SLOTS + i] = q_g . k_i, 8 slots at a time; what is read past the last slot is overwritten later.
template <int TILE, int CHUNKS>
ELASTICKV_INLINE void score_codes(const char* k, int slots, const NumberedQuery<CHUNKS>* queries, const uint16_t* k_scale,
                                  float* scores, const char* ahead) {
  constexpr int BYTES = CHUNKS * 32;
  const __m256i weigh_hi = _mm256_set1_epi16(256), weigh_lo = _mm256_set1_epi16(1);
  for (int first = 0; first < slots; first += 8) {
    if (ahead) prefetch(ahead + first * BYTES, 8 * BYTES);
    __m256i sums[TILE][8];
    for (int i = 0; i < 8; ++i) {
      __m256i hi[TILE] = {}, lo[TILE] = {};
      for (int c = 0; c < CHUNKS; ++c) {
        const Nibbles codes = nibbles_of(k + (first + i) * BYTES + 32 * c);
        for (int g = 0; g < TILE; ++g) {
          const __m256i* bytes = queries[g].bytes[c];
          hi[g] = add_products(add_products(hi[g], codes.even, bytes[0]), codes.odd, bytes[2]);
          lo[g] = add_products(add_products(lo[g], codes.even, bytes[1]), codes.odd, bytes[3]);
        }
      }
      for (int g = 0; g < TILE; ++g)
        sums[g][i] = _mm256_add_epi32(_mm256_madd_epi16(hi[g], weigh_hi), _mm256_madd_epi16(lo[g], weigh_lo));
    }
    const Eight scale = _mm256_cvtph_ps(load<__m128i>(k_scale + first));
    for (int g = 0; g < TILE; ++g) {
      const __m256i dots = _mm256_sub_epi32(reduce8(sums[g]), _mm256_set1_epi32(queries[g].total));
      store(scores + g * MOST_SLOTS + first, Eight(_mm256_cvtepi32_ps(dots)) * scale * queries[g].unit);
    }
  }
}

// Sums are kept in the order that interleaved nibbles come in; this is the dim of place `at`.
constexpr int dim_at(int at) {
  const int chunk = at / CHUNK, part = at / 16 % PARTS, half = at / 8 % 2, lane = at / 4 % 2;
  return chunk * CHUNK + 2 * (16 * lane + 8 * (part % 2) + 4 * half + at % 4) + part / 2;
}

// The codes of 16 slots of a chunk, two slots' bytes in turn, 16 dims a vector.
struct Interleaved {
  __m256i codes[RUN_SLOTS / 2][PARTS];

  Interleaved(const char* v, int bytes) {
    for (int pair = 0; pair < RUN_SLOTS / 2; ++pair, v += 2 * bytes) {
      const Nibbles one = nibbles_of(v), other = nibbles_of(v + bytes);
      codes[pair][0] = _mm256_unpacklo_epi8(one.even, other.even);
      codes[pair][1] = _mm256_unpackhi_epi8(one.even, other.even);
      codes[pair][2] = _mm256_unpacklo_epi8(one.odd, other.odd);
      codes[pair][3] = _mm256_unpackhi_epi8(one.odd, other.odd);
    }
  }

  // Adds 16 slots' codes times the numbers (hi, lo) to the chunk's sums; the first ones replace what is there.
  ELASTICKV_INLINE void add_to(int* sums, const int8_t* hi, const int8_t* lo, bool first_ones) const {
    const __m256i all_hi = _mm256_broadcastsi128_si256(load<__m128i>(hi));
    const __m256i all_lo = _mm256_broadcastsi128_si256(load<__m128i>(lo));
    __m256i upper[PARTS] = {}, lower[PARTS] = {};
    for (int pair = 0; pair < RUN_SLOTS / 2; ++pair) {
      const __m256i both = _mm256_set1_epi16(int16_t((2 * pair + 1) << 8 | 2 * pair));
      const __m256i two_hi = _mm256_shuffle_epi8(all_hi, both), two_lo = _mm256_shuffle_epi8(all_lo, both);
      for (int part = 0; part < PARTS; ++part) {
        upper[part] = add_products(upper[part], codes[pair][part], two_hi);
        lower[part] = add_products(lower[part], codes[pair][part], two_lo);
      }
    }
    const __m256i weigh = _mm256_set1_epi32(256 << 16 | 1);
    const __m256i kept = first_ones ? _mm256_setzero_si256() : _mm256_set1_epi32(-1);
    for (int part = 0; part < PARTS; ++part, sums += 16) {
      const __m256i first = _mm256_madd_epi16(_mm256_unpacklo_epi16(lower[part], upper[part]), weigh);
      const __m256i second = _mm256_madd_epi16(_mm256_unpackhi_epi16(lower[part], upper[part]), weigh);
      store(sums, _mm256_add_epi32(_mm256_and_si256(load<__m256i>(sums), kept), first));
      store(sums + 8, _mm256_add_epi32(_mm256_and_si256(load<__m256i>(sums + 8), kept), second));
    }
  }
};

// o_g = o_g * rescale_g + sum_i weights_gi v_i, each o_g in the order of dim_at. Weights past the last slot are 0, so values
// read there have no effect.
template <int TILE, int CHUNKS>
ELASTICKV_INLINE void accumulate_codes(const char* v, int slots, const float* weights, const float* rescale, float* out,
                                       const char* ahead) {
  constexpr int BYTES = CHUNKS * 32, DIM = CHUNKS * CHUNK;
  const int padded = (slots + RUN_SLOTS - 1) / RUN_SLOTS * RUN_SLOTS;
  alignas(32) int8_t hi[TILE][MOST_SLOTS], lo[TILE][MOST_SLOTS];
  alignas(32) int sums[TILE][DIM];
  float unit[TILE];
  int total[TILE];
  for (int g = 0; g < TILE; ++g) {
    const Numbers numbers(weights + g * MOST_SLOTS, padded, hi[g], lo[g]);
    unit[g] = numbers.unit, total[g] = numbers.total;
  }
  for (int begin = 0; begin < padded; begin += RUN_SLOTS)
    for (int c = 0; c < CHUNKS; ++c) {
      if (ahead) prefetch(ahead, RUN_SLOTS * 32), ahead += RUN_SLOTS * 32;
      const Interleaved run(v + begin * BYTES + 32 * c, BYTES);
      for (int g = 0; g < TILE; ++g) run.add_to(sums[g] + CHUNK * c, hi[g] + begin, lo[g] + begin, begin == 0);
    }
  for (int g = 0; g < TILE; ++g, out += DIM)
    for (int at = 0; at < DIM; at += 8) {
      const __m256i sum = _mm256_sub_epi32(load<__m256i>(sums[g] + at), _mm256_set1_epi32(total[g]));
      store(out + at, load<Eight>(out + at) * rescale[g] + Eight(_mm256_cvtepi32_ps(sum)) * unit[g]);
    }
}

// As attend<INT4, TILE>, for dim = 64 * CHUNKS.
template <int TILE, int CHUNKS>
void attend_codes(const Stretch& stretch, const float* q, int tiles, State* states) {
  constexpr int BYTES = CHUNKS * 32, DIM = CHUNKS * CHUNK, BLOCK = block_slots(INT4, DIM);
  std::vector<NumberedQuery<CHUNKS>> queries(tiles * TILE);
  Scratch sums(tiles * TILE * DIM);
  for (int head = 0; head < tiles * TILE; ++head) {
    queries[head].set(q + head * DIM);
    for (int at = 0; at < DIM; ++at) sums.data()[head * DIM + at] = states[head].out[dim_at(at)];
  }
  alignas(64) float scores[TILE * MOST_SLOTS], v_scale[MOST_SLOTS];
  for (int begin = 0; begin < stretch.slots; begin += BLOCK) {
    const int slots = std::min(BLOCK, stretch.slots - begin);
    const char* k = stretch.k + (long long)begin * BYTES;
    const char* v = stretch.v + (long long)begin * BYTES;
    for (int i = 0; i < slots; i += 8) store(v_scale + i, _mm256_cvtph_ps(load<__m128i>(stretch.v_scale + begin + i)));
    std::fill(v_scale + slots, v_scale + MOST_SLOTS, 0.0f);
    for (int tile = 0; tile < tiles; ++tile) {
      const NumberedQuery<CHUNKS>* mine = queries.data() + tile * TILE;
      float rescale[TILE];
      score_codes<TILE, CHUNKS>(k, slots, mine, stretch.k_scale + begin, scores, tile == 0 ? v : nullptr);
      for (int g = 0; g < TILE; ++g) {
        float* row = scores + g * MOST_SLOTS;
        if (stretch.bias)
          for (int i = 0; i < slots; ++i) row[i] += stretch.bias[begin + i];
        rescale[g] = soften(row, slots, states[tile * TILE + g]);
        for (int i = slots; i < MOST_SLOTS; ++i) row[i] = 0;
      }
      multiply<TILE>(scores, v_scale, slots);
      const char* ahead = tile == tiles - 1 ? k + slots * BYTES : nullptr;
      accumulate_codes<TILE, CHUNKS>(v, slots, scores, rescale, sums.data() + tile * TILE * DIM, ahead);
    }
  }
  for (int head = 0; head < tiles * TILE; ++head)
    for (int at = 0; at < DIM; ++at) states[head].out[dim_at(at)] = sums.data()[head * DIM + at];
}

template <int TILE>
void attend_int4(const Stretch& stretch, int dim, const float* q, int tiles, State* states) {
  if (dim == 64) return attend_codes<TILE, 1>(stretch, q, tiles, states);
  if (dim == 128) return attend_codes<TILE, 2>(stretch, q, tiles, states);
  attend_codes<TILE, 4>(stretch, q, tiles, states);
}

}  // namespace elastickv
#endif
