// Parameter blocks of every kernel: one definition for CUDA, CPU and Python (workflow/elastickv/device/params.py reads
// it; a test compares size and offsets). Plain types only: NVRTC has no <cstdint>.
//
// Words (docs/architecture.md): rows = batch * kv_heads. tokens = length of the sequence held so far. A cache has an
// exact segment (sinks, then a ring that holds the open group and the window) and a middle segment (one slot per closed
// group of `compress` tokens). A full cache is the case sinks >= tokens, ring = 0, no middle.
//
//   closed(n)  = n > sinks + window ? (n - sinks - window) / compress : 0        closed groups of n tokens
//   live ring  = tokens [sinks + closed(n) * compress, n)
//   place(t)   = t < sinks ? t : sinks + (t - sinks) % ring                      exact slot of token t
#pragma once

// After each array of a cache lie READ_AHEAD bytes that may be read, whatever they hold: kernels read in whole units.
constexpr int READ_AHEAD = 4096;

enum Anchor { LAST = 0, FIRST = 1, VALUE_NORM = 2, MEAN = 3 };

struct Cache {
  void* exact_k;         // [rows, sinks + ring, dim] in dtype
  void* exact_v;
  void* middle_k;        // [rows, middle_capacity, dim] in cache_dtype (kernels/formats says how)
  void* middle_v;
  void* middle_k_scale;  // fp16 [rows, middle_capacity]; null unless cache_dtype has scales
  void* middle_v_scale;
  float* exact_bias;     // [rows, sinks + ring]; null: no bias is read
  float* middle_bias;    // [rows, middle_capacity]
  int* middle_token;     // [rows, middle_capacity]: which token each middle slot stands for (MEAN: the group's first);
                         //   written by compress and append, never read by decode
  const int* tokens;     // on the device: tokens held (so that a captured graph can be replayed while the cache grows)
  int dtype;             // Format (format.h) of exact slots, q and out
  int cache_dtype;       // Format of middle slots; equal to dtype, or one with scales
  int rows;
  int dim;
  int sinks;
  int window;
  int compress;
  int ring;
  int middle_capacity;
  int pad;
};

// out[i] = (sum of the four bytes of a Philox4x32-10 word - 510) / 147.8 (mean 0, std 1), converted to dtype.
// Element i uses word i % 4 of counter (i / 4 low, i / 4 high, stream, 0) under key (seed, 0).
struct FillParams {
  void* out;
  long long count;
  int dtype;  // FP32, FP16 or BF16
  unsigned seed;
  unsigned stream;
  int pad;
};

// Builds an elastic cache of `source_tokens` tokens from a full one: copies the exact tokens, makes every closed group's slot.
struct CompressParams {
  Cache cache;
  const void* k;  // [rows, source_capacity, dim] in dtype
  const void* v;
  int source_capacity;
  int source_tokens;
  int anchor;         // Anchor
  float anchor_bias;  // written to middle_bias where that is not null
};

// One token's step through the layers of a model: `close` (all layers), then layer by layer a decode that appends the token
// itself, or `append` and a decode, and `advance` at the end. A cache without a window closes its groups in `append`: they
// hold the token.

// Makes the middle slot of every layer's group that becomes complete when *caches[i].tokens grows by one (chooses or
// averages, quantises, stores). Only for caches with a window: such a group holds tokens that were appended before.
struct CloseParams {
  const Cache* caches;  // [layers], on the device, alike but for their addresses
  int layers;
  int rows;
  int anchor;         // Anchor
  float anchor_bias;  // written to middle_bias where that is not null
};

// The token that a launch appends: number n = *cache.tokens, entry (n + shift) % pool_size of a pool. *cache.tokens stays:
// `advance` moves it on.
struct Fresh {
  const void* k;  // [pool_size, rows, dim] in dtype; null: nothing is appended
  const void* v;
  int pool_size;  // 0: nothing is appended
  int shift;
};

// anchor, anchor_bias: of the group that is closed where the cache has no window.
struct AppendParams {
  Cache cache;
  Fresh fresh;
  int anchor;
  float anchor_bias;
};

struct AdvanceParams {
  int* tokens;
  int delta;
  int pad;
};

// out[row, j, :] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i over the slots of a cache that holds
// *cache.tokens + pending tokens, the last of which the launch appends first where `fresh` has one (for caches with a
// window, and full ones). q, out: [rows, group, dim] in dtype ([batch, heads, dim] with group = heads / kv_heads).
struct DecodeParams {
  Cache cache;
  const void* q;
  void* out;
  void* workspace;  // size from the backend's decode_workspace; every byte 0xff, once when allocated
  int group;
  int pending;  // tokens that *cache.tokens does not count yet: 1 when this or an earlier launch appends one, else 0
  float scale;
  int max_tokens;  // host's upper bound of the tokens: decides the launch shape and which slots are read
  Fresh fresh;
  int waits;  // 1 when the launch just before changes this cache or *cache.tokens; nothing is then read before its end
  int pad;
};

// One pass of the original kernel's work, fp32, [heads, seq, dim]; g = 4 consecutive dims:
//   anchors (t % compress == 0): out_g = exp(dot(q_g, k_g) * scale) * v_g;  others: out_g = 0.95 * previous_g of the anchor.
struct ElementwiseParams {
  const float* q;
  const float* k;
  const float* v;
  const float* previous;
  float* out;
  int heads;
  int seq;
  int dim;
  int compress;
  float scale;
  int reverse;  // 1: works from the last group to the first
};

// A pure pass: reads `read_bytes` and writes `write_bytes` (multiples of 16), no arithmetic worth naming. Measures ceilings.
// Large passes read and write at the same pace. `sink` takes 4 bytes that depend on everything read (so nothing is elided).
struct StreamParams {
  const void* read;
  long long read_bytes;
  void* write;
  long long write_bytes;
  unsigned* sink;
};
