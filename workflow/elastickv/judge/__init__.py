"""From records to judgement: verdicts against the thresholds, and what changed between two results folders."""
