// value_norm: the token whose value has the largest L2 norm, the earliest of equals.
#pragma once
#ifdef __CUDACC__

#else

namespace elastickv {

template <>
struct Rule<VALUE_NORM> : Chooses {
  static int choose(const Group& group, float* member) {
    return largest(group.size, [&](int i) { return squared_norm(group.value(i, member), group.dim); });
  }
};

}  // namespace elastickv
#endif
