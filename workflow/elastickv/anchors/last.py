"""last: a group's last token."""

from elastickv.anchors.base import Anchor, positions

ANCHOR = Anchor(
    name="last", meaning="the group's last token", number=0, order=10, score=lambda keys, values: positions(keys)
)
