// key_norm: the token whose key has the smallest L2 norm, the earliest of equals.
#pragma once
#ifdef __CUDACC__

#else

namespace elastickv {

template <>
struct Rule<KEY_NORM> : Chooses {
  static int choose(const Group& group, float* member) {
    return largest(group.size, [&](int i) { return -squared_norm(group.key(i, member), group.dim); });
  }
};

}  // namespace elastickv
#endif
