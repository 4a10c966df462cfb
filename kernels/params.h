// Parameter blocks of every kernel: one definition for CUDA, CPU and Python (workflow/elastickv/device/params.py reads
// it; a test compares size and offsets). Plain types only: NVRTC has no <cstdint>.
//
// Terms (docs/kernels.md): rows = batch * kv_heads. A cache is a list of segments; each is a run of slots per row with one
// format for keys and one for values. The live slots (Live) are data that the host computes from the policy for every number of
// tokens in a measurement; kernels know only segments and live ranges, not policies.
#pragma once

// Each array of a cache is followed by READ_AHEAD readable bytes of padding, because kernels read whole units.
constexpr int READ_AHEAD = 4096;
constexpr int MOST_SEGMENTS = 3;
constexpr int MOST_RUNS = 6;

// The live slots of one segment and row: slots [0, head) and, in the ring of `ring` slots that begins at slot `head`, `length`
// slots from ring position `first` on, wrapping at most once. 16 bytes: one load. The next token is stored in the slot after
// them: ring > 0 ? head + (first + length) % ring : head (of segment 0, in the state before the token is added).
struct Live {
  int head;
  int first;
  int ring;
  int length;
};

// Fields that a launch needs first come first in each block, so that they occupy as few cache lines as possible.
struct Segment {
  void* k;              // [rows, capacity] vectors as k_format stores them
  void* v;
  void* k_scale;        // fp16 [rows, capacity]; null unless k_format has scales
  void* v_scale;
  float* bias;          // [rows, capacity]; null: no bias is read
  int capacity;         // slots per row
  int k_format;         // Format (format.h)
  int v_format;
  int pad;
  int* token;           // [rows, capacity]: token that each slot represents (the group's first for a mean); null in segment 0
  const void* k_state;  // [kv_heads, ...] per-head state of k_format (a matrix, a mean); null: none
  const void* v_state;
};

// Tokens of segment 0 that become one slot of another segment. count 0: none. Token i of them is in slot
// head + (first + i) % ring of segment 0.
struct Closing {
  int segment;
  int slot;
  int count;
  int token;  // number of the first of them
  int head;
  int first;
  int ring;
  float bias;  // written to the slot's bias where the segment has one
};

struct Cache {
  const int* tokens;       // on the device: tokens held (so that a captured graph can be replayed while the cache grows)
  const Live* live;        // on the device, [2, rows, MOST_SEGMENTS]: with *tokens tokens, then with one more
  const Closing* closing;  // on the device, [rows]: the group that becomes complete with the next token
  int segment_count;
  int rows;
  int kv_heads;            // row % kv_heads is the KV head of a row
  int dim;
  int dtype;               // Format of segment 0, q and out
  int anchor;              // anchor rule: the token that represents a group (anchors.h)
  Segment segments[MOST_SEGMENTS];  // 0: exact slots in dtype, which store new tokens; then the slots made from groups
};

// A part of an elastic cache built from a full one: slots of one segment, each made from `each` tokens of the full cache, from
// token `token` on. Slot i of the run is slot + i, or head + (slot + i) % ring in a ring (ring > 0). Segment 0 gets copies.
struct Run {
  int segment;
  int slot;
  int slots;  // 0: nothing
  int each;
  int token;
  int head;
  int ring;
  float bias;
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

// Builds an elastic cache from a full one.
struct CompressParams {
  Cache cache;
  const void* k;    // [rows, source_capacity, dim] in dtype
  const void* v;
  const Run* runs;  // on the device, [kv_heads, MOST_RUNS]
  int source_capacity;
  int most_slots;   // of any KV head, over its runs: for the launch shape
};

// One token's step through the layers of a model: `close` (all layers), then for each layer a decode that also appends the
// token, or `append` and a decode, and finally `advance`. If groups may contain the newest token (no window), they are closed by
// `append`, after the token was stored.

// Makes the slots of cache.closing in every layer. For policies whose groups contain only tokens that were appended before.
struct CloseParams {
  const Cache* caches;  // [layers], on the device, equal except for their addresses
  int layers;
  int rows;
};

// The token that a launch appends: number n = *cache.tokens, entry (n + shift) % pool_size of a pool. *cache.tokens is not
// changed; `advance` increments it.
struct Fresh {
  const void* k;  // [pool_size, rows, dim] in dtype; null: nothing is appended
  const void* v;
  int pool_size;  // 0: nothing is appended
  int shift;
};

struct AppendParams {
  Cache cache;
  Fresh fresh;
  int closes;  // 1: then makes the slot of cache.closing
  int pad;
};

// Increments *tokens and sets live and closing for the new number n of tokens: entry n - first_tokens of the tables, which the
// host computed and copied to the device: live_of [steps + 2, kv_heads, MOST_SEGMENTS], closing_of [steps + 1, kv_heads].
struct AdvanceParams {
  int* tokens;
  Live* live;        // [2, rows, MOST_SEGMENTS]
  Closing* closing;  // [rows]
  const Live* live_of;
  const Closing* closing_of;
  int first_tokens;
  int rows;
  int kv_heads;
  int pad;
};

// out[row, j, :] = sum_i softmax_i(q[row, j] . k_i * scale + bias_i) v_i over the live slots of a cache's segments: those with
// *cache.tokens + pending tokens. If `fresh` has a token, the launch first appends it as the last one (its slot, the last live
// slot of segment 0, is then written by this launch and not read). q, out: [rows, group, dim] in dtype.
struct DecodeParams {
  const void* q;
  void* out;
  void* workspace;  // size from the backend's decode_workspace; every byte 0xff, once when allocated
  int group;
  int pending;  // 1: *cache.tokens does not include the token that this or an earlier launch appends; else 0
  float scale;
  int waits;    // 1 if the previous launch changes this cache, live or *cache.tokens; nothing is then read before its end
  int touched[MOST_SEGMENTS];  // host's upper bound, over rows, of the slots [0, touched) that can hold a token: launch shape, reads
  Fresh fresh;
  Cache cache;
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

// A pure pass: reads `read_bytes` and writes `write_bytes` (multiples of 16) with negligible arithmetic. Measures ceilings.
// Large passes read and write at the same pace. `sink` takes 4 bytes that depend on everything read (so nothing is elided).
struct StreamParams {
  const void* read;
  long long read_bytes;
  void* write;
  long long write_bytes;
  unsigned* sink;
};
