"""`.venv/bin/snakemake`: Snakemake itself, but the config goes to the Snakefile as it was named on the command line.

Snakemake would read `--configfile` and `--config` before the Snakefile runs: by other rules than ours, and with a
traceback or a message that names no file where it cannot. So both travel in one override that it takes for plain text,
also to the processes that it starts on other machines, and `start.begin` reads them, strictly. `python -m snakemake`
works too, with Snakemake's own reading before ours.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from elastickv.system import surroundings

KEY = "elastickv"


def packed(files: Sequence[str | Path], overrides: Sequence[str]) -> str:
    """The override that holds config files and overrides, in characters that mean nothing to YAML or in quotes."""
    pairs = [*(("configfile", str(file)) for file in files), *(("config", override) for override in overrides)]
    return f"{KEY}={urlencode(pairs, safe='/', errors='surrogateescape')}"


def unpacked(config: Mapping[str, Any]) -> tuple[list[str], list[str]] | None:
    """Config files and overrides out of Snakemake's config, or None where nothing was packed."""
    if KEY not in config:
        return None
    pairs = parse_qsl(str(config[KEY]), keep_blank_values=True, errors="surrogateescape")
    return [value for name, value in pairs if name == "configfile"], [
        value for name, value in pairs if name == "config"
    ]


def hand_over(args: Namespace) -> None:
    """Packs what the parsed command line of Snakemake (and its profiles) says of the config, if anything."""
    if not args.configfile and not args.config:
        return
    files = [os.path.abspath(file) for file in args.configfile] if args.directory else args.configfile
    args.configfile, args.config = [], [packed(files, args.config or [])]


def main(argv: list[str] | None = None) -> int:
    """Snakemake's own `main`, with the config handed over."""
    surroundings.speak_utf8()
    surroundings.settle(Path(__file__).parents[3])
    if not surroundings.takes_files(Path.cwd()):
        print(f"elastickv: {Path.cwd()}: this user cannot write to the folder (fix: work in a clone)", file=sys.stderr)
        return 3
    from snakemake import cli

    try:
        parser, args = cli.parse_args(argv)
        hand_over(args)
        return 0 if cli.args_to_api(args, parser) else 1
    except Exception as error:
        cli.print_exception(error)
        return 1
