"""How a record comes about, whatever it is of: lock, store, worker process, progress, record, exit code.

A room (cases, language models, peers) writes a `Job`: what its records are known by, and how workers' answers become
them. `run` does the rest. A worker is a program that calls `worker.serve` with its tasks.
"""

from elastickv.jobs.command import deliver, exit_code, read_settings
from elastickv.jobs.job import Job, Record, run
from elastickv.jobs.process import Answer, Worker, ended
from elastickv.jobs.store import RecordStore

__all__ = ["Answer", "Job", "Record", "RecordStore", "Worker", "deliver", "ended", "exit_code", "read_settings", "run"]
