// mean: the mean of the group's keys and of its values, under its first token.
#pragma once
#ifdef __CUDACC__

#else

namespace elastickv {

template <>
struct Rule<MEAN> {
  static constexpr bool AVERAGES = true;
  static int choose(const Group&, float*) { return 0; }
};

}  // namespace elastickv
#endif
