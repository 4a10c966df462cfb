"""An explanation of a run's numbers (explanation.md.jinja), shown by the notebook below its static explanation.

Every number in the text is linked to its record. Cases without a result are named without a number.
"""

from __future__ import annotations

from elastickv.report import prose
from elastickv.report.inputs import Inputs
from elastickv.report.phrases import Number
from elastickv.report.prose import Prose
from elastickv.report.text import device_title, microseconds, size
from elastickv.schemas.base import at

NO_RESULT = "No case has a valid result, so there are no figures to explain."
WORDS = {"same": "no difference in time, ", "slower": "and slower than the full cache, "}


def markdown(inputs: Inputs) -> str:
    """The explanation as Markdown."""
    return explained(inputs).text


def explained(inputs: Inputs) -> Prose:
    """The explanation of a results folder, with its numbers."""
    goal = inputs.thresholds.speedup
    return prose.render(
        "explanation.md",
        device=device_title(inputs.backend, inputs.device.name if inputs.device else None),
        bottleneck=next((case for case in inputs.own if case.content.kind.CACHE), None),
        no_result=NO_RESULT,
        own=inputs.own,
        words=WORDS,
        with_bytes=[case for case in inputs.cases if at(case.record, ("bytes",))],
        golden=Number(f"{goal:g}x", goal, "verdicts.json", ("/thresholds/speedup",)),
        without_result=[case for case in inputs.cases if not case.publishable],
        baselines=inputs.baselines,
        size=size,
        microseconds=microseconds,
        gbps="{:,.4g}".format,
        percent="{:.0%}".format,
    )
