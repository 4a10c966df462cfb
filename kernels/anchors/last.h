// last: a group's last token.
#pragma once
#ifdef __CUDACC__

template <>
struct Rule<LAST> {
  template <class Vector>
  static __device__ int close(const Group& group, Vector& key, Vector& value) {
    return group.load_both(group.size - 1, key, value);
  }
};

#else

namespace elastickv {

template <>
struct Rule<LAST> : Chooses {
  static int choose(const Group& group, float*) { return group.size - 1; }
};

}  // namespace elastickv
#endif
