// value_norm: the token whose value has the largest L2 norm, the earliest of equals.
#pragma once
#ifdef __CUDACC__

template <>
struct Rule<VALUE_NORM> {
  template <class Vector>
  static __device__ int close(const Group& group, Vector& key, Vector& value) {
    group.ask_for(group.k);  // prefetch all keys: the chosen one is known only after the values have arrived
    const int chosen = group.choose(group.v, value, [](double norm, double best) { return norm > best; });
    group.load(group.k, chosen, key);
    return chosen;
  }
};

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
