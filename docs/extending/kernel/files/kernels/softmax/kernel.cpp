// softmax: of each row of scores (SoftmaxParams).
// Traffic: every score read and every weight written once; the passes after the first find the row in the caches.
// Launch: threads take parts of the rows.
#include <algorithm>

#include "simd.hpp"
#include "softmax/params.h"
#include "threads.hpp"

namespace elastickv {

static void softmax_row(const float* scores, float* out, int columns) {
  const int whole = columns / LANES * LANES;  // the rest is taken one by one
  float most = scores[0], total = 0.0f;
  Floats largest = splat(scores[0]), sums = splat(0.0f);
  for (int i = 0; i < whole; i += LANES) {
    const Floats x = load<Floats>(scores + i);
    largest = x > largest ? x : largest;
  }
  for (int lane = 0; lane < LANES; ++lane) most = std::max(most, largest[lane]);
  for (int i = whole; i < columns; ++i) most = std::max(most, scores[i]);
  for (int i = 0; i < whole; i += LANES) {
    const Floats weights = exp_floats(load<Floats>(scores + i) - splat(most));
    sums += weights;
    store(out + i, weights);
  }
  for (int lane = 0; lane < LANES; ++lane) total += sums[lane];
  for (int i = whole; i < columns; ++i) total += out[i] = std::exp(scores[i] - most);
  for (int i = 0; i < whole; i += LANES) store(out + i, load<Floats>(out + i) * splat(1.0f / total));
  for (int i = whole; i < columns; ++i) out[i] *= 1.0f / total;
}

static void softmax(const SoftmaxParams& p) {
#pragma omp parallel num_threads(thread_count)
  {
    const Share rows = my_share(p.rows);
    for (long long row = rows.begin; row < rows.end; ++row)
      softmax_row(p.scores + row * p.columns, p.out + row * p.columns, p.columns);
  }
}

}  // namespace elastickv
