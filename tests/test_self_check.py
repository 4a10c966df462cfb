"""Models that do not do what a run assumes, or that differ from their files, have no figures."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_baselines import SMALL, Bigrams, check, logits_after, measured, settings_of

from elastickv import environments, records
from elastickv.models import self_check, supervisor
from elastickv.models.refusal import Refusal

ROOT = Path(__file__).resolve().parents[1]
TRANSFORMERS, GGUF = supervisor.ENGINES["transformers"], supervisor.ENGINES["gguf"]


class Forgetful(Bigrams):
    """Ignores what its cache holds."""

    def extend(self, tokens, positions):
        return self.whole_pass(tokens, positions)


class Stepless(Bigrams):
    """Ignores its cache only when one token follows."""

    def decode(self, token, steps):
        fed = super().decode(token, steps)
        self.held = fed[-1:]
        return fed


class OffByLittle(Bigrams):
    """Adds a little to the first token of a chunk alone."""

    def extend(self, tokens, positions):
        rows = super().extend(tokens, positions)
        rows[0, 3] += 0.02 * np.linalg.norm(rows[0])
        return rows


class BadPrefill(Bigrams):
    def prefill(self, tokens):
        super().prefill(tokens[-8:])


class Clairvoyant(Bigrams):
    """Sees later tokens in one pass."""

    def whole_pass(self, tokens, positions):
        return super().whole_pass(tokens, positions) + logits_after(tokens)


class Raising(Bigrams):
    def extend(self, tokens, positions):
        raise TypeError("forward() got an unexpected keyword argument 'past_key_values'")


class Unrunnable(Bigrams):
    def whole_pass(self, tokens, positions):
        raise IndexError("index 448 is out of bounds")


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Forgetful, "ignores the cache it is given: with several tokens at once after a filled cache"),
        (Stepless, "ignores the cache it is given: with single tokens after a filled cache"),
        (OffByLittle, r"^with several tokens .* position 30 are not those of one pass .* 0.001 is allowed"),
        (BadPrefill, "with a prefill, logits at position 29"),
        (Clairvoyant, "not causal"),
        (Raising, "cannot run a filled cache with this model: TypeError: forward"),
        (Unrunnable, "cannot run one pass over all tokens with this model: IndexError"),
    ],
)
def test_an_engine_that_does_not_do_what_a_run_assumes_is_unsupported(engine, words):
    with pytest.raises(Refusal, match=words) as refusal:
        measured(engine())
    assert refusal.value.status == "unsupported"


class Constant(Bigrams):
    def whole_pass(self, tokens, positions):
        return np.zeros((len(positions), 50), np.float32)


class NotFinite(Bigrams):
    def whole_pass(self, tokens, positions):
        return super().whole_pass(tokens, positions) * np.float32("nan")


class OneToken(Bigrams):
    def tokenize(self, text):
        return [3] * 100


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Constant, "hardly changes its logits"),
        (NotFinite, "position .* are not finite"),
        (OneToken, "maps all text to token 3"),
    ],
)
def test_a_model_without_answers_is_failed(engine, words):
    with pytest.raises(Refusal, match=words) as refusal:
        measured(engine())
    assert refusal.value.status == "failed"


class Exhausted(Bigrams):
    def whole_pass(self, tokens, positions):
        raise RuntimeError("CUDA out of memory")


def test_memory_that_is_exhausted_is_not_called_unsupported():
    with pytest.raises(RuntimeError, match="out of memory"):
        measured(Exhausted())


class Rounded(Bigrams):
    """Computes with fewer bits, and one token goes to other experts."""

    def about(self):
        return self_check.About("bfloat16", None, "dynamic", None)

    def extend(self, tokens, positions):
        rows = super().extend(tokens, positions)
        rows[:, 3] += 0.02 * np.linalg.norm(rows, axis=1)
        rows[1] = rows[0]
        return rows


class QuantisedCache(Rounded):
    def about(self):
        return self_check.About("float32", None, "fp8", None)


class RoundedAndForgetful(Forgetful):
    def about(self):
        return self_check.About("bfloat16", None, "dynamic", None)


@pytest.mark.parametrize("engine", [Rounded, QuantisedCache])
def test_what_rounding_can_do_is_allowed_where_it_rounds_and_no_more(engine):
    checked = measured(engine()).self_check
    assert 0.001 < checked.largest_difference < checked.tolerance
    with pytest.raises(Refusal, match="ignores the cache"):
        measured(RoundedAndForgetful())


class Masking(Bigrams):
    """Never gives some tokens."""

    def whole_pass(self, tokens, positions):
        rows = super().whole_pass(tokens, positions)
        rows[:, 40:45], rows[:, 45:] = -np.inf, np.finfo(np.float32).min
        return rows

    def logits(self):
        return self.whole_pass(self.held, [len(self.held) - 1])[0]


def test_tokens_that_a_model_masks_are_left_out():
    assert measured(Masking()).self_check.largest_difference == 0


class BadStatic(Bigrams):
    """Has a static cache that loses tokens."""

    kept = None

    def use_cache(self, name):
        self.kept = 5 if name == "static" else None

    def prefill(self, tokens):
        super().prefill(tokens[-self.kept :] if self.kept else tokens)


def test_a_static_cache_that_changes_answers_has_no_rate():
    static, lossy = measured(BadStatic(), caches=["dynamic", "static", "fp8"]).caches[1:]
    assert "with a prefill, logits at position 59 are not those" in static.reason
    assert lossy.reason is None


def test_a_prompt_too_short_to_check_is_unsupported():
    with pytest.raises(Refusal, match="a prompt of 7 tokens is too short"):
        measured(context=7)
    assert measured(context=8).self_check.tokens == 12


@pytest.mark.parametrize(("prompt", "head"), [(8, 4), (600, 300), (1024, 512), (5000, 4488)])
def test_the_calls_meet_where_a_run_has_its_seams(prompt, head):
    plan = self_check.split(range(3000), prompt, 4, 512)
    assert (plan.head, plan.prompt, len(plan.tokens)) == (head, prompt, prompt + 4)
    assert plan.chunk[:4] == [head, head + 1, head + 2, head + 3]
    assert plan.chunk[-1] == prompt - 1
    assert plan.before[-1] == plan.change - 1
    differing = [i for i, (one, other) in enumerate(zip(plan.tokens, plan.changed, strict=True)) if one != other]
    assert differing == list(range(plan.change, plan.head))


@pytest.fixture(scope="session")
def llm() -> Path:
    environments.make("llm")
    return environments.interpreter("llm")


def in_llm(python: Path, *line: str) -> subprocess.CompletedProcess:
    variables = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([python, *line], capture_output=True, text=True, check=True, env=variables)


@pytest.fixture(scope="module")
def loads(llm, tmp_path_factory) -> dict[str, list]:
    """What loading reports for tiny damaged models, by the damage: [status, reason]."""
    done = in_llm(llm, str(ROOT / "tests/damaged_models.py"), str(tmp_path_factory.mktemp("models")))
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["intact", "tied", "extra head", "gguf intact"])
def test_models_whose_files_are_right_load(loads, name):
    assert loads[name] == ["ok", ""]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one tensor missing", "not in its files, so they would be random (1): model.layers.1.mlp.up_proj.weight"),
        ("other shape", "model.norm.weight (32,) for (64,)"),
        ("bias that is never added", "model.layers.0.self_attn.q_proj.bias"),
        ("gguf tensor missing", "parameters of the model are not in its files"),
        ("gguf rope factors", "not part of the model as built by Transformers (1): rope_freqs.weight"),
        ("tokenizer of another model", "the tokenizer gives token"),
    ],
)
def test_models_whose_files_are_another_models_are_failed(loads, name, words):
    status, reason = loads[name]
    assert status == "failed"
    assert words in reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("encoder-decoder", "bart is an encoder-decoder model"),
        ("vit", "no causal language model of type"),
    ],
)
def test_other_kinds_of_models_are_unsupported(loads, name, words):
    status, reason = loads[name]
    assert status == "unsupported"
    assert words in reason


# One of each kind: rotary, learned and no positions, alternating windows, experts, recurrent layers, no cache at all.
SURVEYED = {
    "LlamaConfig": "", "GPT2Config": "", "Gemma2Config": "", "BloomConfig": "", "MixtralConfig": "",
    "Qwen3NextConfig": "", "MambaConfig": "ignores the cache", "OpenAIGPTConfig": "ignores the cache",
    "JambaConfig": "several tokens", "BertConfig": "not causal", "MiniMaxConfig": "cannot run a filled cache",
}  # fmt: skip


@pytest.mark.slow
def test_architectures_pass_or_are_refused_with_what_differs(llm):
    done = in_llm(llm, str(ROOT / "tools/architectures.py"), "--only", *SURVEYED)
    outcomes = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {made["config"] for made in outcomes} == set(SURVEYED)
    for made in outcomes:
        expected = "" if "is_decoder" in made["name"] else SURVEYED[made["config"]]
        assert made["status"] == ("unsupported" if expected else "passes"), made
        assert expected in made["reason"]
        assert expected or made["largest_difference"] < made["tolerance"] / 3, made


@pytest.mark.slow
def test_a_model_that_ignores_its_cache_is_a_record_without_figures(llm, tmp_path):
    in_llm(llm, str(ROOT / "tests/damaged_models.py"), str(tmp_path), "mamba")
    made = supervisor.baseline(TRANSFORMERS, settings_of(TRANSFORMERS, **SMALL, model=str(tmp_path / "mamba")))
    check(made)
    assert (made.status, "cache" in made.reason) == ("unsupported", True)
    assert "perplexity" not in records.content(made)
