// Parameter block of the kernel softmax: read by both kernels and by Python.
#pragma once

// out[row, i] = exp(scores[row, i] - m) / sum_j exp(scores[row, j] - m), m the row's largest; fp32, [rows, columns].
struct SoftmaxParams {
  const float* scores;
  float* out;
  int rows;
  int columns;
};
