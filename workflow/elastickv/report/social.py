"""`elastickv report social`: posts for X and LinkedIn, worded by the verdicts, with a trace of every number.

A post omits whole clauses until it fits and never truncates a number. Cases of another device are not posted.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

from elastickv import records
from elastickv.judge import verdict
from elastickv.report import cautions, phrases
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.phrases import Phrase
from elastickv.schemas import lengths
from elastickv.schemas.social import Post, Posts, PublishedNumber, Social, Variant

MOST_VARIANTS = 5
X_TAGS, LINKEDIN_TAGS = " #NVIDIAGTC @NVIDIAGTC", "#NVIDIAGTC #KVCache #LLM"
NO_RESULT = "no case has a valid result, so there is no number to post."


@dataclass(frozen=True)
class Clause:
    """A phrase that may be omitted: the highest `rank` first; rank 0 is never omitted."""

    rank: int
    phrase: Phrase


def run(args: argparse.Namespace) -> int:
    """Writes the posts to `args.out` and their trace to the same path with the suffix .json."""
    inputs = load(args.cases, args.results, with_peers=False)
    trace = posts(inputs)
    records.save(Path(args.out).with_suffix(".json"), trace)
    x, linkedin = trace.posts.x.text, trace.posts.linkedin.text
    records.write_text(args.out, f"=== X ===\n{x}\n\n=== LinkedIn ===\n{linkedin}\n")
    return 0


def posts(inputs: Inputs) -> Social:
    """Both posts, and X posts about the next best cases as variants: the record of schemas/social.schema.json."""
    best_first = sorted(inputs.own, key=lambda case: phrases.VERDICT_WORDS.index(case.verdict.verdict))
    x_posts = [x_post(inputs, case) for case in best_first[: 1 + MOST_VARIANTS]] or [
        [f"{subject(inputs)}: {NO_RESULT}{X_TAGS}"]
    ]
    linkedin = linkedin_post(inputs, best_first)
    return Social(
        schema_="social/1",
        device=inputs.device.name if inputs.device else None,
        backend=inputs.backend,
        golden=[case.id for case in inputs.own if case.golden],
        posts=Posts(
            x=_post(x_posts[0], "x"),
            linkedin=_post(linkedin, "linkedin"),
        ),
        variants=[Variant(network="x", **dict(_post(form, "x"))) for form in x_posts[1:]],
    )


def _post(phrase: Phrase, network: str) -> Post:
    text = phrases.text_of(phrase)
    numbers = [PublishedNumber(**asdict(number)) for number in phrases.numbers_of(phrase)]
    return Post(text=text, length=lengths.OF[network](text), limit=lengths.LIMITS[network], numbers=numbers)


def forbidden_words(inputs: Inputs) -> tuple[str, ...]:
    """Text that names must not bring into a post."""
    golden = any(case.golden for case in inputs.own)
    return (() if golden else ("golden",)) + (() if inputs.backend == "cuda" else ("gpu",))


def device_name(inputs: Inputs) -> str:
    kind = phrases.KINDS.get(inputs.backend or "")
    if kind is None or inputs.device is None:
        return "an unknown device"
    name = phrases.name(inputs.device.name, "", forbidden_words(inputs))
    return f"{name} ({kind})" if name else f"a {kind}"


def subject(inputs: Inputs) -> str:
    return f"Elastic KV cache on {device_name(inputs)}"


def missed(case: Case) -> str:
    """The criteria that keep a case from the golden verdict, in words."""
    found = verdict.not_passed(case.verdict.criteria)
    return ", ".join(f"{name} {criterion.outcome}".replace("_", " ") for name, criterion in found)


def claim(case: Case) -> Phrase:
    """The speedup with its interval, worded according to the verdict."""
    speedup = phrases.speedup(case)
    if case.verdict.verdict == "same":
        return ["no gain over a full cache, ", *speedup]
    if case.verdict.verdict == "slower":
        return ["slower than a full cache, ", *speedup]
    return [*speedup, " the speed of a full cache"]


def x_clauses(inputs: Inputs, case: Case) -> list[Clause]:
    """The complete X post about one case."""
    rest = [(index, other) for index, other in enumerate(inputs.cases) if not inputs.is_foreign(other)]
    judged = ["Golden: speedup, CV and memory efficiency pass."] if case.golden else [f"Missed: {missed(case)}."]
    none_golden = not any(other.golden for other in inputs.own)
    attention = case.content.kind.CACHE
    return [
        Clause(0, [f"✅ {subject(inputs)}: " if case.golden else f"{subject(inputs)}: ", *claim(case)]),
        Clause(2, [" (", *phrases.confidence(case), ")"]),
        Clause(3, ["; its bytes allow ", phrases.times(case, "bytes/ceiling")]),
        Clause(0, ["."]),
        Clause(4 if attention else 0, [f" {phrases.workload(case).capitalize()}"]),
        Clause(4, [" of ", *phrases.shape(case)]),
        Clause(4 if attention else 0, ["."]),
        Clause(5, [" ", *judged]) if case.verdict.verdict not in ("same", "slower") else Clause(0, []),
        Clause(0, [" No case meets every threshold." if none_golden else ""]),
        Clause(1, [" ", *phrases.tally(rest), "."]),
        Clause(0, [X_TAGS]),
    ]


def x_post(inputs: Inputs, case: Case) -> Phrase:
    """The longest form of the X post about one case that fits."""
    forms = shortenings(x_clauses(inputs, case))
    return next(form for form in forms if lengths.of_x(phrases.text_of(form)) <= lengths.LIMITS["x"])


def shortenings(clauses: list[Clause]) -> list[Phrase]:
    """The complete post, then without the clauses of the highest rank, and so on."""
    ranks = sorted({clause.rank for clause in clauses}, reverse=True)
    return [[piece for c in clauses if c.rank <= highest for piece in c.phrase] for highest in ranks]


def linkedin_post(inputs: Inputs, best_first: list[Case]) -> Phrase:
    """The LinkedIn post: as many cases as fit, best verdict first, and the cases without a result."""
    if not best_first:
        return [f"{subject(inputs)}: {NO_RESULT}\n\n{LINKEDIN_TAGS}"]
    for shown in range(len(best_first), -1, -1):
        phrase = _linkedin(inputs, best_first[:shown], best_first[shown:])
        if lengths.of_linkedin(phrases.text_of(phrase)) <= lengths.LIMITS["linkedin"]:
            return phrase
    raise AssertionError("unreachable: without cases the post is a few hundred characters")


def _linkedin(inputs: Inputs, shown: list[Case], left_out: list[Case]) -> Phrase:
    places = {case.id: index for index, case in enumerate(inputs.cases)}
    own = [(index, case) for index, case in enumerate(inputs.cases) if not inputs.is_foreign(case)]
    phrase: Phrase = [f"{subject(inputs)}: measured gains and their limits.\n\n"]
    phrase += [
        "An elastic cache keeps fewer or smaller entries than a full KV cache. Every case ran paired with its full "
        "cache, launch by launch, and its answer was checked against a float64 reference before anything was timed.\n"
    ]
    for case in shown:
        phrase += _linkedin_line(case)
    if left_out:
        phrase += ["\n… and ", phrases.count([(places[case.id], case) for case in left_out]), " more in the report"]
    phrase += ["\n\n", *phrases.tally(own), "."]
    if not any(case.golden for case in inputs.own):
        phrase += [" No case meets every threshold."]
    if any(not case.publishable for _, case in own):
        phrase += [" Invalid or skipped cases have no number: a wrong answer, noise, or too little memory."]
    phrase += _baseline_line(inputs)
    phrase += [f"\n\nReproduces and checks the PHIQ.IO Elastic KV Cache by Guilherme de Camargo.\n\n{LINKEDIN_TAGS}"]
    return phrase


def _linkedin_line(case: Case) -> Phrase:
    line: Phrase = [f"\n{case.verdict.mark} {phrases.workload(case)}, ", *phrases.shape(case), ": ", *claim(case)]
    line += [" (", *phrases.confidence(case), "); its bytes allow ", phrases.times(case, "bytes/ceiling")]
    if cautions.cycle_holds(case.record):
        line += ["; with appends and compression ", *phrases.interval(case, "inference_cycle/speedup")]
    if not case.golden and missed(case):
        line += [f"; {missed(case)}"]
    return line


def _baseline_line(inputs: Inputs) -> Phrase:
    """A language model's decode rate with its own full cache, if it was measured on the same device."""
    for baseline in inputs.baselines:
        record = baseline.record
        if record and record.status == "ok" and inputs.device and record.device.name == inputs.device.name:
            rate, file = record.decode_tokens_per_second, f"{baseline.engine}_baseline.json"
            number = {
                key: phrases.Number(f"{bound:.1f}", bound, file, (f"/decode_tokens_per_second/{key}",))
                for key, bound in (("value", rate.value), ("low", rate.low), ("high", rate.high))
            }
            model = phrases.name(record.model.name, "a language model", forbidden_words(inputs))
            phrase: Phrase = [f"\n\nFor scale, {model} in {baseline.engine} decodes ", number["value"], " tokens/s ["]
            return [*phrase, number["low"], ", ", number["high"], "] on the same device, with its own full cache."]
    return []
