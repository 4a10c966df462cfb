"""Language-model baselines: one protocol for every engine, and a record even if a worker fails."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from elastickv import device, environments, jobs, records
from elastickv.build import sources
from elastickv.errors import UsageError
from elastickv.measure.stopwatch import Stopwatch
from elastickv.models import fetching, protocol, record, self_check, supervisor, text
from elastickv.models.refusal import Refusal, status_of
from elastickv.schemas.baseline import Baseline, LanguageModel
from elastickv.schemas.parts import Device, Software
from elastickv.schemas.provenance import Provenance

ROOT = Path(__file__).resolve().parents[1]
TRANSFORMERS, GGUF = supervisor.ENGINES["transformers"], supervisor.ENGINES["gguf"]
HEAD = record.Head(
    engine="transformers",
    backend="cpu",
    settings={},
    model=LanguageModel(name="m"),
    device=Device(name="a CPU"),
    software=Software(elastickv="0"),
    provenance=Provenance(commit=None, dirty=None, sources="0" * 64, command=["elastickv"]),
    started=Stopwatch().started,
)
ANSWER = {
    "about": {"dtype": "float32", "attention": "sdpa", "cache": "dynamic", "threads": 1},
    "prompt_tokens": 100,
    "decode_tokens": 10,
    "seconds": [{"prefill": 0.5, "first": 0.51, "decode": seconds} for seconds in (1.0, 1.1, 0.9)],
    "perplexity": 20.0,
    "perplexity_tokens": 100,
    "peak_memory_bytes": 10**9,
    "generated_tokens": [1, 2],
    "generated_text": "and",
    "self_check": {
        "tokens": 104,
        "tolerance": 0.001,
        "largest_difference": 4e-6,
        "causality_difference": 0.0,
        "seconds": 0.2,
    },
    "caches": [],
}
MEASURED = record.read(ANSWER)


def logits_after(tokens) -> np.ndarray:
    """Logits [50] that depend on all tokens and their order."""
    state = 0
    for token in tokens:
        state = (state * 31 + token + 1) % 9973
    return np.sin(np.arange(50) * (1 + state)).astype(np.float32)


class Bigrams:
    """An engine whose next token is the last one plus 1 (modulo 50), with probability 1/4."""

    longest = 200
    chunk = 32

    def __init__(self):
        self.last = None
        self.offset = 0
        self.held = []

    def tokenize(self, text):
        return [i % 50 for i in range(len(text) // 100)]

    def detokenize(self, tokens):
        return " ".join(map(str, tokens))

    def negative_log_likelihood(self, tokens):
        return (len(tokens) - 1) * math.log(4)

    def prefill(self, tokens):
        self.last = tokens[-1]
        self.held = list(tokens)

    def likeliest(self):
        return (self.last + 1 + self.offset) % 50

    def decode(self, token, steps):
        fed = [(token + i) % 50 for i in range(steps)]
        self.held += fed
        return fed

    def whole_pass(self, tokens, positions):
        return np.stack([logits_after(tokens[: position + 1]) for position in positions])

    def extend(self, tokens, positions):
        self.held += tokens
        before = len(self.held) - len(tokens)
        return self.whole_pass(self.held, [before + position for position in positions])

    def logits(self):
        return logits_after(self.held)

    def reset_peak_memory(self):
        pass

    def peak_memory_bytes(self):
        return 5

    def about(self):
        return self_check.About("float32", None, "dynamic", None)


def measured(engine=None, **changes) -> protocol.Measured:
    settings = {"decode_tokens": 8, "context": 60, "reps": 4, "max_seconds": 60, **changes}
    return protocol.measure(engine or Bigrams(), protocol.Settings(**settings), lambda phase: None)


def test_the_protocol_measures_prompt_perplexity_and_every_repetition():
    found = measured()
    assert found.perplexity == pytest.approx(4)
    assert (found.prompt_tokens, found.perplexity_tokens, found.decode_tokens) == (60, 60, 8)
    assert len(found.seconds) == 4
    assert found.generated_tokens == [10, 11, 12, 13, 14, 15, 16, 17]
    assert (found.self_check.tokens, found.self_check.largest_difference) == (64, 0)


@pytest.mark.parametrize("about", [MEASURED.about, protocol.AboutLayers("Q4_1", "flash", "f16", 2, None)])
def test_an_answer_of_a_worker_is_what_it_measured(about):
    """Through JSON and back; llama.cpp also records the layers on the GPU, which the other engine does not have."""
    found = replace(measured(Caches(), caches=["first", "same", "absent"]), about=about)
    assert record.read(json.loads(json.dumps(found.to_json()))) == found
    made = records.content(record.compose(HEAD, found, Stopwatch().started))
    records.check(made, "baseline", "answered")
    assert ("gpu_layers" in made) == isinstance(about, protocol.AboutLayers)


class Slow(Bigrams):
    """Takes its time for every length that it decodes for the first time."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def decode(self, token, steps):
        if steps not in self.seen:
            time.sleep(0.2)
        self.seen.add(steps)
        return super().decode(token, steps)


def test_what_happens_once_is_in_no_repetition():
    assert max(times.decode for times in measured(Slow()).seconds) < 0.2


@pytest.mark.parametrize(("max_seconds", "count"), [(1e-9, 3), (60, 10)])
def test_repetitions_end_after_their_time_but_not_before_the_third(max_seconds, count):
    assert len(measured(reps=10, max_seconds=max_seconds).seconds) == count


def test_prompt_and_generated_tokens_fit_into_text_and_model():
    assert protocol.prompt_length(500, 1024, 64, None) == 500
    assert protocol.prompt_length(5000, 1024, 64, None) == 1024
    assert protocol.prompt_length(5000, 2048, 64, 1024) == 960
    with pytest.raises(Refusal, match="1024 positions"):
        protocol.prompt_length(5000, 1024, 1023, 1024)


class Restless(Bigrams):
    """Continues otherwise each time, as an engine would that forgets to empty its cache."""

    def prefill(self, tokens):
        super().prefill(tokens)
        self.offset += 1


def test_a_repetition_that_decodes_other_tokens_is_refused():
    with pytest.raises(Refusal, match="different tokens"):
        measured(Restless())


class Caches(Bigrams):
    """Decodes otherwise with one of its caches after 5 tokens, and lacks the library of another."""

    def use_cache(self, name):
        if name == "absent":
            raise ImportError("You need to install `absent`\nplease")
        self.offset = 0
        self.lossy = name == "lossy"

    def decode(self, token, steps):
        tokens = super().decode(token, steps)
        self.last = tokens[-1] + (7 if getattr(self, "lossy", False) and tokens[-1] >= 13 else 0)
        return tokens


def test_caches_beside_the_first_have_a_rate_and_say_how_far_they_agree_or_why_not():
    found = measured(Caches(), caches=["first", "same", "lossy", "absent"], decode_tokens=8)
    first, same, lossy, absent = record.compose(HEAD, found, Stopwatch().started).caches
    assert first.decode_tokens_per_second.samples == [8 / times.decode for times in found.seconds]
    assert len(same.decode_tokens_per_second.samples) == protocol.CACHE_RUNS
    assert (same.equal_tokens, same.tokens, lossy.equal_tokens) == (6, 6, 4)
    assert absent.decode_tokens_per_second is None
    assert absent.reason == "ImportError: You need to install `absent`"


@pytest.mark.parametrize("nll", [math.nan, math.inf, 1e6])
def test_a_likelihood_that_is_no_number_is_refused(nll):
    with pytest.raises(Refusal, match="not finite"):
        protocol.perplexity_of(nll, 60)


def test_rates_come_from_the_seconds_with_median_and_interval():
    rates = record.rates(MEASURED)
    assert rates["prefill_tokens_per_second"].value == 200
    assert rates["time_to_first_token_ms"].value == pytest.approx(510)
    decode = rates["decode_tokens_per_second"]
    assert decode.samples == pytest.approx([10, 10 / 1.1, 10 / 0.9])
    assert (decode.low, decode.value, decode.high) == pytest.approx((10 / 1.1, 10, 10 / 0.9))
    assert decode.method == "range"


def test_a_wide_decode_interval_is_noisy_to_its_readers_and_a_narrow_one_ok():
    wide = [protocol.Repetition(0.5, 0.5, seconds) for seconds in (1.0, 3.0, 0.9)]
    loud = record.compose(HEAD, replace(MEASURED, seconds=wide), Stopwatch().started)
    quiet = record.compose(HEAD, MEASURED, Stopwatch().started)
    for made in (loud, quiet):
        assert (made.status, made.reason) == ("ok", None)
        check(made)
    noisy, ok = record.as_judged(loud), record.as_judged(quiet)
    assert (noisy.status, ok.status, ok.reason) == ("noisy", "ok", None)
    assert "interval" in noisy.reason


@pytest.mark.parametrize(
    ("response", "status", "reason"),
    [
        ({"reason": "the worker was killed by SIGKILL"}, "failed", "SIGKILL"),
        ({"status": "out_of_memory", "reason": "5 GB"}, "out_of_memory", "5 GB"),
        ({}, "failed", "no reason"),
    ],
)
def test_without_figures_the_record_says_why(response, status, reason):
    made = record.without(HEAD, *jobs.ended(response), Stopwatch().started)
    check(made)
    assert made.status == status
    assert reason in made.reason
    assert "perplexity" not in records.content(made)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA error: out of memory"), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_engines_say_out_of_memory_in_several_ways(error):
    assert status_of(error) == "out_of_memory"
    assert status_of(ValueError("no such tensor")) == "failed"


def test_the_text_is_the_one_that_figures_were_taken_on():
    assert text.sha256() == "1cacfbf748893f5d51c8d48413479d5f6118d139dbf69e69936a91d530d8c9c1"
    assert text.read().startswith("Sir Walter Elliot")


def check(made: Baseline) -> None:
    """A record fits its schema."""
    records.check(records.content(made), "baseline", made.status)


def settings_of(engine: supervisor.Engine, backend: str = "cpu", **keys) -> supervisor.Settings:
    """Settings as in a config."""
    return supervisor.Settings(engine.settings(**keys), backend)


def settings_file(folder: Path, **said) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    return path


def test_settings_are_completed(tmp_path):
    settings = supervisor.read_settings(str(settings_file(tmp_path, model="x/y", backend="cpu")), TRANSFORMERS)
    assert settings.to_json() == {
        "model": "x/y", "decode_tokens": 64, "context": 1024, "reps": 5, "max_seconds": 20, "backend": "cpu",
        "threads": None, "caches": ["dynamic", "static", "fp8", "hqq_int4"],
    }  # fmt: skip


def test_a_repository_and_file_take_the_place_of_the_model(tmp_path):
    said = supervisor.read_settings(str(settings_file(tmp_path, repo="a/b", file="c.gguf")), GGUF)
    settings = said.to_json()
    assert said.wanted == "a/b/c.gguf"
    assert "model" not in settings
    assert (settings["repo"], settings["kv_type"], settings["n_gpu_layers"]) == ("a/b", "f16", -1)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"modell": "x"}, "modell"),
        ({"backend": "tpu"}, "backend"),
        ({"caches": ["dynamic", "sliding"]}, "caches"),
        ({"kv_type": "f16"}, "kv_type"),
    ],
)
def test_bad_settings_are_named(tmp_path, said, named):
    with pytest.raises(UsageError, match=named):
        supervisor.read_settings(str(settings_file(tmp_path, **said)), TRANSFORMERS)


@pytest.fixture
def here(monkeypatch):
    """Workers by this interpreter: it finds models as the engine's own would, and has no torch to wait for."""
    monkeypatch.setattr(environments, "interpreter", lambda name: Path(sys.executable))


def refused(model: str, engine: supervisor.Engine = TRANSFORMERS) -> str:
    """The reason of a record that is `failed` and valid."""
    made = supervisor.baseline(engine, settings_of(engine, model=model))
    check(made)
    assert made.provenance.sources == sources.sha256(ROOT)
    assert made.status == "failed"
    return made.reason


def test_a_missing_folder_is_a_failed_record(here, tmp_path):
    assert refused(str(tmp_path / "nowhere")) == f"{tmp_path}/nowhere: file or folder does not exist"


def test_llama_cpp_reads_gguf_files_alone(here):
    name = "microsoft/phi-2"
    assert refused(name, GGUF) == f"{name}: not a .gguf file; name one, or a repository of the hub by repo and file"


def test_a_missing_environment_is_a_failed_record_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setitem(environments.NEEDED, "llm", ("no_such_module_of_ours",))
    assert "elastickv env llm" in refused("smollm2")


def stand_in(folder: Path, monkeypatch, script: str) -> None:
    """Another program in place of the worker's interpreter."""
    path = folder / "interpreter"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(environments, "interpreter", lambda name: path)


def test_a_killed_worker_is_a_failed_record(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "kill -9 $$")
    assert "killed by SIGKILL" in refused("smollm2")


def test_a_worker_that_hangs_is_stopped(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(supervisor, "FETCH_SECONDS", 0.3)
    assert "no answer" in refused("smollm2")


FETCHED = fetching.Fetched(fetching.Identity("m"), "/nowhere", None, 1, None).to_json()
ANSWERING = f"""exec {sys.executable} - "$3" "$4" <<'END'
import json, sys
request = json.load(open(sys.argv[1]))
answers = {{"fetch": {json.dumps(FETCHED)!r}, "measure": {json.dumps({"measured": ANSWER})!r}}}
open(sys.argv[2], "w").write(answers[request["task"]])
END"""


def test_a_finished_baseline_is_not_measured_again_unless_settings_of(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, ANSWERING)
    store = jobs.RecordStore(tmp_path / "store")
    settings = settings_of(TRANSFORMERS)
    first = supervisor.baseline(TRANSFORMERS, settings, store)
    again = supervisor.baseline(TRANSFORMERS, settings, store)
    fresh = supervisor.baseline(TRANSFORMERS, settings, store, remeasure=True)
    other = supervisor.baseline(TRANSFORMERS, settings_of(TRANSFORMERS, context=99), store)
    assert first.status == "ok", first.reason
    assert first.device.name == device.cpu_model()
    assert again == first
    assert first.started < fresh.started < other.started
    assert other.settings["context"] == 99


NO_GPU_ANSWER = """exec {python} - "$3" "$4" <<'END'
import json, sys
request = json.load(open(sys.argv[1]))
answers = {{"fetch": {fetched!r}, "cuda": '{{"status": "no_gpu", "reason": "cannot use it"}}', "cpu": {measured!r}}}
open(sys.argv[2], "w").write(answers[request.get("backend", "fetch")])
END"""


@pytest.mark.parametrize(("backend", "outcome"), [("auto", ("cpu", "ok")), ("cuda", ("cuda", "unsupported"))])
def test_an_engine_that_cannot_use_the_gpu_takes_the_cpu_where_it_may(tmp_path, monkeypatch, backend, outcome):
    measured = json.dumps({"measured": ANSWER})
    stand_in(tmp_path, monkeypatch,
             NO_GPU_ANSWER.format(python=sys.executable, fetched=json.dumps(FETCHED), measured=measured))  # fmt: skip
    monkeypatch.setattr(device, "resolve_backend", lambda wanted: "cuda")
    monkeypatch.setattr(device, "exclusive_device", lambda backend: contextlib.nullcontext())
    store = jobs.RecordStore(tmp_path / "store")
    made = supervisor.baseline(TRANSFORMERS, settings_of(TRANSFORMERS, backend), store)
    check(made)
    assert (made.backend, made.status) == outcome
    assert made.reason == (None if backend == "auto" else "cannot use it")
    assert len(list(store.folder.glob("*.json"))) == (backend == "auto")


def test_cuda_without_a_gpu_is_unsupported():
    if device.visible_gpus():
        pytest.skip("this machine has a GPU")
    made = supervisor.baseline(TRANSFORMERS, settings_of(TRANSFORMERS, "cuda"))
    check(made)
    assert made.status == "unsupported"
    assert "no NVIDIA GPU" in made.reason


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "elastickv", "baseline", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | variables)


@pytest.fixture(scope="session")
def llm() -> None:
    """The llm environment, made if it is not there."""
    environments.make("llm")


def test_a_hub_model_without_a_network_is_a_failed_record_and_exit_0_or_1_if_strict(llm, tmp_path):
    out = tmp_path / "record.json"
    arguments = ["transformers", f"--settings={settings_file(tmp_path, model='microsoft/phi-2')}", f"--out={out}"]
    for strict, code in ([], 0), (["--strict"], 1):
        done = command(*arguments, *strict, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
        assert done.returncode == code
        assert "Traceback" not in done.stderr + done.stdout
        made = records.read(out, "baseline")
        assert made["status"] == "failed"
        assert (
            made["reason"] == "microsoft/phi-2: the model hub is not reachable, and it has not been downloaded before"
        )


def test_bad_settings_end_with_exit_2(tmp_path):
    done = command("transformers", f"--settings={settings_file(tmp_path, contxt=3)}", f"--out={tmp_path / 'o'}")
    assert done.returncode == 2
    assert "context" in done.stderr
    assert "Traceback" not in done.stderr


BOTH = """
results: results/both
backend: cpu
measure: {reps: 3, warmup: 1, inner_loops: 1, decode_tokens: 0, max_seconds: 1}
cases: {tiny: {seq: 128, heads: 2, dim: 64, compress: 2, window: 16}}
baselines:
  transformers: {enable: true, context: 512, decode_tokens: 32, reps: 3, caches: [dynamic, static, quanto_int4]}
  gguf: {enable: true, context: 512, decode_tokens: 32, reps: 3}
"""


@pytest.fixture(scope="module")
def both(clone, tmp_path_factory) -> tuple[dict, dict, str]:
    """Both engines' records of the embedded model, and the report, out of one run of the DAG."""
    checkout = clone.copy(tmp_path_factory.mktemp("both") / "checkout")
    (checkout.root / "config/both.yaml").write_text(BOTH, encoding="utf-8")
    process = checkout.start_snakemake("--configfile", "config/both.yaml")
    output, _ = process.communicate(timeout=3000)  # llama.cpp is compiled if no earlier build is at hand
    assert process.returncode == 0, output
    results = checkout.root / "results/both"
    found = [records.read(results / f"{engine}_baseline.json", "baseline") for engine in ("transformers", "gguf")]
    assert all(made["status"] in ("ok", "noisy") for made in found), [made["reason"] for made in found]
    return *found, (results / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_both_engines_agree_on_the_same_file_and_prompt(both):
    transformers, gguf, _ = both
    assert transformers["model"] == gguf["model"]
    assert transformers["prompt_tokens"] == gguf["prompt_tokens"] == 512
    assert len(gguf["generated_tokens"]) == 32
    assert gguf["perplexity"] == pytest.approx(transformers["perplexity"], rel=0.01)
    assert transformers["model"]["license"] == "Apache-2.0"
    assert (transformers["dtype"], transformers["attention"], transformers["cache"]) == ("float32", "sdpa", "dynamic")
    assert transformers["peak_memory_bytes"] > 4 * transformers["model"]["parameters"]
    assert 20 < transformers["perplexity"] < 60


def greedy(engine: str) -> list[int]:
    """32 tokens of an engine, by the script that explains the choice of its prompt."""
    python = environments.make({"transformers": "llm", "gguf": "gguf"}[engine])
    line = [str(python), str(ROOT / "tests/greedy.py"), engine]
    variables = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_both_engines_take_the_same_32_greedy_tokens():
    transformers, gguf = greedy("transformers"), greedy("gguf")
    assert len(transformers) == 32
    assert transformers == gguf


@pytest.mark.slow
def test_a_gguf_record_says_how_it_ran(both):
    _, gguf, _ = both
    assert (gguf["dtype"], gguf["attention"], gguf["cache"], gguf["gpu_layers"]) == ("Q4_1", "flash", "f16", None)
    assert gguf["threads"] >= 1
    assert gguf["peak_memory_bytes"] > 5e7


@pytest.mark.slow
def test_a_static_cache_decodes_the_same_tokens_and_a_quantised_one_has_a_rate(both):
    dynamic, static, quantised = both[0]["caches"]
    assert dynamic["decode_tokens_per_second"] == both[0]["decode_tokens_per_second"]
    assert static["equal_tokens"] == static["tokens"] == 24
    assert quantised["decode_tokens_per_second"]["value"] > 0


@pytest.mark.slow
def test_the_report_has_both_engines(both):
    *found, report = both
    section = report.split("## Language-model baselines\n")[1].split("\n## ")[0]
    for made in found:
        line = next(line for line in section.splitlines() if line.startswith(f"| {made['engine']} "))
        assert f"{made['perplexity']:.2f}" in line


@pytest.fixture(scope="session")
def gguf() -> None:
    """The gguf environment, made if it is not there."""
    environments.make("gguf")


@pytest.mark.slow
def test_llama_cpp_runs_with_quantised_keys_and_values(gguf, tmp_path):
    made = supervisor.baseline(GGUF, settings_of(GGUF, **SMALL, kv_type="q4_0", threads=1))
    check(made)
    assert made.status in ("ok", "noisy"), made.reason
    assert (made.cache, made.threads) == ("q4_0", 1)
    assert 20 < made.perplexity < 60


SMALL = {"context": 512, "decode_tokens": 32, "reps": 3}


TINY_MODEL = """
import sys, torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
folder, text = sys.argv[1:]
bpe = ByteLevelBPETokenizer()
bpe.train([text], vocab_size=400)
PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer).save_pretrained(folder)
torch.manual_seed(0)
sizes = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, vocab_size=400)
LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=300)).save_pretrained(folder)
"""


@pytest.mark.slow
def test_transformers_runs_a_folder_of_safetensors_within_the_positions_that_its_model_has(llm, tmp_path):
    folder = tmp_path / "tiny"
    made_by = [str(environments.interpreter("llm")), "-c", TINY_MODEL, str(folder), str(text.FILE)]
    subprocess.run(made_by, check=True, capture_output=True)
    chosen = {"model": str(folder), "caches": ["static", "dynamic", "hqq_int4"]}
    made = supervisor.baseline(TRANSFORMERS, settings_of(TRANSFORMERS, **SMALL, **chosen))
    check(made)
    assert made.status in ("ok", "noisy"), made.reason
    assert made.prompt_tokens == 300 - 32
    assert made.model.sha256 == records.sha256_file(folder / "model.safetensors")
    assert 200 < made.perplexity < 800  # of a model that knows nothing: about as many as it has tokens
    assert [entry.reason for entry in made.caches] == [None] * 3
    assert made.caches[1].equal_tokens == 24


@pytest.mark.slow
def test_a_model_larger_than_memory_is_out_of_memory(llm, tmp_path):
    """The fetched model claims to be larger than any disk here."""
    fetched = fetching.Fetched(fetching.Identity("m", parameters=10**14), str(tmp_path), None, 10**14, None)
    request = {"settings": settings_of(TRANSFORMERS, **SMALL).to_json(), "fetched": fetched.to_json()}
    answer = supervisor.ask(TRANSFORMERS, {"task": "measure", "backend": "cpu", **request}, 100)
    assert answer["status"] == "out_of_memory"
    assert "400000.00 GB as float32" in answer["reason"]


@pytest.mark.slow
def test_a_killed_supervisor_takes_its_worker_along(llm, tmp_path):
    arguments = [
        f"--settings={settings_file(tmp_path, model='smollm2', backend='cpu', **SMALL)}",
        f"--out={tmp_path / 'o.json'}",
    ]
    process = subprocess.Popen([sys.executable, "-m", "elastickv", "baseline", "transformers", *arguments])
    worker = None
    while worker is None and process.poll() is None:
        with contextlib.suppress(psutil.Error):  # a worker that ends while it is looked at
            found = [child for child in psutil.Process(process.pid).children() if child.memory_info().rss > 3e8]
            worker = next(iter(found), None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert worker is not None
    worker.wait(10)
    assert not (tmp_path / "o.json").exists()
