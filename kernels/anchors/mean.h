// mean: the mean of the group's keys and of its values, under its first token.
#pragma once
#ifdef __CUDACC__

template <>
struct Rule<MEAN> {
  static __device__ int close(const Group& group, Pairs& key, Pairs& value) {
    of(group, group.k, key);
    of(group, group.v, value);
    return 0;
  }

  static __device__ void of(const Group& group, const void* from, Pairs& mean) {
    for_each_dim([&](int i, int e) { mean.x[i][e] = 0.0f; });
    group.each(from, [&](int, const Pairs& one) {
      for_each_dim([&](int i, int e) { mean.x[i][e] = add_rn(mean.x[i][e], one.x[i][e]); });
    });
    for_each_dim([&](int i, int e) { mean.x[i][e] = div_rn(mean.x[i][e], float(group.size)); });
  }
};

#else

namespace elastickv {

template <>
struct Rule<MEAN> {
  static constexpr bool AVERAGES = true;
  static int choose(const Group&, float*) { return 0; }
};

}  // namespace elastickv
#endif
