// Declarations of the anchor rules, shared by all kernels. The build generates two headers from
// workflow/elastickv/anchors/*.py:
// anchors.h       ELASTICKV_ANCHORS(X): X(NAME, number) for each rule;
// anchors_code.h  includes anchors/<name>.h of each rule, which chooses a token of a group.
#pragma once
#include "anchors.h"

enum Anchor {
#define X(NAME, NUMBER) NAME = NUMBER,
  ELASTICKV_ANCHORS(X)
#undef X
};
