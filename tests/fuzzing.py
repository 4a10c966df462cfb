"""How many inputs the fuzz tests try: some thousand in the suite, or ELASTICKV_FUZZ of them.

ELASTICKV_FUZZ=100000 nice -n 19 .venv/bin/python -m pytest -q -n 0 tests/test_matrix_fuzz.py tests/test_record_fuzz.py
"""

import os

from hypothesis import HealthCheck, settings

IN_SUITE = 2000
INPUTS = int(os.environ.get("ELASTICKV_FUZZ", IN_SUITE))


def share(part: float) -> settings:
    """Settings of a test that tries this part of a reader's inputs. By hand every run tries others than the last."""
    return settings(
        max_examples=max(1, round(INPUTS * part)),
        deadline=None,
        derandomize=INPUTS == IN_SUITE,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
