// Decode over any list of segments, in which keys and values may have different formats with per-head state. Formats are
// selected at run time, once per block of slots, so that no instance per pair of formats is needed.
// Traffic: as decode, plus the per-head state once per row and partials of ANY_PIECE slots each through the workspace.
// Launch: three parallel steps: queries transformed for each segment; pieces of segments, dynamically scheduled; rows, whose
// pieces are joined in order. Answers are bitwise repeatable for any number of threads.
#pragma once
#include "cache.hpp"
#include "join.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace elastickv {

constexpr int ANY_PIECE = 512;  // slots

// Functions to read one format and to apply and undo its per-head transform.
template <int TILE>
struct FormatLoops {
  using Score = void (*)(const char* k, int slots, int dim, const float* q, float* scores);
  using Accumulate = void (*)(const char* v, int slots, int dim, const float* weights, const float* rescale, State* states);
  Score score;
  Accumulate accumulate;
  float factor;
  bool kept;
  int (*floats)(int dim);
  float (*query)(const float* state, const float* q, int dim, int i);
  float (*shift)(const float* state, const float* q, int dim);
  float (*answer)(const float* state, const float* o, int dim, int i);

  template <int FORMAT>
  static void score_with(const char* k, int slots, int dim, const float* q, float* scores) {
    elastickv::score<FORMAT, TILE>(k, slots, dim, q, scores, nullptr);
  }

  template <int FORMAT>
  static void accumulate_with(const char* v, int slots, int dim, const float* weights, const float* rescale,
                              State* states) {
    constexpr int WIDTH = std::max(1, (TILE == 4 ? MOST_ACCUMULATORS : ACCUMULATORS) / TILE / STEPS);
    elastickv::accumulate<FORMAT, TILE, WIDTH>(v, slots, dim, weights, rescale, states, nullptr);
  }

  static FormatLoops of(int format) {
#define X(NAME, NUMBER, BITS, LARGEST)                                                                                \
  if (format == NAME)                                                                                                 \
    return {score_with<NAME>,      accumulate_with<NAME>, Stored<NAME>::FACTOR, PerHead<NAME>::KEPT, PerHead<NAME>::floats, \
            PerHead<NAME>::query, PerHead<NAME>::shift,  PerHead<NAME>::answer};
    ELASTICKV_FORMATS(X)
#undef X
    return {};
  }
};

// The per-head state of a row, for formats that have one.
template <int TILE>
const float* state_of(const FormatLoops<TILE>& format, const void* states, const Cache& cache, int row) {
  return static_cast<const float*>(states) + (long long)(row % cache.kv_heads) * format.floats(cache.dim);
}

// Layout of the workspace, in floats.
struct AnyLayout {
  int heads, dim, segments, pieces;  // heads: padded to whole tiles; pieces: maximum per row
  int first_piece[MOST_SEGMENTS + 1];

  explicit AnyLayout(const DecodeParams& p)
      : heads(padded_group(p.group)), dim(p.cache.dim), segments(p.cache.segment_count), pieces(0) {
    for (int s = 0; s < segments; ++s) first_piece[s] = pieces, pieces += (p.touched[s] + ANY_PIECE - 1) / ANY_PIECE;
    first_piece[segments] = pieces;
  }

  long long each() const { return STATE_HEADER + dim; }  // floats of a head's query or partial
  long long floats(int rows) const { return rows * (segments + pieces) * heads * each(); }
  // Of head 0: a shift, then from STATE_HEADER on the query.
  long long query(int row, int segment) const { return ((long long)row * segments + segment) * heads * each(); }
  // Of head 0: max and sum, then from STATE_HEADER on the sums.
  long long partial(int rows, int row, int piece) const {
    return ((long long)rows * segments + (long long)row * pieces + piece) * heads * each();
  }
};

inline long long decode_any_workspace(const DecodeParams& p) {
  return AnyLayout(p).floats(p.cache.rows) * (long long)sizeof(float);
}

// Whether a cache requires this implementation.
inline bool needs_any(const Cache& cache) {
  bool any = false;
  for (int s = 0; s < cache.segment_count; ++s) {
    const ::Segment& segment = cache.segments[s];
    any |= segment.k_format != segment.v_format || segment.k_state || segment.v_state;
  }
  return any;
}

template <int TILE>
class DecodeAny {
 public:
  explicit DecodeAny(const DecodeParams& params) : p(params), at(params), floats(static_cast<float*>(params.workspace)) {
    for (int s = 0; s < at.segments; ++s) {
      key[s] = FormatLoops<TILE>::of(p.cache.segments[s].k_format);
      value[s] = FormatLoops<TILE>::of(p.cache.segments[s].v_format);
    }
  }

  void run() const {
    const Cache& cache = p.cache;
#pragma omp parallel num_threads(thread_count)
    {
#pragma omp for schedule(static)
      for (int i = 0; i < cache.rows * at.segments; ++i) ask(i / at.segments, i % at.segments);
#pragma omp for schedule(dynamic)
      for (int i = 0; i < cache.rows * at.pieces; ++i) attend_piece(i / at.pieces, i % at.pieces);
#pragma omp for schedule(static)
      for (int row = 0; row < cache.rows; ++row) finish(row);
    }
  }

 private:
  const DecodeParams& p;
  const AnyLayout at;
  float* const floats;
  FormatLoops<TILE> key[MOST_SEGMENTS], value[MOST_SEGMENTS];

  const Live& live(int row, int segment) const {
    return p.cache.live[((long long)p.pending * p.cache.rows + row) * MOST_SEGMENTS + segment];
  }

  // The row's queries, transformed for the segment's keys, times scale; padding heads of a tile are zero.
  void ask(int row, int s) const {
    const Cache& cache = p.cache;
    const int bytes = row_bytes(cache.dtype, at.dim);
    float* to = floats + at.query(row, s);
    Scratch q(at.dim);
    for (int head = 0; head < at.heads; ++head, to += at.each()) {
      std::fill(to, to + at.each(), 0.0f);
      if (head >= p.group) continue;
      to_floats(static_cast<const char*>(p.q) + ((long long)row * p.group + head) * bytes, cache.dtype, at.dim, q.data());
      const float* state = key[s].kept ? state_of(key[s], cache.segments[s].k_state, cache, row) : nullptr;
      to[0] = key[s].shift(state, q.data(), at.dim) * p.scale;
      for (int i = 0; i < at.dim; ++i) to[STATE_HEADER + i] = key[s].query(state, q.data(), at.dim, i) * p.scale;
    }
  }

  // One piece: ANY_PIECE of a segment's live slots, counted through the head, then the ring from its first slot on.
  void attend_piece(int row, int piece) const {
    int s = 0;
    while (piece >= at.first_piece[s + 1]) ++s;
    const Live& slots = live(row, s);
    const int first = (piece - at.first_piece[s]) * ANY_PIECE, last = std::min(first + ANY_PIECE, slots.head + slots.length);
    float* partials = floats + at.partial(p.cache.rows, row, piece);
    State states[TILE];
    for (int tile = 0; tile < at.heads / TILE; ++tile) {
      float* to = partials + tile * TILE * at.each();
      std::fill(to, to + TILE * at.each(), 0.0f);
      for (int g = 0; g < TILE; ++g) states[g] = State{-INFINITY, 0, to + g * at.each() + STATE_HEADER};
      const int wrap = slots.head + std::min(slots.length, slots.ring - slots.first);  // counted slots before the ring's end
      const int turned = slots.head + slots.first;
      attend_range(row, s, tile, first, std::min(last, slots.head), 0, states);
      attend_range(row, s, tile, std::max(first, slots.head), std::min(last, wrap), turned - slots.head, states);
      attend_range(row, s, tile, std::max(first, wrap), last, slots.head - wrap, states);
      for (int g = 0; g < TILE; ++g) {
        to[g * at.each()] = states[g].max;
        to[g * at.each() + 1] = states[g].sum;
      }
    }
  }

  // Slots [begin + shift, end + shift) of a segment of a row, for one tile of query heads.
  void attend_range(int row, int s, int tile, int begin, int end, int shift, State* states) const {
    const ::Segment& segment = p.cache.segments[s];
    const int k_bytes = row_bytes(segment.k_format, at.dim), v_bytes = row_bytes(segment.v_format, at.dim);
    const int block = std::min(block_slots(segment.k_format, at.dim), block_slots(segment.v_format, at.dim));
    const float* asked = floats + at.query(row, s) + tile * TILE * at.each();
    alignas(64) float scores[TILE * MOST_SLOTS], factors[MOST_SLOTS], rescale[TILE];
    Scratch q(TILE * at.dim);
    for (int g = 0; g < TILE; ++g)
      std::memcpy(q.data() + g * at.dim, asked + g * at.each() + STATE_HEADER, size_t(at.dim) * 4);
    for (int from = begin; from < end; from += block) {
      const int slots = std::min(block, end - from);
      const long long slot = (long long)row * segment.capacity + from + shift;
      key[s].score(static_cast<const char*>(segment.k) + slot * k_bytes, slots, at.dim, q.data(), scores);
      if (read_scales(segment.k_scale, slot, slots, key[s].factor, factors)) multiply<TILE>(scores, factors, slots);
      for (int g = 0; g < TILE; ++g) {
        float* own = scores + g * MOST_SLOTS;
        for (int i = 0; i < slots; ++i) own[i] += asked[g * at.each()] + (segment.bias ? segment.bias[slot + i] : 0);
        rescale[g] = soften(own, slots, states[g]);
      }
      if (read_scales(segment.v_scale, slot, slots, value[s].factor, factors)) multiply<TILE>(scores, factors, slots);
      value[s].accumulate(static_cast<const char*>(segment.v) + slot * v_bytes, slots, at.dim, scores, rescale, states);
    }
  }

  // The factors of slots' stored numbers; false if there are none.
  static bool read_scales(const void* scales, long long slot, int slots, float factor, float* out) {
    if (!scales) return false;
    for (int i = 0; i < slots; ++i) out[i] = decode_fp16(static_cast<const uint16_t*>(scales)[slot + i]) * factor;
    return true;
  }

  // Joins a row's pieces segment by segment; each segment's answer is transformed by the per-head state of its values.
  void finish(int row) const {
    const Cache& cache = p.cache;
    const long long bytes = row_bytes(cache.dtype, at.dim);
    Scratch whole(at.dim), part(at.dim), mean(at.dim);
    for (int head = 0; head < p.group; ++head) {
      State all{-INFINITY, 0, whole.data()};
      std::fill(whole.data(), whole.data() + at.dim, 0.0f);
      for (int s = 0; s < at.segments; ++s) {
        State of_segment{-INFINITY, 0, part.data()};
        std::fill(part.data(), part.data() + at.dim, 0.0f);
        for (int piece = at.first_piece[s]; piece < at.first_piece[s + 1]; ++piece) {
          float* from = floats + at.partial(cache.rows, row, piece) + head * at.each();
          join(of_segment, State{from[0], from[1], from + STATE_HEADER}, at.dim);
        }
        if (value[s].kept && of_segment.max != -INFINITY) {
          const float* state = state_of(value[s], cache.segments[s].v_state, cache, row);
          for (int i = 0; i < at.dim; ++i) mean.data()[i] = part.data()[i] / of_segment.sum;
          for (int i = 0; i < at.dim; ++i) part.data()[i] = value[s].answer(state, mean.data(), at.dim, i) * of_segment.sum;
        }
        join(all, of_segment, at.dim);
      }
      for (int d = 0; d < at.dim; ++d) all.out[d] /= all.sum;
      from_floats(all.out, cache.dtype, at.dim, static_cast<char*>(p.out) + ((long long)row * p.group + head) * bytes);
    }
  }
};

inline void decode_any(const DecodeParams& p) {
  const int tile = tile_of(p.group);
  if (tile == 1) DecodeAny<1>(p).run();
  else if (tile == 2) DecodeAny<2>(p).run();
  else DecodeAny<4>(p).run();
}

}  // namespace elastickv
