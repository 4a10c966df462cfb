"""From a case to a record: the supervisor always writes one, the worker measures, run.py holds the order of steps."""
