"""From a case to a record: the supervisor always writes one, the worker measures, steps.py holds their order."""
