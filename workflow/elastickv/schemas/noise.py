"""The noise limits of a plan: the largest allowed distance of controls from 1."""

from elastickv.schemas.config import Noise

ROOT, TITLE = Noise, "Noise limits of a plan"
