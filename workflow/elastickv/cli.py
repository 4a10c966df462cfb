"""The command line of `elastickv`: argument parsing only. Each command's module has `run(args) -> exit code`."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from elastickv import __version__, kinds, policies
from elastickv.errors import ElastickvError, MachineError
from elastickv.system import surroundings

CONFIG_DEFAULT = "config/config.yaml"


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviated flags, also for subcommands (argparse creates them from this class).

    The error for an unknown flag suggests the most similar flag of the command.
    """

    def __init__(self, **options):
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(self, args=None, namespace=None):
        parsed, unknown = super().parse_known_args(args, namespace)
        near = self._nearest_flags(unknown)
        if near:  # without a suggestion, the top-level parser reports the error
            self.error(f"unrecognized arguments: {' '.join(unknown)}; did you mean {', '.join(near)}?")
        return parsed, unknown

    def _nearest_flags(self, words: list[str]) -> list[str]:
        """The most similar flags of this command for the unknown flags in `words`; empty if none is similar."""
        given = [word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")]
        known = [flag.removeprefix("--") for flag in self._option_string_actions if flag.startswith("--")]
        if not given or self._subparsers:  # a flag before the command name may belong to the command
            return []
        try:
            from elastickv.matrix.structure import nearest

            return list(dict.fromkeys(f"--{near}" for name in given if (near := nearest(name, known))))
        except ModuleNotFoundError:  # outside the environments: no suggestion
            return []


def _add_config(parser: argparse.ArgumentParser, *, values: bool = True) -> None:
    # As in Snakemake: several files per option, and the option may be repeated.
    several = {"action": "extend", "nargs": "+"}
    text = f"YAML config files; later files override earlier ones (default: {CONFIG_DEFAULT})"
    parser.add_argument("--configfile", **several, metavar="F", help=text)
    if values:
        parser.add_argument("--config", **several, default=[], metavar="KEY=VALUE", help="override config values")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")


def _add_planning(commands) -> None:
    """Adds the commands that read a config."""
    cases = commands.add_parser("cases", help="list the resolved cases of a config")
    cases.set_defaults(module="elastickv.report.listing")
    show = commands.add_parser("show", help="print the verdict table of a finished run")
    show.add_argument("--if-finished", action="store_true", help="print nothing if no run has finished yet")
    show.set_defaults(module="elastickv.report.show")
    plan = commands.add_parser("plan", help="write the plan of a results folder, to run steps without Snakemake")
    plan.set_defaults(module="elastickv.pipeline.plan")
    doctor = commands.add_parser("doctor", help="check that this machine can run a config, and print fixes")
    doctor.set_defaults(module="elastickv.doctor")
    for parser in (cases, show, plan, doctor):
        _add_config(parser)
    for parser in (cases, doctor):
        _add_json(parser)
    overrides = commands.add_parser("overrides", help="convert make's SET to a config file and print its path")
    _add_config(overrides, values=False)
    text = "KEY=VALUE ...; nested keys use dots, quoting follows the shell"
    overrides.add_argument("--set", default="", metavar="TEXT", help=text)
    overrides.set_defaults(module="elastickv.pipeline.overrides")
    env = commands.add_parser("env", help="create one of the pinned environments under .envs/")
    env.add_argument("name", help="name of a lock file in envs/: core, dev, cuda, llm, ...")
    env.add_argument("--adopt", action="store_true", help="use this interpreter and PATH; install nothing")
    env.set_defaults(module="elastickv.environments")


def _add_build(commands) -> None:
    parser = commands.add_parser("build", help="compile the kernels")
    parser.set_defaults(module="elastickv.build")
    kinds = parser.add_subparsers(dest="what", required=True, metavar="{cuda,cpu,image,fatbin}")

    image = kinds.add_parser("image", help="compile the CUDA image of one architecture")
    image.add_argument("--architecture", type=integer, required=True)
    image.add_argument("--ptx", action="store_true")
    image.add_argument("--out", required=True)

    fatbin = kinds.add_parser("fatbin", help="merge images into a fatbin and verify its contents")
    fatbin.add_argument("--images", nargs="+", required=True)
    fatbin.add_argument("--out", required=True)
    fatbin.add_argument("--manifest", required=True)

    cuda = kinds.add_parser("cuda", help="compile all images and merge them into the fatbin")
    cuda.add_argument("--architectures", default="61,70,75,80,86,89,90", help="comma-separated")
    cuda.add_argument("--ptx", type=integer, default=90, help="architecture of the PTX for newer GPUs; 0: none")
    for parser in (image, cuda):
        parser.add_argument("--compiler", choices=["auto", "nvcc", "nvrtc"], default="auto")
    cuda.add_argument("--out", default="build/cuda")

    cpu = kinds.add_parser("cpu", help="compile the CPU library")
    cpu.add_argument("--out", default="build/cpu")


def _add_measuring(parser: argparse.ArgumentParser, *, build: bool, store_required: bool = False) -> None:
    """Adds what all commands that measure for a plan take."""
    parser.add_argument("--store", required=store_required, help="record store; stored measurements are not repeated")
    parser.add_argument("--remeasure", action="store_true", help="measure even if the store holds the record")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 if the status is not ok")
    if build:
        parser.add_argument("--build", default="build", help="folder that holds the builds, cuda/ and cpu/")


def _add_measure(commands) -> None:
    parser = commands.add_parser("measure", help="measure one case of a plan")
    parser.add_argument("--case", required=True, help="file with the canonical case JSON")
    parser.add_argument("--out", required=True)
    _add_measuring(parser, build=True, store_required=True)
    parser.set_defaults(module="elastickv.measure.supervisor")

    ceilings = commands.add_parser("ceilings", help="measure read and copy bandwidth by buffer size")
    ceilings.add_argument("--backend", choices=["auto", "cuda", "cpu"], default="auto")
    ceilings.add_argument("--build", default="build")
    ceilings.add_argument("--out", required=True)
    ceilings.set_defaults(module="elastickv.measure.ceilings")


def integer(text: str) -> int:
    """An optional sign and ASCII digits, as in YAML: no `_`, no blanks. Raises ValueError otherwise."""
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise ValueError("not an integer")
    return int(text)


def number(text: str) -> float:
    """A number in ASCII without `_` or blanks. `nan` and `inf` pass; validation rejects them. Raises ValueError."""
    if not re.fullmatch(r"[-+.0-9a-zA-Z]+", text):
        raise ValueError("not a number")
    return float(text)


def _or_text(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Parses a number if possible and keeps the text otherwise, so that validation reports all errors at once."""

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            return text

    return read


def truth(text: str) -> bool:
    """`true` or `false`, as in YAML. Raises ValueError otherwise."""
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


def _add_keys(group: argparse._ArgumentGroup, owners: dict[str, Any], keys: dict[str, Any]) -> None:
    """Adds one flag per key that a policy or a workload declares."""
    types = {int: _or_text(integer), bool: _or_text(truth), str: str}
    for name, key in keys.items():
        users = ", ".join(owner for owner, declared in owners.items() if name in declared.KEYS)
        group.add_argument(f"--{name}", type=types[key.kind], help=f"{users}: {key.meaning}".replace("%", "%%"))


def _add_bench(commands) -> None:
    parser = commands.add_parser("bench", help="measure one case defined by flags (--flag=value or --flag value)")
    parser.set_defaults(module="elastickv.measure.bench")
    case = parser.add_argument_group("case")
    for flag in ("seq", "heads", "dim", "batch", "kv_heads", "seed"):
        case.add_argument(f"--{flag}", type=_or_text(integer))
    for flag in ("workload", "dtype", "cache_dtype", "key_dtype", "value_dtype", "launch", "pass_order", "backend"):
        case.add_argument(f"--{flag}")
    policy = parser.add_argument_group("policy of the elastic cache (decode)")
    policy.add_argument("--policy", help=f"one of {', '.join(policies.every())} (default: {policies.DEFAULT})")
    _add_keys(policy, policies.every(), policies.every_key())
    _add_keys(parser.add_argument_group("keys of other workloads"), kinds.every(), kinds.every_key())
    measure = parser.add_argument_group("measurement (exact values, not upper bounds as in a config)")
    for flag in ("reps", "warmup", "inner_loops", "decode_tokens"):
        measure.add_argument(f"--{flag}", type=_or_text(integer))
    for flag in ("truncate", "max_seconds", "precision", "confidence", "sustained_seconds"):
        measure.add_argument(f"--{flag}", type=_or_text(number))
    more = "number of processes, which measure the case in turn and share max_seconds (default: 1)"
    measure.add_argument("--processes", type=_or_text(integer), help=more)
    measure.add_argument("--no-graphs", dest="graphs", action="store_false", help="plain launches without CUDA graphs")
    measure.add_argument("--inference", action="store_true", help="also time the inference cycle")
    measure.add_argument("--paired-baseline", action="store_true", help="no effect: every case is paired")
    study = parser.add_argument_group("launch parameters of decode on a GPU, for experiments (default: chosen by rule)")
    study.add_argument("--loop", choices=["cores"], help="use CUDA cores even where tensor cores would be used")
    study.add_argument(
        "--warps", type=integer, choices=range(1, 17), metavar="N", help="warps per block; must be a compiled size"
    )
    study.add_argument("--splits", type=integer, choices=range(1, 129), metavar="N", help="maximum splits per row")
    study.add_argument(
        "--stage", choices=["never", "always"], help="whether each warp prefetches its second unit to shared memory"
    )
    output = parser.add_argument_group("output")
    _add_json(output)
    output.add_argument("--out", metavar="FILE", help="also write the record to this file")
    output.add_argument("--save-tensors", metavar="FILE.npz", help="save inputs and outputs, for rechecking")
    output.add_argument("--once", action="store_true", help="launch the elastic arm once, for a profiler")
    output.add_argument("--strict", action="store_true", help="exit with code 1 if the status is not ok")
    output.add_argument("--build", default="build", help="folder that holds the builds, cuda/ and cpu/")


def _add_baseline(commands) -> None:
    parser = commands.add_parser("baseline", help="measure language-model baselines and peers")
    parser.set_defaults(module="elastickv.models")
    kinds = parser.add_subparsers(dest="which", required=True, metavar="{transformers,gguf,peers}")
    for name, engine in {"transformers": "Hugging Face Transformers", "gguf": "llama.cpp and a GGUF file"}.items():
        one = kinds.add_parser(name, help=engine)
        one.add_argument("--out", required=True)
    peers = kinds.add_parser("peers", help="compare attention kernels of other libraries with ours")
    peers.add_argument("--cases", nargs="+", required=True, help="files with canonical case JSON")
    peers.add_argument("--results", required=True, help="folder for peers_<name>.json")
    peers.set_defaults(module="elastickv.peers.supervisor")
    for name, one in kinds.choices.items():
        one.add_argument("--settings", required=True, help="settings file (JSON) of the plan")
        _add_measuring(one, build=name == "peers")


def _add_judging(commands) -> None:
    summarise = commands.add_parser("summarise", help="write summary.csv from the records of a plan")
    summarise.set_defaults(module="elastickv.report.summary")
    verdict = commands.add_parser("verdict", help="write verdicts.json from the records of a plan")
    verdict.add_argument("--golden", required=True, help="thresholds file (JSON) of the plan")
    verdict.set_defaults(module="elastickv.judge.verdict")
    report = commands.add_parser("report", help="write report.md, figures, posts, notebook, manifest or README part")
    report.add_argument("what", choices=["markdown", "figures", "social", "notebook", "manifest", "readme"])
    report.set_defaults(module="elastickv.report")
    for parser in (summarise, verdict):
        parser.add_argument("--noise", required=True, help="noise limits file (JSON) of the plan")
    for parser in (summarise, verdict, report):
        parser.add_argument("--cases", required=True, help="case list (JSON) of the plan")
        parser.add_argument("--results", required=True, help="results folder")
        parser.add_argument("--out", required=True)


def _add_checking(commands) -> None:
    verify = commands.add_parser(
        "verify", help="check that a results folder is consistent; exit with code 1 and a list of errors if not"
    )
    verify.add_argument("folder", metavar="DIR", help="results folder")
    verify.add_argument("--unfinished", action="store_true", help="accept a run that has not written its manifest yet")
    verify.add_argument(
        "--fingerprint", action="store_true", help="print one hash of a consistent folder, to publish with its numbers"
    )
    text = "also compare with the commit that made it, by that commit's code: a revision, or a checkout's path"
    verify.add_argument("--against", metavar="COMMIT", help=text)
    _add_json(verify)
    verify.set_defaults(module="elastickv.audit")
    compare = commands.add_parser("compare", help="compare two results folders; exit with code 1 on a regression")
    compare.add_argument("old", metavar="OLD", help="results folder to compare against")
    compare.add_argument("new", metavar="NEW", help="results folder to judge")
    tolerance = (
        "change that counts as none (0.02: 2%%; default: 0.5%%, or 3 times the spread between processes if larger)"
    )
    compare.add_argument("--tolerance", type=_or_text(number), help=tolerance)
    again = "results folder of a repeated measurement of NEW: a change counts only if that has it too"
    compare.add_argument("--confirm", metavar="AGAIN", help=again)
    compare.add_argument("--format", choices=["text", "markdown", "json"], default="text")
    compare.add_argument("--across-devices", action="store_true", help="allow comparing records of different devices")
    compare.set_defaults(module="elastickv.judge.compare")
    ab = commands.add_parser("ab", help="time two commits' kernels in one process; exit with code 1 on a regression")
    ab.add_argument("base", metavar="BASE", help="git revision or checkout to compare against")
    ab.add_argument("head", metavar="HEAD", help="git revision or checkout to judge")
    _add_config(ab, values=False)
    ab.add_argument("--case", action="extend", nargs="+", metavar="ID", help="cases to time (default: all)")
    ab.add_argument("--backend", choices=["auto", "cuda", "cpu"], default="auto")
    ab.add_argument(
        "--tolerance", type=_or_text(number), default=0.01, help="change that counts as none (default: 0.01)"
    )
    repetitions = "how often the caches are allocated anew, at least 3 (default: 5)"
    ab.add_argument("--repetitions", type=_or_text(integer), default=5, metavar="N", help=repetitions)
    seconds = "longest sampling of one arm in one repetition (default: 5)"
    ab.add_argument("--seconds", type=_or_text(number), default=5.0, help=seconds)
    ab.set_defaults(module="elastickv.measure.ab")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(prog="elastickv", description="Elastic KV cache benchmark: no number without a check.")
    parser.add_argument("--version", action="version", version=f"elastickv {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_planning, _add_build, _add_measure, _add_bench, _add_baseline, _add_judging, _add_checking):
        add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 findings, 2 bad usage or config, 3 machine."""
    surroundings.speak_utf8()
    if isinstance(sys.stdout, io.TextIOWrapper):  # `?` for characters that its encoding lacks; --json stays valid JSON
        sys.stdout.reconfigure(errors="replace")
    surroundings.settle(Path(__file__).parents[2])
    if os.environ.get("ELASTICKV_DIE_WITH_PARENT"):
        from elastickv.system import orphans

        orphans.die_with_parent(and_descendants=True)
    try:
        args = build_parser().parse_args(argv)
        return import_module(args.module).run(args)
    except ElastickvError as error:
        print(f"elastickv: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if str(error.name).startswith(__package__):
            raise
        missing = MachineError(
            f"{sys.executable} lacks the Python module {error.name}", "make setup, then .venv/bin/elastickv"
        )
        print(f"elastickv: {missing}", file=sys.stderr)
        return missing.exit_code
    except PermissionError as error:
        if error.filename is None:
            raise
        from elastickv.system import readable

        print(f"elastickv: {error.filename}: {error.strerror}\nfix: {readable.remedy(error)}", file=sys.stderr)
        return MachineError.exit_code
    except KeyboardInterrupt:
        print("elastickv: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
