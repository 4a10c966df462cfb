"""Tiny files of language models, byte by byte: GGUF headers and shards, safetensors, folders of Transformers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

LLAMA = {"model_type": "llama"}


def string(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, layout: str, kind: int, *values) -> bytes:
    """A metadata entry; its value packed by `layout`."""
    return string(key) + struct.pack(f"<I{layout}", kind, *values)


def gguf_bytes(pairs: list[bytes] = (), tensors: dict[str, int] | None = None, fill: int = 0) -> bytes:
    """A whole GGUF file: metadata entries, and F32 tensors of so many elements by name."""
    head, offset, data = [], 0, b""
    for name, elements in (tensors or {}).items():
        head.append(string(name) + struct.pack("<IQIQ", 1, elements, 0, offset))
        data += bytes([fill]) * (4 * elements)
        data += bytes(-len(data) % 32)
        offset = len(data)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(head), len(pairs)) + b"".join([*pairs, *head])
    return header + bytes(-len(header) % 32) + data


def shard(number: int, count: int, tensors: int, own: dict[str, int], fill: int = 0) -> bytes:
    """Shard `number` (from 1) of `count`, of a model with so many tensors, with `own` tensors in it."""
    split = [("split.no", "H", 2, number - 1), ("split.count", "H", 2, count), ("split.tensors.count", "i", 5, tensors)]
    return gguf_bytes([pair(*entry) for entry in split], own, fill)


def write_shards(folder: Path, name: str = "m", count: int = 3) -> list[Path]:
    """A split GGUF of `count` shards: 10 elements in the first, 20 in the second, and so on."""
    paths = [folder / f"{name}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for number, path in enumerate(paths, start=1):
        path.write_bytes(shard(number, count, count, {f"t{number}": 10 * number}, fill=number))
    return paths


def safetensors_bytes(tensors: dict[str, int], fill: int = 0) -> bytes:
    """A safetensors file: F32 tensors of so many elements by name."""
    header, at = {}, 0
    for name, elements in tensors.items():
        header[name] = {"dtype": "F32", "shape": [elements], "data_offsets": [at, at + 4 * elements]}
        at += 4 * elements
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes([fill]) * at


def write_folder(folder: Path, config: dict | None = None) -> Path:
    """A folder of two safetensors shards with 10 and 20 elements, their index and a configuration."""
    folder.mkdir(exist_ok=True)
    shards = {f"model-0000{number}-of-00002.safetensors": {f"t{number}": 10 * number} for number in (1, 2)}
    for name, tensors in shards.items():
        (folder / name).write_bytes(safetensors_bytes(tensors))
    files = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(LLAMA if config is None else config), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder
