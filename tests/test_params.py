"""Parameter blocks as Python reads them from the headers, against the compiler."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from elastickv.build import headers
from elastickv.device import params
from elastickv.errors import UsageError

HEADER = """#pragma once
// Sizes that others use.
constexpr int PLACES = 3;
constexpr int TWICE = PLACES * 2;  /* an expression */

struct Place {
  int head;
  float weight;
};

struct SeveralPlacesParams {
  Place places[PLACES];
  const struct Place* more;  // a pointer to one that is known, or to one further on
  const struct Later* later;
  int touched[TWICE];
  unsigned seed;
  long long bytes;
  char word[5];
  double* sums;
};

struct Later {
  short first;
  double second;
};
"""


def compiled_layout(headers: list[Path], blocks: list[type[ctypes.Structure]], folder: Path) -> list[int]:
    """Size and offset of every field of each block, from the compiler."""
    lines = []
    for block in blocks:
        lines.append(f'printf("%zu\\n", sizeof({block.__name__}));')
        lines += [f'printf("%zu\\n", offsetof({block.__name__}, {field}));' for field, _ in block._fields_]
    included = ["<cstddef>", "<cstdio>", *(f'"{header}"' for header in headers)]
    program = "\n".join([*(f"#include {name}" for name in included), "int main() {", *lines, "}"])
    (folder / "layout.cpp").write_text(program)
    subprocess.run(["g++", folder / "layout.cpp", "-o", folder / "layout"], check=True)
    printed = subprocess.run([folder / "layout"], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in printed.split()]


def layout(blocks: list[type[ctypes.Structure]]) -> list[int]:
    return [
        n for block in blocks for n in (ctypes.sizeof(block), *(getattr(block, f).offset for f, _ in block._fields_))
    ]


def own_headers() -> list[Path]:
    """Those of kernels that have one, examples included."""
    folders = (params.KERNELS, *(params.KERNELS.parent / "docs/extending").glob("*/files/kernels"))
    return sorted(path for folder in folders for path in folder.glob(f"*/{params.HEADER}"))


@pytest.mark.parametrize("own", [None, *own_headers()], ids=lambda path: path.parent.name if path else "shared")
def test_blocks_are_laid_out_as_the_compiler_does(tmp_path, own):
    blocks = (params.Definitions(own, params.shared()) if own else params.shared()).structures()
    headers = [params.KERNELS / params.HEADER, *filter(None, [own])]
    assert blocks
    assert layout(blocks) == compiled_layout(headers, blocks, tmp_path)


def test_every_kernel_has_a_block_of_its_name():
    for kernel in headers.sources("cpu", params.KERNELS):
        assert issubclass(params.block_of(kernel), ctypes.Structure)
    with pytest.raises(UsageError, match=r"kernels/sort_rows/params\.h: no struct SortRowsParams"):
        params.block_of("sort_rows")


def test_arrays_constants_and_pointers_are_read(tmp_path):
    (tmp_path / "params.h").write_text(HEADER)
    read = params.Definitions(tmp_path / "params.h")
    assert (read.get("PLACES"), read.get("TWICE"), read.get("absent")) == (3, 6, None)
    blocks = read.structures()
    assert layout(blocks) == compiled_layout([tmp_path / "params.h"], blocks, tmp_path)
    block = read.get("SeveralPlacesParams")(more=4096, touched=(1, 2), seed=7)
    block.places[1].weight = 0.5
    assert (block.more, block.later, list(block.touched), block.places[1].weight) == (
        4096,
        None,
        [1, 2, 0, 0, 0, 0],
        0.5,
    )
    assert len(bytes(block)) == ctypes.sizeof(block)
    with pytest.raises(AttributeError):
        block.sed = 7


def test_a_kernels_own_header_uses_what_the_shared_one_defines(tmp_path):
    (tmp_path / "params.h").write_text(HEADER)
    (tmp_path / "own.h").write_text(
        '#include "params.h"\nstruct OwnParams {\n  Place place;\n  int more[PLACES];\n};\n'
    )
    own = params.Definitions(tmp_path / "own.h", params.Definitions(tmp_path / "params.h"))
    assert ctypes.sizeof(own.get("OwnParams")) == 20


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bool on;", "_Bool"),
        ("Unknown one;", "parse error"),
        ("int n[MANY];", ":2: unsupported expression"),
    ],
)
def test_what_python_cannot_read_is_refused_with_the_header(tmp_path, line, said):
    (tmp_path / "params.h").write_text(f"struct OwnParams {{\n  {line}\n}};\n")
    with pytest.raises(UsageError, match=r"params\.h") as stated:
        params.Definitions(tmp_path / "params.h")
    assert said in str(stated.value)
    assert len(str(stated.value).splitlines()) == 1
