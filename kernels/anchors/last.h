// last: a group's last token.
#pragma once
#ifdef __CUDACC__

#else

namespace elastickv {

template <>
struct Rule<LAST> : Chooses {
  static int choose(const Group& group, float*) { return group.size - 1; }
};

}  // namespace elastickv
#endif
