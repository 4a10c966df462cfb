"""`snakemake --lint` with one finding allowed: environments are pinned locks here, not conda or containers."""

import re
import subprocess
import sys
from pathlib import Path

ALLOWED = "Specify a conda environment or container for each rule."
FINDING = re.compile(r"^    \* (?P<title>.+?):$", re.MULTILINE)


def unexpected(report: str) -> list[str]:
    """The titles of the findings in a lint report, without the allowed one."""
    return [title for title in FINDING.findall(report) if title != ALLOWED]


def main() -> int:
    """Runs the linter; returns 1 and shows its report when it found anything else (or failed itself)."""
    snakemake = Path(sys.executable).with_name("snakemake")
    done = subprocess.run([snakemake, "--lint", "text"], capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    if unexpected(report) or (done.returncode != 0 and not FINDING.search(report)):
        print(report, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
