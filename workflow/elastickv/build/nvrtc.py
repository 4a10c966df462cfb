"""NVRTC through ctypes: CUDA C++ to SASS or PTX without nvcc, a host compiler or a GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

from elastickv.errors import MachineError
from elastickv.system import programs


class CompileError(MachineError):
    """The source did not compile; the message is the compiler's."""


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(max(size.value, 1))
    getattr(library, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw[: size.value]


def compile_source(library_path: Path, source: Path, options: list[str], ptx: bool) -> tuple[bytes, str]:
    """Compiles a translation unit; returns the image (cubin or PTX) and the log (with ptxas's resource report)."""
    library = ctypes.CDLL(str(library_path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    program = ctypes.c_void_p()
    text, name = source.read_bytes(), str(source).encode()
    code = library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None)
    if code:
        raise CompileError(f"NVRTC: {library.nvrtcGetErrorString(code).decode()}", "elastickv env cuda")
    try:
        arguments = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        code = library.nvrtcCompileProgram(program, len(options), arguments)
        log = _text(library, program, "ProgramLog").decode(errors="replace").rstrip("\0")
        if code:
            raise CompileError(
                f"NVRTC could not compile {source}:\n{programs.errors_of(log)}", "correct the kernel source"
            )
        return _text(library, program, "PTX" if ptx else "CUBIN"), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
