"""The thresholds of a plan: what the verdicts compare with."""

from elastickv.schemas.config import Golden

ROOT, TITLE = Golden, "Golden thresholds of a plan"
