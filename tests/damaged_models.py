"""Tiny models, whole and damaged: `python damaged_models.py FOLDER [NAME ...]` makes and loads each as a baseline does.

Runs in the llm environment. Prints one JSON object: by name the status and the reason of loading and tokenizing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer

from elastickv.models import text, transformers_engine
from elastickv.models.fetching import Fetched, Identity
from elastickv.models.protocol import Settings
from elastickv.models.refusal import Refusal, one_line

VOCABULARY = 400
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 600}
FIRST, LAST = "model.layers.0", "model.layers.1"
BPE = ByteLevelBPETokenizer()
BPE.train([str(text.FILE)], vocab_size=VOCABULARY, show_progress=False)


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=BPE._tokenizer)


def save(folder: Path, config: Any, kind: type = transformers.AutoModelForCausalLM) -> None:
    torch.manual_seed(0)
    model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def llama(change: Callable[[dict], dict] = dict, **sizes: Any) -> Callable[[Path], None]:
    """A Llama folder whose tensors are then changed."""

    def make(folder: Path) -> None:
        save(folder, transformers.LlamaConfig(**(SIZES | sizes)))
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return make


def without(name: str) -> Callable[[dict], dict]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def added(**shapes: tuple[int, ...]) -> Callable[[dict], dict]:
    return lambda tensors: tensors | {name.replace("__", "."): torch.ones(shape) for name, shape in shapes.items()}


def more_layers(tensors: dict) -> dict:
    copies = {key.replace(LAST, "model.layers.2"): tensor.clone() for key, tensor in tensors.items() if LAST in key}
    return tensors | copies


def prefixed(tensors: dict) -> dict:
    return {f"decoder.{key}": tensor for key, tensor in tensors.items()}


def small_tokenizer(folder: Path) -> None:
    """Fewer embeddings than the text's tokens need."""
    save(folder, transformers.LlamaConfig(**(SIZES | {"vocab_size": 300})))


def large_tokenizer(folder: Path) -> None:
    llama()(folder)
    larger = tokenizer()
    larger.add_tokens(["<never in the text>"])
    larger.save_pretrained(folder)


def gguf_llama(change: Callable[[dict], dict] = dict) -> Callable[[Path], None]:
    """A GGUF file of the architecture llama, whose tensors are then changed."""

    def make(folder: Path) -> None:
        random, width, hidden = torch.Generator().manual_seed(0), SIZES["hidden_size"], SIZES["intermediate_size"]
        half = width // 2
        shapes = {"token_embd": (VOCABULARY, width), "output": (VOCABULARY, width), "output_norm": (width,)}
        for layer in range(2):
            block = {"attn_norm": (width,), "attn_q": (width, width), "attn_k": (half, width), "attn_v": (half, width)}
            block |= {"attn_output": (width, width), "ffn_norm": (width,), "ffn_gate": (hidden, width)}
            block |= {"ffn_up": (hidden, width), "ffn_down": (width, hidden)}
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        tensors = {f"{name}.weight": torch.randn(shape, generator=random) * 0.02 for name, shape in shapes.items()}
        tensors |= {name: torch.ones_like(tensor) for name, tensor in tensors.items() if tensor.ndim == 1}
        write_gguf(folder, "llama", change(tensors))

    return make


def gguf_experts(folder: Path) -> None:
    """A Qwen3-MoE file that lacks the gates of one layer's experts."""
    width, experts, hidden, heads = 64, 4, 768, 64  # Transformers takes 768 and ignores the file
    shapes = {"token_embd": (VOCABULARY, width), "output": (VOCABULARY, width), "output_norm": (width,)}
    for layer in range(2):
        block = {"attn_norm": (width,), "attn_q": (heads, width), "attn_k": (heads // 2, width)}
        block |= {"attn_v": (heads // 2, width), "attn_output": (width, heads), "ffn_norm": (width,)}
        block |= {"attn_q_norm": (16,), "attn_k_norm": (16,), "ffn_gate_inp": (experts, width)}
        block |= {f"ffn_{name}_exps": (experts, hidden, width) for name in ("gate", "up")}
        block |= {"ffn_down_exps": (experts, width, hidden)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    del shapes["blk.0.ffn_gate_exps"]
    write_gguf(folder, "qwen3moe", {f"{name}.weight": torch.rand(shape) for name, shape in shapes.items()})


def write_gguf(folder: Path, architecture: str, tensors: dict) -> None:
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    writer.add_name("tiny")
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_block_count(2)
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_rope_dimension_count(16)
    writer.add_layer_norm_rms_eps(1e-6)
    if architecture == "qwen3moe":
        writer.add_expert_count(4)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(768)
    writer.add_vocab_size(VOCABULARY)
    model = json.loads(BPE._tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].get))
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def other(config: Any, kind: type) -> Callable[[Path], None]:
    return lambda folder: save(folder, config, kind)


def bart() -> Any:
    sizes = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": VOCABULARY}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    return transformers.BartConfig(**sizes, **heads)


def vit() -> Any:
    return transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)


HEAD = {"v_head__summary__weight": (1, 64), "mtp__layers__0__weight": (4, 4)}
MODELS: dict[str, Callable[[Path], None]] = {
    "intact": llama(),
    "tied": llama(tie_word_embeddings=True),
    "inv_freq": llama(added(**{f"{FIRST}.self_attn.rotary_emb.inv_freq": (8,)})),
    "extra head": llama(added(**HEAD)),
    "one tensor missing": llama(without(f"{LAST}.mlp.up_proj.weight")),
    "wrong prefix": llama(prefixed),
    "untied head missing": llama(without("lm_head.weight")),
    "other shape": llama(lambda tensors: tensors | {"model.norm.weight": torch.ones(32)}),
    "more layers": llama(more_layers),
    "bias that is never added": llama(added(**{f"{FIRST}.self_attn.q_proj.bias": (64,)})),
    "tokenizer of another model": small_tokenizer,
    "tokenizer with tokens that never come": large_tokenizer,
    "gguf intact": gguf_llama(),
    "gguf tensor missing": gguf_llama(without("blk.1.ffn_up.weight")),
    "gguf bias": gguf_llama(added(**{"blk.0.attn_q.bias": (64,)})),
    "gguf rope factors": gguf_llama(added(**{"rope_freqs.weight": (8,)})),
    "gguf experts without gates": gguf_experts,
    "encoder-decoder": other(bart(), transformers.BartForConditionalGeneration),
    "t5": other(
        transformers.T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2),
        transformers.T5ForConditionalGeneration,
    ),
    "vit": other(vit(), transformers.ViTForImageClassification),
    "mamba": other(
        transformers.MambaConfig(hidden_size=64, num_hidden_layers=2, vocab_size=VOCABULARY),
        transformers.MambaForCausalLM,
    ),
}


def outcome(folder: Path) -> tuple[str, str]:
    settings = Settings(context=100, decode_tokens=8, reps=3, max_seconds=20, threads=1, caches=["dynamic"])
    file = "model.gguf" if (folder / "model.gguf").is_file() else None
    fetched = Fetched(Identity("m", parameters=1), str(folder), file, 1, None)
    try:
        transformers_engine.load(fetched, settings, "cpu").tokenize(text.read())
    except Refusal as refusal:
        return refusal.status, str(refusal)
    except Exception as error:
        return "crashed", one_line(error)
    return "ok", ""


def main(root: str, *names: str) -> None:
    outcomes = {}
    for name in names or MODELS:
        folder = Path(root, name)
        folder.mkdir()
        MODELS[name](folder)
        outcomes[name] = outcome(folder)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
