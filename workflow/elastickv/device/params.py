"""The kernels' parameter blocks, read from the headers that define them: `kernels/params.h`, `kernels/<name>/params.h`.

`from elastickv.device.params import DecodeParams, READ_AHEAD` gives a structure or a constant of the shared header;
`block_of` gives the block of any kernel, also of one with a header of its own. Structures are of ctypes: fields by
position or by name, nested ones as values, addresses as integers, `bytes(block)` as the kernel gets it.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from pathlib import Path
from typing import Any

from elastickv.errors import UsageError
from elastickv.system.kernel_files import KERNELS

HEADER = "params.h"
SCALARS: dict[str, Any] = {
    "char": ctypes.c_char,
    "short": ctypes.c_short,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}

READABLE = "structs of numbers, pointers, earlier structs and arrays of these; and constexpr int"

_NOT_C = re.compile(r"//[^\n]*|/\*.*?\*/|^#[^\n]*", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"^constexpr int (\w+) = ([^;]+);", re.MULTILINE)
_AS_ENUM = r"enum constant_\1 { \1 = \2 };"
_STRUCT = re.compile(r"^struct (\w+)\s*\{", re.MULTILINE)


class Definitions:
    """The structures and constants of a header, which may use those of another."""

    def __init__(self, header: Path, shared: Definitions | None = None):
        """Reads `header`. UsageError, with its place, where it holds more than structures and integer constants."""
        import cffi

        text = _NOT_C.sub(lambda found: "\n" * found[0].count("\n"), header.read_text(encoding="utf-8"))
        structs, constants = _STRUCT.findall(text), [name for name, _ in _CONSTANT.findall(text)]
        # In C a struct's name needs a typedef; all on the first line, so that the parser's line numbers stay right.
        names = "".join(f"typedef struct {name} {name}; " for name in structs)
        self._sources = [*(shared._sources if shared else ()), names + _CONSTANT.sub(_AS_ENUM, text)]
        self._made: dict[str, Any] = dict(shared._made) if shared else {}
        self._ffi = cffi.FFI()
        try:
            for source in self._sources:
                self._ffi.cdef(source)
            self._made |= {name: self._ffi.typeof(f"enum constant_{name}").relements[name] for name in constants}
            for name in structs:
                self._made[name] = self._structure(name)
        except (cffi.CDefError, cffi.FFIError, NotImplementedError, ValueError) as error:
            message = " ".join(str(error).replace(" <cdef source string>", "").split())
            raise UsageError(f"{header}: {message}; allowed are {READABLE}") from error

    def get(self, name: str) -> Any:
        """A structure's class, or a constant; None where the header has neither."""
        return self._made.get(name)

    def structures(self) -> list[Any]:
        """Every structure's class, those of the other header included."""
        return [made for made in self._made.values() if isinstance(made, type)]

    def _structure(self, name: str) -> Any:
        described = self._ffi.typeof(f"struct {name}")
        fields = [(field, self._type(one.type)) for field, one in described.fields or ()]
        if any(one.bitsize >= 0 for _, one in described.fields or ()):
            raise ValueError(f"struct {name} has a bit field")
        return type(name, (ctypes.Structure,), {"_fields_": fields, "__slots__": (), "__module__": __name__})

    def _type(self, described: Any) -> Any:
        """The ctypes of a field's type. ValueError for one that no block may have."""
        if described.kind == "pointer":
            return ctypes.c_void_p
        if described.kind == "array":
            return self._type(described.item) * described.length
        known = self._made if described.kind == "struct" else SCALARS
        if described.cname not in known:
            raise ValueError(f"a field of type {described.cname}")
        return known[described.cname]


@cache
def shared() -> Definitions:
    """What `kernels/params.h` defines."""
    return Definitions(KERNELS / HEADER)


@cache
def of_kernel(kernel: str) -> Definitions:
    """What a kernel's own header and the shared one define; the shared one alone where it has none."""
    header = KERNELS / kernel / HEADER
    return Definitions(header, shared()) if header.is_file() else shared()


def block_name(kernel: str) -> str:
    """The name of a kernel's parameter block: `FooBarParams` of `foo_bar`."""
    return "".join(word.capitalize() for word in kernel.split("_")) + "Params"


def block_of(kernel: str) -> Any:
    """The class of a kernel's parameter block. UsageError where no header defines it."""
    made = of_kernel(kernel).get(block_name(kernel))
    if made is None:
        own = KERNELS / kernel / HEADER
        raise UsageError(f"{own}: no struct {block_name(kernel)}, the parameter block of the kernel {kernel}")
    return made


def __getattr__(name: str) -> Any:
    """A structure or a constant of the shared header."""
    found = None if name.startswith("__") else shared().get(name)
    if found is None:
        raise AttributeError(f"{KERNELS / HEADER} defines no {name}")
    return found
