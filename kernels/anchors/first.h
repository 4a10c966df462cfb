// first: a group's first token.
#pragma once
#ifdef __CUDACC__

#else

namespace elastickv {

template <>
struct Rule<FIRST> : Chooses {
  static int choose(const Group&, float*) { return 0; }
};

}  // namespace elastickv
#endif
