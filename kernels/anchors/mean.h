// mean: the mean of the group's keys and of its values, under its first token.
#pragma once
#ifdef __CUDACC__

template <>
struct Rule<MEAN> {
  template <class Vector>
  static __device__ int close(const Group& group, Vector& key, Vector& value) {
    of(group, group.k, key);
    of(group, group.v, value);
    return 0;
  }

  template <class Vector>
  static __device__ void of(const Group& group, const void* from, Vector& mean) {
    Vector::each([&](int i, int e) { mean.x[i][e] = 0.0f; });
    group.template each<Vector>(from, [&](int, const Vector& one) {
      Vector::each([&](int i, int e) { mean.x[i][e] = add_rn(mean.x[i][e], one.x[i][e]); });
    });
    Vector::each([&](int i, int e) { mean.x[i][e] = div_rn(mean.x[i][e], float(group.size)); });
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
