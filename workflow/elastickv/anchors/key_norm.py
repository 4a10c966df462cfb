"""key_norm: the token whose key has the smallest L2 norm (Devoto et al., 2024: such keys draw the most attention)."""

from elastickv.anchors.base import Anchor, squared_norms

ANCHOR = Anchor(
    name="key_norm",
    meaning="the token whose key has the smallest norm",
    number=4,
    order=50,
    score=lambda keys, values: -squared_norms(keys),
)
