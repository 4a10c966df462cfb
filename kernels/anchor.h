// What all kernels know of the anchor rules. The build writes two headers out of workflow/elastickv/anchors/*.py:
// anchors.h       ELASTICKV_ANCHORS(X): X(NAME, number) of each rule;
// anchors_code.h  includes anchors/<name>.h of each: which of a group's tokens it chooses.
#pragma once
#include "anchors.h"

enum Anchor {
#define X(NAME, NUMBER) NAME = NUMBER,
  ELASTICKV_ANCHORS(X)
#undef X
};
