"""Greedy tokens of one engine for a passage that is repeated: `python greedy.py ENGINE` prints a JSON list of 32.

Runs in the engine's own environment. The prompt is the fixed text's first 256 tokens twice and its first 64 once more:
the model goes on copying, and each token it takes leads the next likeliest by more than 3 logits. The plain text goes
on by near ties (0.06 logits at 512 tokens), which llama.cpp's 8-bit activations decide one way on one processor and
the other way on another.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

from elastickv.models import fetching, protocol, text
from elastickv.models.worker import ENGINES

TOKENS = 32
PASSAGE, AGAIN = 256, 64
SETTINGS = protocol.Settings(context=1024, decode_tokens=64, reps=3, max_seconds=20, caches=["dynamic"])


def main(name: str) -> None:
    fetched = fetching.fetch({"model": "smollm2"}, name)
    engine = import_module(ENGINES[name]).load(fetched, SETTINGS, "cpu")
    passage = engine.tokenize(text.read())
    engine.prefill(passage[:PASSAGE] * 2 + passage[:AGAIN])
    print(json.dumps(engine.decode(engine.likeliest(), TOKENS)))


if __name__ == "__main__":
    main(sys.argv[1])
