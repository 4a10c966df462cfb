"""`elastickv report social`: posts for X and LinkedIn, worded by the verdicts, with a trace of every number.

A post omits whole clauses until it fits and never truncates a number. Cases of another device are not posted.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elastickv import records
from elastickv.judge import verdict
from elastickv.report import phrases, prose
from elastickv.report.inputs import Case, Inputs, load
from elastickv.report.phrases import Phrase
from elastickv.report.prose import Prose
from elastickv.schemas import lengths
from elastickv.schemas.social import Post, Posts, PublishedNumber, Social, Variant

MOST_VARIANTS = 5
ALL_CLAUSES = 5  # the highest rank of a clause in x.txt.jinja


def run(args: argparse.Namespace) -> int:
    """Writes the posts to `args.out` and their trace to the same path with the suffix .json."""
    trace = posts(load(args.cases, args.results, with_peers=False))
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
    same = (one for one in inputs.baselines if one.measured and inputs.device)
    baseline = next((one for one in same if one.record.device.name == inputs.device.name), None)
    return {
        "subject": f"Elastic KV cache on {_device(inputs, forbidden)}",
        "any_golden": golden,
        "own": own,
        "without_result": not all(case.publishable for case in own),
        "baseline": baseline,
        "model": baseline and phrases.name(baseline.record.model.name, "a language model", forbidden),
        "claim": claim,
        "missed": missed,
    }


def _device(inputs: Inputs, forbidden: tuple[str, ...]) -> str:
    kind = phrases.KINDS.get(inputs.backend or "")
    if kind is None or inputs.device is None:
        return "an unknown device"
    name = phrases.name(inputs.device.name, "", forbidden)
    return f"{name} ({kind})" if name else f"a {kind}"


def missed(case: Case) -> str:
    """The criteria that keep a case from the golden verdict, in words."""
    found = verdict.not_passed(case.verdict.criteria)
    return ", ".join(f"{name} {criterion.outcome}".replace("_", " ") for name, criterion in found)


def claim(case: Case) -> Phrase:
    """The speedup with its interval, worded according to the verdict."""
    before = {"same": "no gain over a full cache, ", "slower": "slower than a full cache, "}
    if case.verdict.verdict in before:
        return [before[case.verdict.verdict], *phrases.speedup(case)]
    return [*phrases.speedup(case), " the speed of a full cache"]


def _x(about: dict[str, Any], case: Case | None) -> Post:
    """The longest form of the X post about one case that fits; without a case, that there is no result."""
    forms = (prose.render("x.txt", case=case, most=most, **about) for most in range(ALL_CLAUSES, -1, -1))
    posts = (_post(Prose(" ".join(form.text.split()), form.numbers), "x") for form in forms)
    return next(post for post in posts if post.length <= post.limit)


def _linkedin(about: dict[str, Any], best_first: list[Case]) -> Post:
    """The LinkedIn post: as many cases as fit, best verdict first."""
    counts = range(len(best_first), -1, -1)
    forms = (prose.render("linkedin.txt", shown=best_first[:n], left_out=best_first[n:], **about) for n in counts)
    return next(post for post in (_post(form, "linkedin") for form in forms) if post.length <= post.limit)


def _post(written: Prose, network: str) -> Post:
    numbers = [PublishedNumber(**asdict(number)) for number in written.numbers]
    length, limit = lengths.OF[network](written.text), lengths.LIMITS[network]
    return Post(text=written.text, length=length, limit=limit, numbers=numbers)
