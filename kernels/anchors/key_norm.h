// key_norm: the token whose key has the smallest L2 norm, the earliest of equals.
#pragma once
#ifdef __CUDACC__

template <>
struct Rule<KEY_NORM> {
  template <class Vector>
  static __device__ int close(const Group& group, Vector& key, Vector& value) {
    group.ask_for(group.v);  // prefetch all values: the chosen one is known only after the keys have arrived
    const int chosen = group.choose(group.k, key, [](double norm, double best) { return norm < best; });
    group.load(group.v, chosen, value);
    return chosen;
  }
};

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
