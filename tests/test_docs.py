"""README and docs/: measured figures come from records, links and anchors resolve, every page says what it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from elastickv.report import readme

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages of figures that no record carries, each with its device, date and source.
NOTES = {"docs/lab-notes.md"}
# Other generated tables, by their first and last line; the tests of their generators keep them current.
GENERATED = (
    ("<!-- coverage table", "<!-- end of the coverage table -->"),
    ("<!-- power table", "<!-- end of the power table -->"),
    ("<!-- architectures:", "<!-- end of"),
)
FIGURE = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)? ?(?:us|ms|s|x|%|GB/s|tokens/s|mJ|J|W)(?![\w/])")
# Figures that define something or limit it, which no measurement changes, by page.
DEFINITIONS = {
    "README.md": {"1x": "no difference", "1.7x": "the default of golden.excellent"},
    "docs/architecture.md": {
        "20 s": "time of the ceilings on a GPU",
        "8 s": "time of the ceilings on a CPU",
    },
    "docs/architectures.md": {
        "0.3%": "smallest unit of the self-check in float32",
        "5%": "smallest unit of the self-check in other formats",
        "2%": "limit of the self-check",
    },
    "docs/faults.md": {"1%": "fault that a test injects", "0.2 ms": "fault that a test injects"},
    "docs/how-we-measure.md": {
        "5%": "level of the warm-up's test",
        "98%": "the promise of the intervals",
        "10%": "limit of a baseline's noise on a GPU",
        "25%": "limit of a baseline's noise on a CPU",
        "95%": "steady.LEAST_BUSY",
        "99%": "the default of measure.confidence",
    },
    "docs/reading-a-result.md": {
        "1x": "no difference",
        "1.7x": "the default of golden.excellent",
        "5%": "the default of measure.truncate",
        "25%": "the default of noise.widest",
        "99%": "the default of measure.confidence",
    },
    "docs/statistics.md": {
        "99%": "the confidence",
        "98%": "the promise",
        "30%": "drift of the simulation",
        "0.5%": "the smallest tolerance, and a spread that the simulation assumes",
        "4.5%": "the tolerance of ratios on a CPU whose spread is not known",
        "80%": "the power",
        "1%": "false alarms allowed, and the regression that compare has to find",
        "3%": "the regression that ab has to find",
    },
}


def prose(text: str) -> str:
    """A page without its generated tables and code."""
    text = readme.BLOCK.sub("", text)
    for begin, end in GENERATED:
        text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", "", text, flags=re.DOTALL)
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def figures(text: str) -> set[str]:
    return set(FIGURE.findall(prose(text)))


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if name(page) not in NOTES], ids=name)
def test_no_measured_figure_is_written_by_hand(page: Path):
    found, allowed = figures(page.read_text(encoding="utf-8")), {*DEFINITIONS.get(name(page), {})}
    assert not found - allowed, "take it from a record (elastickv report readme), or move it to docs/lab-notes.md"
    assert not allowed - found, "no longer on the page: delete it here"


def test_a_figure_in_a_sentence_is_found():
    """But not in code, in a generated block, or in a number without a unit."""
    code = "```\n2.31x\n```"
    block = f"<!-- results: speedups of results/reference/h200 -->\n| 16.3 us |\n{readme.END}"
    assert figures(f"It is 2.31x as fast (7.058 us, `97%`), 4,605 GB/s in 3 runs of v2.\n{code}\n{block}\n") == {
        "2.31x",
        "7.058 us",
        "97%",
        "4,605 GB/s",
    }


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_to_files_and_headings(page: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT / "docs"], ids=name)
def test_a_page_opens_with_what_it_is_for(page: Path):
    title, blank, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ") and not blank
    assert first.startswith("This page "), first


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
