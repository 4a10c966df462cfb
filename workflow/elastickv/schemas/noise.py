"""The noise limits of a plan: how far from 1 the judge lets controls be."""

from elastickv.schemas.config import Noise

ROOT, TITLE = Noise, "Noise limits of a plan"
