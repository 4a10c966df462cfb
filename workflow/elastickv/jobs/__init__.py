"""How records of all kinds are made: lock, record store, worker process, progress, record, exit code.

Cases, language models and peers each define a `Job`: the keys of its records, and how workers' answers become records.
`run` does the rest. A worker is a program that calls `worker.serve` with its tasks.
"""

from elastickv.jobs.command import deliver, exit_code, read_settings
from elastickv.jobs.job import Job, Record, run
from elastickv.jobs.process import Answer, ended, in_worker
from elastickv.jobs.store import RecordStore

__all__ = [
    "Answer",
    "Job",
    "Record",
    "RecordStore",
    "deliver",
    "ended",
    "exit_code",
    "in_worker",
    "read_settings",
    "run",
]
