"""Tries the self-check of language models on a tiny random model of every causal architecture of Transformers.

    PYTHONPATH=workflow .envs/llm/bin/python tools/architectures.py docs/architectures.md

Every model is made, saved, loaded and checked as a baseline would load and check it, in a separate process, on the CPU
in float32. `--dtype bfloat16` shows the rounding of fewer bits. Without a file the table goes to stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from elastickv.models import protocol, self_check, text, transformers_engine
from elastickv.models.fetching import Fetched, Identity
from elastickv.models.refusal import Refusal, one_line

SECONDS = 120
LARGEST = 60_000_000  # parameters of a model that counts as tiny
VOCABULARY, LAYERS = 400, 8
CONTEXT, DECODE = 600, 8
# Sizes by the names that configurations give them. A configuration gets those that it has.
TINY = {
    64: "hidden_size d_model n_embd dim embed_dim embedding_size word_embed_proj_dim attention_hidden_size lru_width",
    128: "mamba_d_ssm "
    "intermediate_size ffn_dim n_inner inner_dim d_ff decoder_ffn_dim encoder_ffn_dim moe_intermediate_size "
    "shared_expert_intermediate_size intermediate_size_mlp moe_shared_expert_intermediate_size ffn_hidden_size",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads num_local_experts "
    "num_experts n_routed_experts moe_num_experts linear_num_value_heads mamba_n_heads mamba_num_heads num_q_heads",
    2: "num_key_value_heads num_experts_per_tok moe_topk moe_k linear_num_key_heads num_kv_heads multi_query_group_num",
    16: "head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim index_head_dim kv_channels linear_key_head_dim "
    "linear_value_head_dim swa_head_dim "
    "attention_head_dim global_head_dim hidden_size_per_layer_input",
    8: "rotary_dim",
    32: "kv_lora_rank q_lora_rank sliding_window attention_window mamba_d_head mamba_head_dim mamba_headdim",
    1: "n_groups n_group topk_group n_shared_experts",
    0: "pad_token_id",
    LAYERS: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers",
    VOCABULARY: "vocab_size vocab_size_per_layer_input",
    1024: "max_position_embeddings n_positions n_ctx max_seq_len",
}
SIZES = {name: size for size, names in TINY.items() for name in names.split()}
# In some architectures sizes depend on each other, each in a different way: these are tried in turn.
ATTEMPTS: tuple[dict[str, int | None], ...] = (
    {},
    {"head_dim": 32},
    {"num_key_value_heads": 4},
    {"head_dim": 8},
    dict.fromkeys(("head_dim", "attention_head_dim", "kv_channels", "attention_hidden_size", "mamba_n_heads")),
)
# Beyond sizes, by model type.
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [2, 5], "mamba_d_head": 32},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * (LAYERS // 2), "mamba_d_head": 32},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * (LAYERS // 2)},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * (LAYERS // 2)},
    "zaya": {"num_experts_per_tok": 1},
    "xlm": {"n_words": VOCABULARY, "emb_dim": 64},
}
BEGIN, END = "<!-- architectures: written by tools/architectures.py -->", "<!-- end of architectures -->"
DECODER = "is_decoder"  # a switch of encoders: with it they see earlier tokens alone


def tiny_values(default: dict[str, Any], sizes: dict[str, int | None], lists: bool) -> dict[str, Any]:
    """Sizes in place of a default configuration's (None: left as it is); lists of one entry a layer are cut, or left.

    A window that the architecture does not have by default is not added.
    """
    layers = next((default[name] for name in TINY[LAYERS].split() if isinstance(default.get(name), int)), 0)
    values: dict[str, Any] = {}
    for name, value in default.items():
        if isinstance(value, dict) and "model_type" in value:
            values[name] = {"model_type": value["model_type"], **tiny_values(value, sizes, lists)}
        elif sizes.get(name) is not None and not (value is None and name == "sliding_window"):
            values[name] = sizes[name]
        elif lists and isinstance(value, list) and layers > LAYERS and len(value) == layers:
            values[name] = value[:LAYERS]
    return values


def make(config_class: type, folder: Path, decoder: bool = False) -> str:
    """Writes a tiny random model with its tokenizer; the name of its class. Raises what the first attempt raised."""
    default = config_class().to_dict()
    own = OWN.get(config_class.model_type, {}) | ({DECODER: True} if decoder else {})
    failures: list[Exception] = []
    for attempt in ATTEMPTS:
        for lists in (True, False):
            try:
                config = config_class(**(tiny_values(default, SIZES | attempt, lists) | own))
                with torch.device("meta"):
                    parameters = transformers.AutoModelForCausalLM.from_config(config).num_parameters()
                if parameters > LARGEST:
                    raise ValueError(f"{parameters / 1e6:.0f} million parameters")
                torch.manual_seed(0)
                model = transformers.AutoModelForCausalLM.from_config(config).eval()
                with torch.inference_mode():
                    model(input_ids=torch.arange(8)[None])
            except Exception as error:
                failures.append(error)
                continue
            model.save_pretrained(folder)
            tokenizer().save_pretrained(folder)
            return type(model).__name__
    raise failures[0]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    bpe = ByteLevelBPETokenizer()
    bpe.train([str(text.FILE)], vocab_size=VOCABULARY, special_tokens=["<pad>"])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, pad_token="<pad>")


def outcome(config_class: type, decoder: bool, dtype: str) -> dict[str, Any]:
    """`status`: passes, not made, or a refusal's; `reason` or the self-check's figures."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            name = make(config_class, Path(folder), decoder) + (f" ({DECODER})" if decoder else "")
        except Exception as error:
            return {"name": config_class.__name__, "status": "not made", "reason": one_line(error)}
        try:
            return {"name": name, **checked(folder, dtype)}
        except Refusal as refusal:
            return {"name": name, "status": refusal.status, "reason": str(refusal)}
        except Exception as error:
            return {"name": name, "status": "failed", "reason": one_line(error)}


def checked(folder: str, dtype: str) -> dict[str, Any]:
    settings = protocol.Settings(CONTEXT, DECODE, reps=3, max_seconds=20, threads=1, caches=["dynamic"])
    fetched = Fetched(Identity("m", parameters=1), folder, None, 1, None)
    transformers_engine._dtype = lambda backend: getattr(torch, dtype)
    engine = transformers_engine.load(fetched, settings, "cpu")
    tokens = engine.tokenize(text.read())
    prompt = protocol.prompt_length(len(tokens), CONTEXT, DECODE, engine.longest)
    checked, reference = self_check.check(engine, tokens, prompt, DECODE)
    return {"status": "passes", "reason": "", **asdict(checked), "static": static(engine, reference)}


def static(engine: Any, reference: self_check.Reference) -> float | str:
    """The largest difference with a static cache, or why there is none."""
    try:
        engine.use_cache("static")
        return self_check.largest_difference(engine, reference, chunk=False)
    except Exception as error:
        return one_line(error)


def answer(config_class: type, decoder: bool, dtype: str, pipe: Any) -> None:
    """Runs in a separate process, whose output is discarded."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        pipe.send(outcome(config_class, decoder, dtype))


def apart(config_class: type, decoder: bool, dtype: str) -> dict[str, Any]:
    """The outcome, also if the process dies or hangs."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=answer, args=(config_class, decoder, dtype, theirs))
    began = time.perf_counter()
    process.start()
    theirs.close()
    result = None
    with contextlib.suppress(EOFError):
        result = ours.recv() if ours.poll(SECONDS) else None
    process.kill()
    process.join()
    if result is None:
        result = {"name": config_class.__name__, "status": "not made", "reason": f"died, or took over {SECONDS} s"}
    return result | {"config": config_class.__name__, "took": time.perf_counter() - began}


def table(results: list[dict[str, Any]]) -> str:
    """Names by outcome: with the largest difference of those that pass, the reason of the others."""
    unique = list({made["name"]: made for made in results}.values())
    passing = sorted((made for made in unique if made["status"] == "passes"), key=lambda made: made["name"])
    others = sorted(
        (m for m in unique if m["status"] != "passes"), key=lambda m: (m["status"] == "not made", m["name"])
    )
    largest = max(made["largest_difference"] for made in passing) if passing else 0
    counts = f"of {len(unique)} models {len(passing)} pass, with differences of {largest:.1e} at most"
    refused = sum(made["status"] != "not made" for made in others)
    lines = [f"Transformers {transformers.__version__}, torch {torch.__version__}: {counts}; {refused} are refused; "]
    lines[0] += f"{len(others) - refused} could not be made tiny by the script, so nothing is known about them. "
    lines[0] += "Architectures that can be encoder or decoder count twice: as they come, and with `is_decoder`."
    lines += ["", "**Pass:** " + ", ".join(made["name"] for made in passing) + ".", ""]
    lines += ["| architecture | outcome | reason |", "|:--|:--|:--|"]
    lines += [f"| {made['name']} | {made['status']} | {made['reason'].replace('|', '/')[:240]} |" for made in others]
    without = [made for made in passing if not isinstance(made["static"], float)]
    lines += ["", "Of those that pass, these have no rate with a static cache:", ""]
    lines += [f"- {made['name']}: {made['static'][:240]}" for made in without] or ["- none"]
    return "\n".join(lines)


def replaced(document: str, content: str) -> str:
    """A document with other content between its two marks."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + "\n" + content + "\n" + END + rest.split(END)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="a Markdown file; the text between its marks is replaced")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", nargs="+", default=[], metavar="CONFIGURATION", help="such as LlamaConfig")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    results = []
    for config_class in MODEL_FOR_CAUSAL_LM_MAPPING:
        if args.only and config_class.__name__ not in args.only:
            continue
        for decoder in (False, True) if DECODER in inspect.signature(config_class).parameters else (False,):
            results.append(apart(config_class, decoder, args.dtype))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    if args.out:
        args.out.write_text(replaced(args.out.read_text(encoding="utf-8"), table(results)), encoding="utf-8")
    else:
        print(table(results))


if __name__ == "__main__":
    main()
