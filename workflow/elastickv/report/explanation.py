"""An explanation of a run's numbers: the memory bottleneck, the elastic cache, the limits set by the byte ceiling.

Every number in the text is linked to its record (phrases.py). Cases without a result are named without a number. The
notebook shows this below its static explanation.
"""

from __future__ import annotations

from elastickv.report import cautions, phrases
from elastickv.report.inputs import Baseline, Case, Inputs
from elastickv.report.phrases import Number, Phrase
from elastickv.report.text import device_title, escape, microseconds, size
from elastickv.schemas.base import at
from elastickv.schemas.baseline import Baseline as Record

CEILING = (
    "**What the byte ceiling forbids.** No kernel moves bytes faster than a pure pass over them: a speedup beyond "
    "full bytes / elastic bytes means a slow full cache, warm caches or miscounted bytes.\n"
)
NO_RESULT = "No case has a valid result, so there are no figures to explain."


def markdown(inputs: Inputs) -> str:
    """All paragraphs as Markdown."""
    return "\n\n".join(phrases.text_of(paragraph) for paragraph in paragraphs(inputs))


def paragraphs(inputs: Inputs) -> list[Phrase]:
    """The explanation of a results folder, paragraph by paragraph."""
    name = inputs.device.name if inputs.device else None
    return [
        [f"### Results of this run ({escape(device_title(inputs.backend, name))})"],
        *(bottleneck(inputs) or [[NO_RESULT]]),
        *elastic(inputs),
        *forbidden(inputs),
        *without_result(inputs),
        *(language_model(baseline) for baseline in inputs.baselines),
    ]


def bottleneck(inputs: Inputs) -> list[Phrase]:
    """The cost of the full cache in the first attention case, and how close it is to a pure read."""
    case = next((case for case in inputs.own if case.content.kind.CACHE), None)
    if case is None:
        return []
    efficiency = case.record.efficiency.full
    phrase: Phrase = [f"**The memory bottleneck.** `{case.id}` is decode attention of ", *phrases.shape(case), ". "]
    phrase += ["With the full cache one layer reads and writes ", phrases.measured(case, "bytes/full", size)]
    phrase += [" for one token, in ", phrases.measured(case, "statistics/full/median_us", microseconds), " us: "]
    phrase += [phrases.measured(case, "efficiency/full/achieved_gbps", "{:,.4g}".format), " GB/s"]
    if efficiency.ceiling_gbps is not None and efficiency.roofline is not None:
        phrase += [", ", phrases.measured(case, "efficiency/full/roofline", _percent), " of the "]
        phrase += [phrases.measured(case, "efficiency/full/ceiling_gbps", "{:,.4g}".format)]
        phrase += [" GB/s that a pure read reached in the same process"]
    return [[*phrase, ". A faster kernel can at best close the gap to that read; it cannot move fewer bytes."]]


def elastic(inputs: Inputs) -> list[Phrase]:
    """One line per case with a result: bytes moved and speedup."""
    phrase: Phrase = []
    for case in inputs.own:
        phrase += [f"\n- `{case.id}`, {phrases.workload(case)}: ", phrases.measured(case, "bytes/elastic", size)]
        phrase += [" instead of ", phrases.measured(case, "bytes/full", size), ", ", *_speedup(case)]
        if cautions.cycle_holds(case.record):
            phrase += ["; with appends and compression ", *phrases.interval(case, "inference_cycle/speedup")]
        phrase += ["."]
    head = "**The elastic cache.** Bytes moved by one launch, and what that did to its time:\n"
    return [[head, *phrase]] if phrase else []


def _speedup(case: Case) -> Phrase:
    """The speedup with its interval, worded according to the verdict."""
    words = {"same": "no difference in time, ", "slower": "and slower than the full cache, "}
    return [words.get(case.verdict.verdict, "measured "), *phrases.speedup(case)]


def forbidden(inputs: Inputs) -> list[Phrase]:
    """The byte ceiling of each case, which no kernel can exceed."""
    golden = inputs.thresholds.speedup
    threshold = Number(f"{golden:g}x", golden, "verdicts.json", ("/thresholds/speedup",))
    phrase: Phrase = []
    for case in (case for case in inputs.cases if at(case.record, ("bytes",))):
        phrase += [f"\n- `{case.id}`: at most ", phrases.times(case, "bytes/ceiling")]
        if case.record.bytes.ceiling < golden:
            phrase += [", so the ", threshold, " of a golden ticket is out of reach"]
        if case.publishable and case.record.bytes.reachable_ceiling is not None:
            phrase += [
                "; pure passes over the same bytes, launched the same way, differ by ",
                phrases.times(case, "bytes/reachable_ceiling"),
            ]
        phrase += ["."]
    return [[CEILING, *phrase]] if phrase else []


def without_result(inputs: Inputs) -> list[Phrase]:
    """The cases without a number, with the reason from their record."""
    missing = [case for case in inputs.cases if not case.publishable]
    lines = "".join(f"\n- `{case.id}`: {case.verdict.status}: {escape(_reason(case))}" for case in missing)
    return [[f"**Without a result**, so without a number:\n{lines}"]] if missing else []


def _reason(case: Case) -> str:
    return at(case.record, ("reason",)) or case.verdict.reason


def language_model(baseline: Baseline) -> Phrase:
    """The decode rate of a whole language model with its own full cache, or why there is none."""
    record, file = baseline.record, f"{baseline.engine}_baseline.json"
    if record is None or record.status != "ok":
        why = baseline.problem if record is None else f"{record.status}: {record.reason}"
        return [f"**Language model ({baseline.engine})**: no result, {escape(why)}."]
    name = escape(f"{record.model.name} in {baseline.engine}")
    rate = {
        key: _number(record, file, ("decode_tokens_per_second", key), "{:,.1f}") for key in ("value", "low", "high")
    }
    phrase: Phrase = [f"**Language model.** {name} decodes ", rate["value"], " tokens/s [", rate["low"], ", "]
    phrase += [
        rate["high"],
        f"] with its own full cache on {escape(record.device.name)}; perplexity of the fixed text: ",
    ]
    return [*phrase, _number(record, file, ("perplexity",), "{:.2f}"), "."]


def _number(record: Record, file: str, path: tuple[str, ...], form: str) -> Number:
    value = at(record, path)
    return Number(form.format(value), value, file, ("/" + "/".join(path),))


def _percent(value: float) -> str:
    return f"{value * 100:.0f}%"
