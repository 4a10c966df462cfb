"""The fixed text that prompts come from and perplexity is taken of. The same for every engine and model.

`persuasion.txt`: Jane Austen, Persuasion (1818), chapters 1 and 2 without their headings, in the public domain; from
the R package janeaustenr 1.0.0 (which took it from Project Gutenberg), each paragraph on a line of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FILE = Path(__file__).with_name("persuasion.txt")
SOURCE = "Jane Austen, Persuasion (1818), chapters 1 and 2; public domain"


def read() -> str:
    """The whole text, about 4,600 words."""
    return FILE.read_text(encoding="utf-8")


def sha256() -> str:
    """The text's hash, for records."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()
