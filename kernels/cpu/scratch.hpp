// Floats that one thread works with, all of them 0 at first. Not std::vector<float>: the linker would keep one of the
// targets' copies of its functions for all of them (see elastickv.cpp).
#pragma once
#include <cstdlib>

namespace elastickv {

class Scratch {
 public:
  explicit Scratch(int count) : data_(static_cast<float*>(std::calloc(count > 0 ? count : 1, sizeof(float)))) {
    if (!data_) std::abort();
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() { return data_; }

 private:
  float* data_;
};

}  // namespace elastickv
