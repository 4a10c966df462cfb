"""centre: the token in the middle of its group, the later one of two."""

from elastickv.anchors.base import Anchor, positions

ANCHOR = Anchor(
    name="centre",
    meaning="the token in the middle of its group",
    number=9,
    order=25,
    score=lambda keys, values: -abs(positions(keys) - keys.shape[2] // 2),
)
