"""Social posts: worded by the verdicts, every number traced, nothing smuggled in."""

from __future__ import annotations

import json
import re

import pytest
from results_folder import (
    HOSTILE,
    cpu_folder,
    elastickv,
    example,
    gpu_folder,
    judged,
    list_cases,
    make,
    put,
    short_cycle,
)

from elastickv import records
from elastickv.schemas import lengths


def published(results):
    """The two posts of the text file, and the trace."""
    content = elastickv(["report", "social"], results, "social_media_content.txt").read_text(encoding="utf-8")
    assert [line for line in content.splitlines() if line.startswith("===")] == ["=== X ===", "=== LinkedIn ==="]
    x, linkedin = content.removeprefix("=== X ===\n").split("\n=== LinkedIn ===\n")
    trace = records.read(results / "social_media_content.json", "social")
    assert trace["posts"]["x"]["text"] == x.strip()
    assert trace["posts"]["linkedin"]["text"] == linkedin.strip()
    return x.strip(), linkedin.strip(), trace


def resolve(results, number):
    """The values that a traced number's JSON pointers lead to."""
    content = json.loads((results / number["file"]).read_text(encoding="utf-8"))
    found = []
    for pointer in number["fields"]:
        value = content
        for part in pointer.split("/")[1:]:
            value = value[int(part)] if isinstance(value, list) else value[part]
        found.append(value)
    return found


def test_posts_of_a_gpu_with_a_golden_case(tmp_path):
    x, linkedin, trace = published(gpu_folder(tmp_path))
    assert x.startswith(
        "✅ Elastic KV cache on NVIDIA H200 (GPU), elementwise pass (not attention): 1.975x [1.971, 1.980]"
    )
    assert "#NVIDIAGTC @NVIDIAGTC" in x
    assert "not attention" in x  # the golden case is the elementwise pass
    assert "2 invalid, 2 skipped" in linkedin  # the noisy one is another device's
    assert "0.988x [0.986, 0.990]" in linkedin  # the inference cycle that lost
    assert trace["golden"] == ["4096_elementwise"]
    assert trace["posts"]["x"]["length"] <= 280
    assert trace["posts"]["linkedin"]["length"] <= 3000
    golden_lines = [line for line in linkedin.splitlines() if "✅" in line]
    assert len(golden_lines) == 1
    assert "elementwise" in golden_lines[0]


def of_case(**content):
    """The golden example with other keys of its case."""
    record = example("4096_golden_ticket")
    record["case"] |= content
    return record


SHAPE = "batch 1 x 4096 tokens x 32 heads x 128, compress 4, fp16, dependent launches"


def test_a_post_says_what_was_timed_how_and_what_was_checked(tmp_path):
    x, linkedin, trace = published(judged(make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")))
    for post in (x, linkedin):
        assert SHAPE in post
        assert "attention kernel only" in post
        assert "2.010x" in post  # the cycle
    assert "Checked: float64, random tensors." in x
    assert "checked against float64 on random tensors" in linkedin
    assert "launch by launch" not in linkedin
    assert trace["posts"]["x"]["length"] <= 280


def test_posts_have_no_figure_of_a_language_model(tmp_path):
    results = gpu_folder(tmp_path)
    assert records.read(results / "transformers_baseline.json", "baseline")["status"] == "ok"
    assert not re.search("tokens/s|SmolLM|For scale", "".join(published(results)[:2]))


@pytest.mark.parametrize("length", [8, 48, 500])
def test_no_post_drops_shape_batch_types_or_launch_mode(tmp_path, length):
    results = make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")
    content = {"batch": 128, "seq": 1048576, "heads": 128, "kv_heads": 32, "cache_dtype": "int8", "bias": "log_count"}
    record = of_case(**content)
    plan = results / ".plan/cases/4096_golden_ticket.json"
    plan.write_text(json.dumps(record["case"]), encoding="utf-8")
    ceilings = example("ceilings")
    ceilings["device"]["name"] = record["device"]["name"] = "N" * length
    (results / "ceilings.json").write_text(json.dumps(ceilings), encoding="utf-8")
    put(results, record)
    x, linkedin, trace = published(judged(results))
    for post in (x, linkedin):
        assert "batch 128 x 1048576 tokens x 128 heads x 128, 32 KV heads, compress 4" in post
        assert "fp16 with int8 middle, dependent launches" in post
    assert trace["posts"]["x"]["length"] <= 280


def test_plain_launches_stand_beside_dependent_ones(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")
    plain = of_case(id="plain", launch="plain")
    plain["resolved"]["launch"] = "plain"
    plain["statistics"]["speedup"] |= {"value": 1.98, "low": 1.96, "high": 1.99}
    put(results, plain)
    list_cases(results, ["4096_golden_ticket", "plain"])
    x, linkedin, trace = published(judged(results))
    assert f"{SHAPE}; plain 1.98x" in x
    covers = "(99% interval, over several processes)"
    assert f"2.388x [2.382, 2.395] a full cache's speed {covers}; with plain launches 1.98x [1.96, 1.99]" in linkedin
    assert f"plain launches: 1.98x [1.96, 1.99] a full cache's speed {covers}; with dependent launches" in linkedin
    number = next(one for one in trace["posts"]["x"]["numbers"] if one["text"] == "1.98x")
    assert resolve(results, number) == [1.98]


def test_a_post_whose_case_does_not_fit_has_no_number(monkeypatch, tmp_path):
    monkeypatch.setitem(lengths.LIMITS, "x", 150)
    x, _, _ = published(judged(make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")))
    assert "does not fit in a post" in x
    assert not re.search(r"\d+\.\d+x", x)


def test_posts_leave_out_a_cycle_of_too_few_samples(tmp_path):
    results = gpu_folder(tmp_path)
    assert published(results)[1].count("with appends and compression") == 2
    put(results, short_cycle("1024_standard", 1))
    assert published(results)[1].count("with appends and compression 2.010x") == 1
    put(results, short_cycle("4096_golden_ticket", 1))
    assert "with appends and compression" not in published(results)[1]


def test_every_number_in_the_posts_has_its_field(tmp_path):
    results = gpu_folder(tmp_path)
    _, _, trace = published(results)
    for post in [*trace["posts"].values(), *trace["variants"]]:
        content, between, at = post["text"], "", 0
        for number in post["numbers"]:
            found = resolve(results, number)
            assert number["value"] == (len(found) if number["how"] == "count" else found[0])
            digits = float(number["text"].rstrip("x%")) / (100 if number["text"].endswith("%") else 1)
            assert digits == pytest.approx(number["value"], abs=0.06 if "tokens_per" in number["fields"][0] else 0.006)
            begin = content.index(number["text"], at)
            between, at = between + content[at:begin], begin + len(number["text"])
        names = re.sub("H200|SmolLM2-135M|fp16|fp32|float64", "", between + content[at:])
        assert re.findall(r"\d", names) == []


def test_counts_in_the_posts_are_the_verdicts(tmp_path):
    results = gpu_folder(tmp_path)
    _, linkedin, trace = published(results)
    tally = linkedin.partition("Of 7 cases: ")[2].partition(".")[0]
    counted = re.findall(r"(\d+) (golden|excellent|good|invalid|skipped)", tally)
    judgements = records.read(results / "verdicts.json", "verdict")["cases"]
    verdicts = [entry["verdict"].removesuffix("_ticket") for entry in judgements if entry["case"] != "4096_noisy"]
    assert {word: int(number) for number, word in counted} == {word: verdicts.count(word) for word in set(verdicts)}
    assert trace["posts"]["linkedin"]["numbers"][-1]["how"] == "count"


def test_posts_of_a_cpu_never_say_gpu_or_golden(tmp_path):
    x, linkedin, trace = published(cpu_folder(tmp_path))
    for post in (x, linkedin):
        assert "gpu" not in post.lower()
        assert "golden" not in post.lower()
        assert "✅" not in post
        assert "3.32x [3.30, 3.33]" in post
        assert post.startswith("On a CPU (Intel Xeon Platinum 8481C")
    assert "No case meets every threshold." in linkedin
    assert trace["backend"] == "cpu"


@pytest.mark.parametrize("name", [HOSTILE, "golden GPU", "@" * 500, "漢字" * 300, "W" * 500, "a b " * 400])
def test_posts_say_nothing_that_a_device_name_smuggles_in(tmp_path, name):
    x, linkedin, trace = published(cpu_folder(tmp_path, name=name))
    for post in (x, linkedin):
        assert "gpu" not in post.lower()
        assert "golden" not in post.lower()
        assert "✅" not in post
        assert "@you" not in post
        assert "3.32x [3.30, 3.33]" in post
    assert trace["posts"]["x"]["length"] <= 280


def test_posts_without_a_result_have_no_numbers(tmp_path):
    x, linkedin, trace = published(judged(make(tmp_path / "results", ("4096_noisy", "4096_failed"))))
    for post in (x, linkedin):
        assert not re.search(r"\d+(\.\d+)?x", post)
        assert "no number to post" in post
    assert "#NVIDIAGTC @NVIDIAGTC" in x
    assert trace["posts"]["x"]["numbers"] == trace["posts"]["linkedin"]["numbers"] == []


def test_posts_leave_out_what_another_device_measured(tmp_path):
    x, linkedin, _ = published(judged(make(tmp_path / "results", ("4096_golden_ticket", "4096_cpu"), "ceilings")))
    for post in (x, linkedin):
        assert "3.32x" not in post
        assert "2.388x" in post
    assert "Of 1 case: 1 excellent." in linkedin


def test_a_loss_is_called_a_loss(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")
    record = example("4096_golden_ticket")
    record["statistics"]["speedup"] |= {"value": 0.93, "low": 0.92, "high": 0.94}
    put(results, record)
    x, linkedin, _ = published(judged(results))
    assert "slower than a full cache, 0.93x [0.92, 0.94]" in x
    assert "slower than a full cache, 0.93x [0.92, 0.94]" in linkedin


def test_linkedin_leaves_out_cases_but_counts_them(tmp_path):
    results = make(tmp_path / "results", ("4096_golden_ticket",), "ceilings")
    names = [f"sweep-{index}" for index in range(60)]
    for name in names:
        record = example("4096_golden_ticket")
        record["case"]["id"] = name
        put(results, record)
    list_cases(results, names)
    _, linkedin, trace = published(judged(results))
    shown = linkedin.count("⭐ decode attention")
    assert 0 < shown < 60
    assert f"… and {60 - shown} more in the report" in linkedin
    assert "Of 60 cases: 60 excellent." in linkedin
    assert trace["posts"]["linkedin"]["length"] <= 3000


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1.96x [1.95, 1.97]", 18),
        ("Elastic KV cache", 16),
        ("caf\u00e9, cafe\u0301", 10),  # a letter and its accent are one character
        ("a\r\nb", 3),
        ("\u2013 \u2026 \u2019", 6),  # dash and apostrophe are single, the ellipsis is not
        ("\u10ff\u1100", 3),  # the last single code point of the first range, and the one behind it
        ("\u2000\u200d\u200e\u2010\u201f\u2020\u2032\u2037\u2038", 12),  # edges of the other ranges
        ("漢字", 4),
        ("✅ ⭐ ✓ ☆ ≥ ✗", 17),
        ("😷", 2),
        ("🙋🏽 👨\u200d🎤 👨\u200d👩\u200d👧\u200d👦", 8),  # skin tone, joined pictures
        (
            "🇩🇪 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 1\ufe0f\u20e3 ☎\ufe0f",
            11,
        ),  # flags, keycap
        ("https://example.com/a/very/long/path?with=a&query=too", 23),
        ("see example.com.", 28),
        ("(https://t.co/x), end", 30),
        ("1.5 GB/s in v2.0, e.g. a.b", 26),  # no links
        ("english text 日本語 😷 https://example.com", 46),  # the example of X's own library
    ],
)
def test_a_post_on_x_is_as_long_as_x_counts_it(text, length):
    """Weights, ranges, links and emoji as in X's documentation of its configuration 3."""
    assert lengths.of_x(text) == length


def test_a_post_on_linkedin_counts_utf_16_code_units():
    assert lengths.of_linkedin("ab漢😷") == 5
