"""ctypes mirrors of `kernels/params.h`, field for field."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_longlong, c_uint, c_void_p

READ_AHEAD, MOST_SEGMENTS, MOST_RUNS = 4096, 4, 6


class Live(ctypes.Structure):
    _fields_ = [("head", c_int), ("first", c_int), ("ring", c_int), ("length", c_int)]


class Segment(ctypes.Structure):
    _fields_ = [
        ("k", c_void_p),
        ("v", c_void_p),
        ("k_scale", c_void_p),
        ("v_scale", c_void_p),
        ("bias", c_void_p),
        ("token", c_void_p),
        ("k_state", c_void_p),
        ("v_state", c_void_p),
        ("k_format", c_int),
        ("v_format", c_int),
        ("capacity", c_int),
        ("pad", c_int),
    ]


class Cache(ctypes.Structure):
    _fields_ = [
        ("segments", Segment * MOST_SEGMENTS),
        ("tokens", c_void_p),
        ("live", c_void_p),
        ("closing", c_void_p),
        ("segment_count", c_int),
        ("rows", c_int),
        ("kv_heads", c_int),
        ("dim", c_int),
        ("dtype", c_int),
        ("anchor", c_int),
    ]


class Closing(ctypes.Structure):
    _fields_ = [
        ("segment", c_int),
        ("slot", c_int),
        ("count", c_int),
        ("token", c_int),
        ("head", c_int),
        ("first", c_int),
        ("ring", c_int),
        ("bias", c_float),
    ]


class Run(ctypes.Structure):
    _fields_ = [
        ("segment", c_int),
        ("slot", c_int),
        ("slots", c_int),
        ("each", c_int),
        ("token", c_int),
        ("head", c_int),
        ("ring", c_int),
        ("bias", c_float),
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
        ("runs", c_void_p),
        ("source_capacity", c_int),
        ("most_slots", c_int),
    ]


class CloseParams(ctypes.Structure):
    _fields_ = [("caches", c_void_p), ("layers", c_int), ("rows", c_int)]


class Fresh(ctypes.Structure):
    _fields_ = [("k", c_void_p), ("v", c_void_p), ("pool_size", c_int), ("shift", c_int)]


class AppendParams(ctypes.Structure):
    _fields_ = [("cache", Cache), ("fresh", Fresh), ("closes", c_int), ("pad", c_int)]


class AdvanceParams(ctypes.Structure):
    _fields_ = [
        ("tokens", c_void_p),
        ("live", c_void_p),
        ("closing", c_void_p),
        ("live_of", c_void_p),
        ("closing_of", c_void_p),
        ("first_tokens", c_int),
        ("rows", c_int),
        ("kv_heads", c_int),
        ("pad", c_int),
    ]


class DecodeParams(ctypes.Structure):
    _fields_ = [
        ("cache", Cache),
        ("q", c_void_p),
        ("out", c_void_p),
        ("workspace", c_void_p),
        ("group", c_int),
        ("pending", c_int),
        ("scale", c_float),
        ("waits", c_int),
        ("touched", c_int * MOST_SEGMENTS),
        ("fresh", Fresh),
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


# What tables on the device are made of, beside the kernels' blocks.
TABLES = (Live, Closing, Run)

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
