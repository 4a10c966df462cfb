"""The thresholds of a plan, which the verdicts use."""

from elastickv.schemas.config import Golden

ROOT, TITLE = Golden, "Golden thresholds of a plan"
