"""mean: the mean of the group's keys and the mean of its values, instead of a single token."""

from elastickv.anchors.base import Anchor

ANCHOR = Anchor(name="mean", meaning="the mean of the group's keys and of its values", number=3, order=40, score=None)
