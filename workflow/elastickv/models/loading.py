"""Checks that Transformers loaded a model as stored in its files. It only warns of mismatches, or ignores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from elastickv.models.refusal import Refusal

SHOWN = 3  # names in a message


def check(model: Any, loaded: Mapping[str, Any], gguf: Path | None) -> None:
    """Raises Refusal unless every parameter of the model comes from the file and the file holds no others.

    loaded: what `from_pretrained(..., output_loading_info=True)` returns beside the model. gguf: the file, if it is a
    GGUF file.
    """
    mismatched = sorted(f"{name} {tuple(has)} for {tuple(needs)}" for name, has, needs in loaded["mismatched_keys"])
    _refuse(loaded["missing_keys"], "parameters of the model are not in its files, so they would be random")
    _refuse(mismatched, "tensors do not have the model's shapes")
    _refuse(foreign(model, loaded["unexpected_keys"]), "tensors of the files are not part of the model")
    if loaded["error_msgs"]:
        raise Refusal("failed", f"loading reported: {loaded['error_msgs'][0]}")
    if gguf:
        _refuse(
            dropped_of_gguf(model, gguf), "tensors of the GGUF file are not part of the model as built by Transformers"
        )


def _refuse(names: Iterable[str], what: str) -> None:
    found = sorted(names)
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise Refusal("failed", f"{what} ({len(found)}): {', '.join(found[:SHOWN])}{more}")


def foreign(model: Any, unexpected: Iterable[str]) -> list[str]:
    """Unexpected tensors that say that the file is of another model: more layers, a bias that is never added.

    All parameters have their values, so whole branches that the model does not have at all, such as `v_head.*` or
    `mtp.*`, are heads for other ends: what is predicted does not depend on them.
    """
    branches = {name.split(".")[0] for name, _ in model.named_children()}
    return [name for name in unexpected if "." not in name or name.split(".")[0] in branches]


def dropped_of_gguf(model: Any, path: Path) -> list[str]:
    """Tensors of a GGUF file that are not loaded: Transformers skips names that it cannot map, without a report."""
    from gguf import GGUFReader
    from transformers import modeling_gguf_pytorch_utils as reading

    reader = GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    processor = reading.TENSOR_PROCESSORS.get(architecture, reading.TensorProcessor)(config={})
    places = reading.get_gguf_hf_weights_map(model, processor)
    tensors = {tensor.name for tensor in reader.tensors}
    return sorted(name for name in tensors if not {name, name.removesuffix(".weight")} & places.keys())
