// first: a group's first token.
#pragma once
#ifdef __CUDACC__

template <>
struct Rule<FIRST> {
  template <class Vector>
  static __device__ int close(const Group& group, Vector& key, Vector& value) { return group.load_both(0, key, value); }
};

#else

namespace elastickv {

template <>
struct Rule<FIRST> : Chooses {
  static int choose(const Group&, float*) { return 0; }
};

}  // namespace elastickv
#endif
