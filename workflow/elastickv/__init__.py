"""Elastic KV cache benchmark: build, measure, judge, report. Every published number has a check behind it."""

__version__ = "0.1.0"
