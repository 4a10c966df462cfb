// centre: the token in the middle of its group, the later one of two.
#pragma once
#ifdef __CUDACC__

template <>
struct Rule<CENTRE> {
  template <class Vector>
  static __device__ int close(const Group& group, Vector& key, Vector& value) {
    return group.load_both(group.size / 2, key, value);
  }
};

#else

namespace elastickv {

template <>
struct Rule<CENTRE> : Chooses {
  static int choose(const Group& group, float*) { return group.size / 2; }
};

}  // namespace elastickv
#endif
