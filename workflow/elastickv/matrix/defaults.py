"""What absent keys of a config mean. `schemas/config.schema.json` says what each key is and which values it takes."""

from __future__ import annotations

from typing import Any

CASE_SCHEMA = "case/1"
RESULTS = "results/local"
BACKEND = "auto"
BUILD: dict[str, Any] = {"compiler": "auto", "architectures": [61, 70, 75, 80, 86, 89, 90], "ptx": 90}
MEASURE: dict[str, Any] = {
    "reps": 100,
    "warmup": 50,
    "inner_loops": 64,
    "truncate": 5,
    "decode_tokens": 64,
    "graphs": True,
    "precision": 0.005,
    "max_seconds": 20,
    "confidence": 0.99,
}  # and `processes`: 1, which a case says only where it is not so
GOLDEN: dict[str, Any] = {
    "speedup": 1.95,
    "excellent": 1.7,
    "cv": 0.05,
    "memory_efficiency": 0.70,
    "roofline": 0.80,
}
LANGUAGE_MODEL: dict[str, Any] = {
    "model": "smollm2",
    "decode_tokens": 64,
    "context": 1024,
    "reps": 5,
    "max_seconds": 20,
    "threads": None,
}
TRANSFORMERS: dict[str, Any] = {
    "enable": True,
    **LANGUAGE_MODEL,
    "caches": ["dynamic", "static", "fp8", "hqq_int4"],
}
GGUF: dict[str, Any] = {"enable": False, **LANGUAGE_MODEL, "n_gpu_layers": -1, "kv_type": "f16"}
# Kernels of other libraries, one adapter each in baselines/peers/. Off unless asked for: torch is large, and beside a
# slow peer every sample of ours waits for one of the peer's.
PEER_NAMES = (
    *("torch_default", "torch_grouped", "torch_cudnn", "torch_flash", "torch_efficient", "torch_math"),
    *("flashinfer_single", "flashinfer_single_tensor", "flashinfer_batch", "flashinfer_batch_tensor"),
)
PEERS: dict[str, Any] = {"enable": False, "names": list(PEER_NAMES), "reps": 240, "max_seconds": 10}

# seq, heads, dim and compress have none: a case says them, or the config's `defaults`. kv_heads is heads, cache_dtype
# is dtype unless said otherwise.
CASE: dict[str, Any] = {
    "workload": "decode",
    "batch": 1,
    "dtype": "fp16",
    "sinks": 4,
    "window": 256,
    "anchor": "value_norm",
    "bias": "none",
    "launch": "auto",
    "pass_order": "forward",
    "seed": 0,
}
BENCH: dict[str, Any] = {"seq": 1024, "heads": 16, "dim": 64, "compress": 2}  # `elastickv bench` without flags
REQUIRED = ("seq", "heads", "dim", "compress")

# In the order that a canonical case lists them.
CASE_KEYS = {
    "decode": ("batch", "seq", "heads", "kv_heads", "dim", "dtype", "cache_dtype", "compress", "sinks", "window",
               "anchor", "bias", "launch", "seed"),
    "elementwise": ("seq", "heads", "dim", "dtype", "compress", "launch", "pass_order", "seed"),
}  # fmt: skip
