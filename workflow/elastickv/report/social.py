"""`elastickv report social`: posts for X and LinkedIn, worded by the verdicts, with a trace of every number.

A post omits whole clauses until it fits, then the name of the device; it never omits what was measured (shape, batch,
types, launch mode) and never truncates a number. Cases of another device are not posted.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.judge import verdict
from elastickv.report import launches, phrases, prose
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.phrases import Phrase
from elastickv.report.prose import Prose
from elastickv.schemas import lengths
from elastickv.schemas.base import given
from elastickv.schemas.measurement import Measurement
from elastickv.schemas.social import Post, Posts, PublishedNumber, Social, Variant

MOST_VARIANTS = 5
# Clauses of x.txt.jinja that a post may lack, the most important one first.
CLAUSES = ("checked", "confidence", "sustained", "none golden", "intervals", "tally", "ceiling", "criteria")


def run(args: argparse.Namespace) -> int:
    """Writes the posts to `args.out` and their trace to the same path with the suffix .json."""
    trace = posts(load(args.cases, args.results, with_baselines=False, with_peers=False))
    records.save(Path(args.out).with_suffix(".json"), trace)
    x, linkedin = trace.posts.x.text, trace.posts.linkedin.text
    records.write_text(args.out, f"=== X ===\n{x}\n\n=== LinkedIn ===\n{linkedin}\n")
    return 0


def posts(inputs: Inputs) -> Social:
    """Both posts, and X posts about the next best cases as variants: the record of schemas/social.schema.json."""
    best_first = sorted(inputs.own, key=lambda case: phrases.VERDICT_WORDS.index(case.verdict.verdict))
    about = _about(inputs)
    x_posts = [_x(about, case) for case in best_first[: 1 + MOST_VARIANTS] or [None]]
    return Social(
        schema_="social/1",
        device=inputs.device.name if inputs.device else None,
        backend=inputs.backend,
        golden=[case.id for case in inputs.own if case.golden],
        posts=Posts(x=x_posts[0], linkedin=_linkedin(about, best_first)),
        variants=[Variant(network="x", **dict(post)) for post in x_posts[1:]],
    )


def _about(inputs: Inputs) -> dict[str, Any]:
    """What both templates say of the run."""
    golden = any(case.golden for case in inputs.own)
    forbidden = (() if golden else ("golden",)) + (() if inputs.backend == "cuda" else ("gpu",))
    own = [case for case in inputs.cases if not inputs.is_foreign(case)]
    name = phrases.name(inputs.device.name, "", forbidden) if inputs.device else ""
    return {
        "subject": _subject(inputs, name),
        "shorter": [_subject(inputs, shorter) for shorter in (name.partition(",")[0], "")],
        "any_golden": golden,
        "own": own,
        "without_result": not all(case.publishable for case in own),
        "claim": claim,
        "missed": missed,
        "sustained": verdict.sustained,
        "covered": covered,
        "other": lambda case: launches.other(case, inputs.own),
    }


def _subject(inputs: Inputs, name: str) -> str:
    """What a post is about. A post of a CPU begins with that."""
    kind = phrases.KINDS.get(inputs.backend or "")
    if kind is None or inputs.device is None:
        return "Elastic KV cache on an unknown device"
    if kind == "CPU":
        return f"On a CPU ({name}): elastic KV cache" if name else "On a CPU: elastic KV cache"
    return f"Elastic KV cache on {name} ({kind})" if name else f"Elastic KV cache on a {kind}"


def missed(case: Case) -> str:
    """The criteria that keep a case from the golden verdict, in words."""
    found = verdict.not_passed(case.verdict.criteria)
    return ", ".join(f"{name} {criterion.outcome}".replace("_", " ") for name, criterion in found)


def claim(case: Case) -> Phrase:
    """The speedup with its interval, worded according to the verdict."""
    before = {"same": "no gain over a full cache, ", "slower": "slower than a full cache, "}
    if case.verdict.verdict in before:
        return [before[case.verdict.verdict], *phrases.speedup(case)]
    return [*phrases.speedup(case), " a full cache's speed"]


def covered(record: Measurement) -> str:
    """Whether the interval covers one process alone, or several."""
    return "over several processes" if given(record.processes) else "of one process"


def _x(about: dict[str, Any], case: Case | None) -> Post:
    """The X post about one case with every clause that fits; without a case, that there is no result."""
    forms = [about, *(about | {"subject": shorter} for shorter in about["shorter"])]

    def form(said: dict[str, Any], clauses: tuple[str, ...], *, fits: bool = True) -> Post:
        written = prose.render("x.txt", case=case, clauses=clauses, fits=fits, **said)
        return _post(Prose(_one_line(written.text), written.numbers), "x")

    tried = ((said, clauses) for clauses in (CLAUSES[:1], ()) for said in forms)
    found = next((pair for pair in tried if _fits(form(*pair))), None)
    if found is None:
        return form(forms[-1], (), fits=False)
    said, kept = found
    for clause in CLAUSES:
        kept = (*kept, clause) if _fits(form(said, (*kept, clause))) else kept
    return form(said, kept)


def _one_line(text: str) -> str:
    """One line, without the spaces that the clauses of a template leave before punctuation."""
    return re.sub(r" ([;,.])(?= |$)", r"\1", " ".join(text.split()))


def _linkedin(about: dict[str, Any], best_first: list[Case]) -> Post:
    """The LinkedIn post: as many cases as fit, best verdict first."""
    counts = range(len(best_first), -1, -1)
    forms = (prose.render("linkedin.txt", shown=best_first[:n], left_out=best_first[n:], **about) for n in counts)
    return next(filter(_fits, (_post(form, "linkedin") for form in forms)))


def _fits(post: Post) -> bool:
    return post.length <= post.limit


def _post(written: Prose, network: str) -> Post:
    numbers = [PublishedNumber(**asdict(number)) for number in written.numbers]
    length, limit = lengths.OF[network](written.text), lengths.LIMITS[network]
    return Post(text=written.text, length=length, limit=limit, numbers=numbers)
