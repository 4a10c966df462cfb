"""Judges records: verdicts against the thresholds, and the comparison of two results folders."""
