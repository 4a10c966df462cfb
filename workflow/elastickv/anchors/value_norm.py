"""value_norm: the token whose value has the largest L2 norm."""

from elastickv.anchors.base import Anchor, squared_norms

ANCHOR = Anchor(
    name="value_norm",
    meaning="the token whose value has the largest norm",
    number=2,
    order=30,
    score=lambda keys, values: squared_norms(values),
)
