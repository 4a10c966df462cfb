"""The errors that users can cause, each with its exit code. Any other exception is a bug and shows its traceback."""

from __future__ import annotations

MOST_PROBLEMS_SHOWN = 10


class ElastickvError(Exception):
    """An error that ends the program with a message and `exit_code`, without a traceback."""

    exit_code = 1


class UsageError(ElastickvError):
    """Bad usage or bad config (exit 2).

    `problems` holds every error found, one line each: file, key, value and the allowed values.
    """

    exit_code = 2

    def __init__(self, problems: str | list[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        shown = self.problems[:MOST_PROBLEMS_SHOWN]
        rest = len(self.problems) - len(shown)
        super().__init__("\n".join(shown + ([f"... and {rest} more"] if rest else [])))


class MachineError(ElastickvError):
    """The machine lacks something (exit 3); the message ends with the fix."""

    exit_code = 3

    def __init__(self, problem: str, fix: str):
        super().__init__(f"{problem}\nfix: {fix}")
        self.problem = problem
        self.fix = fix

    @property
    def one_line(self) -> str:
        """Problem and fix, as the `reason` field of a record."""
        return f"{self.problem} (fix: {self.fix})"
