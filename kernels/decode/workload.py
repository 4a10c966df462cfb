"""The workload `decode`: attention of one new token over a KV cache; measured by elastickv.workloads.decode."""

from __future__ import annotations

from elastickv.kinds import Kind


class Decode(Kind):
    """Its cases are schemas.case.DecodeCase; elastickv.cache counts bytes and slots."""

    MEANING = "attention of one new token over a cache"
    TITLE = "decode attention"
    KERNELS = ("compress", "append", "close", "advance", "decode", "decode_any", "decode_tensor")
    DTYPE = None
    CACHE = True
