"""first: a group's first token."""

from elastickv.anchors.base import Anchor, positions

ANCHOR = Anchor(
    name="first", meaning="the group's first token", number=1, order=20, score=lambda keys, values: -positions(keys)
)
