"""ctypes mirrors of `kernels/params.h`, field for field."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_longlong, c_uint, c_void_p

ANCHORS = {"last": 0, "first": 1, "value_norm": 2, "mean": 3}


class Cache(ctypes.Structure):
    _fields_ = [
        ("exact_k", c_void_p),
        ("exact_v", c_void_p),
        ("middle_k", c_void_p),
        ("middle_v", c_void_p),
        ("middle_k_scale", c_void_p),
        ("middle_v_scale", c_void_p),
        ("exact_bias", c_void_p),
        ("middle_bias", c_void_p),
        ("middle_token", c_void_p),
        ("tokens", c_void_p),
        ("dtype", c_int),
        ("cache_dtype", c_int),
        ("rows", c_int),
        ("dim", c_int),
        ("sinks", c_int),
        ("window", c_int),
        ("compress", c_int),
        ("ring", c_int),
        ("middle_capacity", c_int),
        ("pad", c_int),
    ]


class FillParams(ctypes.Structure):
    _fields_ = [
        ("out", c_void_p),
        ("count", c_longlong),
        ("dtype", c_int),
        ("seed", c_uint),
        ("stream", c_uint),
        ("pad", c_int),
    ]


class CompressParams(ctypes.Structure):
    _fields_ = [
        ("cache", Cache),
        ("k", c_void_p),
        ("v", c_void_p),
        ("source_capacity", c_int),
        ("source_tokens", c_int),
        ("anchor", c_int),
        ("anchor_bias", c_float),
    ]


class CloseParams(ctypes.Structure):
    _fields_ = [
        ("caches", c_void_p),
        ("layers", c_int),
        ("rows", c_int),
        ("anchor", c_int),
        ("anchor_bias", c_float),
    ]


class Fresh(ctypes.Structure):
    _fields_ = [("k", c_void_p), ("v", c_void_p), ("pool_size", c_int), ("shift", c_int)]


class AppendParams(ctypes.Structure):
    _fields_ = [("cache", Cache), ("fresh", Fresh), ("anchor", c_int), ("anchor_bias", c_float)]


class AdvanceParams(ctypes.Structure):
    _fields_ = [("tokens", c_void_p), ("delta", c_int), ("pad", c_int)]


class DecodeParams(ctypes.Structure):
    _fields_ = [
        ("cache", Cache),
        ("q", c_void_p),
        ("out", c_void_p),
        ("workspace", c_void_p),
        ("group", c_int),
        ("pending", c_int),
        ("scale", c_float),
        ("max_tokens", c_int),
        ("fresh", Fresh),
        ("waits", c_int),
        ("pad", c_int),
    ]


class ElementwiseParams(ctypes.Structure):
    _fields_ = [
        ("q", c_void_p),
        ("k", c_void_p),
        ("v", c_void_p),
        ("previous", c_void_p),
        ("out", c_void_p),
        ("heads", c_int),
        ("seq", c_int),
        ("dim", c_int),
        ("compress", c_int),
        ("scale", c_float),
        ("reverse", c_int),
    ]


class StreamParams(ctypes.Structure):
    _fields_ = [
        ("read", c_void_p),
        ("read_bytes", c_longlong),
        ("write", c_void_p),
        ("write_bytes", c_longlong),
        ("sink", c_void_p),
    ]


# Every kernel, with its parameter block (struct name in params.h = class name here).
KERNELS = {
    "fill": FillParams,
    "compress": CompressParams,
    "close": CloseParams,
    "append": AppendParams,
    "advance": AdvanceParams,
    "decode": DecodeParams,
    "elementwise": ElementwiseParams,
    "stream": StreamParams,
}
