"""llama.cpp's own words in the reason of a record: of a model it refuses, and of one that ends its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elastickv import environments
from elastickv.jobs import process
from elastickv.models import supervisor
from elastickv.models.fetching import Fetched, Identity
from elastickv.models.llama_log import CONTINUATION, ERROR, KEPT, WARNING, Messages

INFORMATION = 2
GGUF = supervisor.ENGINES["gguf"]


def logged(*pieces: tuple[int, str]) -> str:
    messages = Messages()
    for level, text in pieces:
        messages.add(level, text)
    return messages.last()


def test_a_continuation_belongs_to_the_message_before_it_whatever_its_level():
    pieces = [(ERROR, "tensor "), (CONTINUATION, "'w'\n"), (INFORMATION, "size "), (CONTINUATION, "3\n")]
    assert logged(*pieces) == "tensor 'w'"
    assert logged((CONTINUATION, "of nothing\n")) == ""


def test_the_last_warnings_and_errors_are_kept_each_as_one_line():
    pieces = [((ERROR, WARNING)[i % 2], f"message\n  {i}\n") for i in range(9)]
    assert logged(*pieces).split(" | ") == [f"message {i}" for i in range(9 - KEPT, 9)]


def test_the_last_line_of_a_worker_that_ended_is_in_its_reason_however_long_the_lines_before(tmp_path):
    script = (
        "import os, sys; print('x' * 2000, 'ASSERT(a > b) failed', sep='\\n', file=sys.stderr, flush=True); os.abort()"
    )
    reason = process.ask([sys.executable, "-c", script], {}, 60, process.environment())["reason"]
    assert reason.startswith("the worker was killed by SIGABRT")
    assert reason.endswith("ASSERT(a > b) failed")


WRITE_MODELS = """
import sys
from pathlib import Path
import gguf, numpy
WIDTH, TOKENS = 160, 275
random = numpy.random.default_rng(0)

def write(name, architecture="llama", tokenizer="llama", blocks=1, without=None):
    writer = gguf.GGUFWriter(Path(sys.argv[1], name + ".gguf"), architecture)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(TOKENS)
    writer.add_tokenizer_model(tokenizer)
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"abcdefghijklmnop"])
    writer.add_token_scores([0.0] * TOKENS)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 16)
    block = {"attn_norm": [WIDTH], "ffn_norm": [WIDTH], "ffn_gate": [64, WIDTH], "ffn_up": [64, WIDTH]}
    block |= {"ffn_down": [WIDTH, 64], **{f"attn_{part}": [WIDTH, WIDTH] for part in ("q", "k", "v", "output")}}
    shapes = {"token_embd": [TOKENS, WIDTH], "output_norm": [WIDTH]}
    for tensor, shape in (shapes | {f"blk.0.{part}": shape for part, shape in block.items()}).items():
        if tensor != without:
            writer.add_tensor(tensor + ".weight", random.normal(0, 0.1, shape).astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

write("whole")
write("architecture", architecture="nosuch")
write("tensor", without="blk.0.attn_k")
write("vocabulary", tokenizer="no_vocab")
write("blocks", blocks=0)
whole = Path(sys.argv[1], "whole.gguf").read_bytes()
Path(sys.argv[1], "half.gguf").write_bytes(whole[: len(whole) // 2])
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder of tiny GGUF files. The package that writes them is in the environment llm."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([str(environments.make("llm")), "-c", WRITE_MODELS, str(folder)], check=True)
    return folder


def answer(models: Path, name: str, **settings: str) -> dict:
    """What the gguf engine's worker answers for a model on a CPU."""
    made = GGUF.settings(context=64, decode_tokens=8, reps=3, **settings).model_dump()
    file = models / f"{name}.gguf"
    fetched = Fetched(Identity(name), str(models), file.name, file.stat().st_size, "F32").to_json()
    request = {"task": "measure", "engine": "gguf", "backend": "cpu", "settings": made, "fetched": fetched}
    line = [str(environments.make("gguf")), "-m", "elastickv.models.worker"]
    return process.ask(line, request, 300, process.environment(OMP_WAIT_POLICY="passive", CUDA_VISIBLE_DEVICES=""))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("whole", {"kv_type": "q8_0"}, "K cache type q8_0 with block size 32 does not divide n_embd_head_k=80"),
        ("half", {}, "data is not within the file bounds, model is corrupted or incomplete"),
        ("architecture", {}, "unknown model architecture: 'nosuch'"),
        ("tensor", {}, "tensor 'blk.0.attn_k.weight' not found"),
    ],
)
def test_a_model_that_llama_cpp_refuses_has_its_words_in_the_reason(models, name, settings, said):
    made = answer(models, name, **settings)
    assert made["status"] == "failed"
    assert made["reason"].startswith(f"{name}.gguf: llama.cpp cannot load it: ")
    assert said in made["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"), [("blocks", "GGML_ASSERT(hparams.n_layer"), ("vocabulary", "GGML_ASSERT(tokenizer && ")]
)
def test_a_failed_assertion_of_llama_cpp_is_in_the_reason_while_it_loads_and_after(models, name, said):
    reason = answer(models, name)["reason"]
    assert reason.startswith("the worker was killed by SIGABRT")
    assert said in reason


EVALUATE = """
import sys
from elastickv.models import gguf_engine
from elastickv.models.fetching import Fetched, Identity
from elastickv.models.protocol import Settings
fetched = Fetched(Identity("whole"), sys.argv[1], "whole.gguf", 1, "F32")
engine = gguf_engine.load(fetched, Settings(context=64, decode_tokens=8, reps=3, max_seconds=20), "cpu")
try:
    engine.prefill([int(sys.argv[2])])
    engine.decode(5, 5000)
except gguf_engine.Refusal as refusal:
    print(refusal)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "said"),
    [(10**6, "invalid token[0] = 1000000"), (5, "failed to find a memory slot for batch of size 1")],
)
def test_a_batch_that_llama_cpp_does_not_evaluate_has_its_words_in_the_reason(models, token, said):
    line = [str(environments.make("gguf")), "-c", EVALUATE, str(models), str(token)]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=process.environment())
    assert done.stdout.startswith("llama_decode of 1 tokens after ")
    assert said in done.stdout
