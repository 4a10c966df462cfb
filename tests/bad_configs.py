"""Bad configs and what their messages must contain, for tests of the package `matrix`."""

from elastickv import anchors
from elastickv.matrix import strict_yaml

SHAPE = "{seq: 1024, heads: 16, dim: 64, compress: 2}"
GOOD = f"cases:\n  a: {SHAPE}\n"


def case(said: str) -> str:
    return f"cases:\n  a: {{seq: 1024, heads: 16, dim: 64, compress: 2, {said}}}\n"


def sweep(said: str) -> str:
    base, axes = "{heads: 4, dim: 64}", "{seq: [64, 128], compress: [2, 4]}"
    return f"matrices:\n  m:\n    base: {base}\n    axes: {axes}\n    {said}\n"


def bomb(levels: int = 20) -> str:
    """Ten aliases a level: 10**levels values from a few hundred bytes."""
    lines = ["x0: &x0 [1]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


# name -> (config text, fragments that one of its messages must hold)
BAD = {
    # YAML itself
    "duplicate id": (f"cases:\n  a: {SHAPE}\n  b: {SHAPE}\n  a: {SHAPE}\n",
        ["bad.yaml:4", "duplicate key cases.a", "line 2"]),
    "duplicate key": ("measure:\n  reps: 5\n  reps: 6\n" + GOOD,
        ["bad.yaml:3", "duplicate key measure.reps", "line 2"]),
    "duplicate section": (GOOD + "backend: cpu\n" + GOOD, ["bad.yaml:4", "duplicate key cases", "line 1"]),
    "syntax": ("cases:\n  a: {seq: 1024\nmeasure: 5\n", ["bad.yaml:3", "syntax error"]),
    "tab": (f"cases:\n\ta: {SHAPE}\n", ["bad.yaml:2", "tab", "spaces"]),
    "empty file": ("", ["bad.yaml", "is empty"]),
    "list file": ("- a\n- b\n", ["bad.yaml:1", "mapping", "a list"]),
    "two documents": (GOOD + "---\n" + GOOD, ["bad.yaml:3", "second YAML document"]),
    "tag": ("backend: !!python/object/apply:os.system [ls]\n" + GOOD,
        ["bad.yaml:1", "tag", "os.system", "not allowed"]),
    "alias bomb": (bomb(), ["bad.yaml:", "more than", "aliases"]),
    "alias of itself": ("cases: &x {a: *x}\n", ["bad.yaml:1: cases.a", "contains itself"]),
    "unknown alias": ("cases: *x\n", ["bad.yaml:1", "undefined alias"]),
    "deep nesting": ("cases: " + "[" * 5000 + "]" * 5000, ["bad.yaml:1", "nested deeper"]),
    "complex key": ("? [a, b]\n: 1\n" + GOOD, ["bad.yaml:1", "as a key"]),
    "merge key": (f"cases: {{a: &x {SHAPE}, b: {{<<: *x}}}}",
        ["bad.yaml:1: cases.b.<<: merge keys are not allowed", "`defaults`", "`b: *a`"]),
    "merge key at the top": ("<<: {backend: cpu}\n" + GOOD, ["bad.yaml:1: <<: merge keys are not allowed"]),
    "quoted merge key": (f"cases: {{a: &x {SHAPE}, b: {{'<<': *x}}}}", ["cases.b.<<", "unknown key"]),
    "control character": ("results: a\0b\n", ["bad.yaml:1", "not YAML"]),
    "not UTF-8": (b"# ok\nresults: caf\xe9\n", ["bad.yaml:2", "UTF-8", "0xe9"]),
    "UTF-16": (GOOD.encode("utf-16"), ["bad.yaml:1", "UTF-8"]),
    "too large": ("# " + "x" * strict_yaml.MOST_BYTES, ["bad.yaml", "larger than 2 MiB"]),
    # structure
    "unknown top key": ("mesure: {reps: 5}\n" + GOOD, ["bad.yaml:1", "mesure", "unknown key", "did you mean measure"]),
    "unknown case key": ("cases:\n  a:\n    seq: 64\n    heads: 4\n    dim: 64\n    compress: 2\n    windw: 8\n",
                         ["bad.yaml:7", "cases.a.windw", "did you mean window"]),
    "far key": ("zzzz: 1\n" + GOOD, ["zzzz", "unknown key", "known here", "results"]),
    "empty key": ("? \n: 1\n" + GOOD, ["unknown key"]),
    "misplaced key": (case("reps: 5"), ["cases.a.reps", "unknown key", "measure: {reps: ...}"]),
    "unknown baseline": ("baselines: {transformer: {}}\n" + GOOD,
        ["baselines.transformer", "did you mean transformers"]),
    "unknown axis": (sweep("").replace("compress:", "compres:"), ["matrices.m.axes.compres", "did you mean compress"]),
    "unknown exclude key": (sweep("exclude: [{sequ: 64}]"), ["matrices.m.exclude[0].sequ", "did you mean seq"]),
    "scalar for mapping": ("cases:\n  a: 5\n", ["bad.yaml:2", "cases.a", "must be a mapping", "5"]),
    "empty mapping": ("cases:\n", ["cases", "must be a mapping", "empty (null)"]),
    "mapping for list": (sweep("").replace("[64, 128]", "{a: 64}"), ["axes.seq", "a list", "a mapping"]),
    "text for integer": (case("window: '64'"), ["cases.a.window", "an integer from 0", '"64", which is text']),
    "float for integer": (case("window: 64.0"), ["cases.a.window", "an integer", "64.0"]),
    "truth for integer": (case("window: true"), ["cases.a.window", "an integer", "true"]),
    "null for integer": (case("window: null"), ["cases.a.window", "an integer", "empty"]),
    "underscored integer": (case("window: 1_0"), ["cases.a.window", "an integer", '"1_0", which is text']),
    "leading zero": (GOOD.replace("dim: 64", "dim: 0100"),
        ["bad.yaml:2: cases.a.dim: 0100 has a leading zero", "write 100, 0o100 for 64", '"0100" in quotes']),
    "leading zero and sign": (case("window: +010"), ["bad.yaml:2: cases.a.window: +010 has a leading zero", "+10"]),
    "leading zero of a text": ("results: 007\n" + GOOD, ["bad.yaml:1: results: 007", '"007" in quotes']),
    "leading zero of an axis": (sweep("").replace("[64, 128]", "[64, 0128]"), ["bad.yaml:4", "axes.seq[1]: 0128"]),
    "base 60": (case("window: 1:30"), ["cases.a.window", "an integer", '"1:30", which is text']),
    "date": (case("window: 2025-01-01"), ["cases.a.window", "an integer", '"2025-01-01", which is text']),
    "digits of another script": (case("window: \u0666\u0664"), ["cases.a.window", "an integer", "which is text"]),
    "off for truth": ("measure: {graphs: off}\n" + GOOD, ["measure.graphs", "true or false", '"off", which is text']),
    "integer for truth": ("measure: {graphs: 1}\n" + GOOD, ["measure.graphs", "true or false", "1"]),
    "text for number": ("golden: {cv: '0.05'}\n" + GOOD, ["golden.cv", "a number", "which is text"]),
    "integer for text": ("results: 5\n" + GOOD, ["results", "text", "5 (put it in quotes for text)"]),
    "NaN": ("measure: {precision: .nan}\n" + GOOD, ["measure.precision", "a number above 0 and below 1", "NaN"]),
    "infinity": ("measure: {max_seconds: .inf}\n" + GOOD, ["measure.max_seconds", "Infinity"]),
    "huge integer": (case("window: 1" + "0" * 5000), ["cases.a.window", "an integer from 0 to 2147483647"]),
    # ranges and lists of values
    "seq 0": (GOOD.replace("1024", "0"), ["bad.yaml:2", "cases.a.seq", "an integer from 1", "not 0"]),
    "compress 0": (GOOD.replace("compress: 2", "compress: 0"), ["cases.a.compress", "from 1", "not 0"]),
    "negative window": (case("window: -1"), ["cases.a.window", "from 0", "not -1"]),
    "negative seed": (case("seed: -1"), ["cases.a.seed", "from 0 to 4294967295"]),
    "dim 66": (GOOD.replace("dim: 64", "dim: 66"), ["cases.a.dim", "a multiple of 4", "not 66"]),
    "truncate 46": ("measure: {truncate: 46}\n" + GOOD, ["measure.truncate", "from 0 to 45", "46"]),
    "two reps": ("measure: {reps: 2}\n" + GOOD, ["measure.reps", "from 3"]),
    "unknown noise limit": ("noise: {gpu: 0.01}\n" + GOOD, ["noise.gpu"]),
    "noise limit of 1": ("noise: {cuda: 1}\n" + GOOD, ["noise.cuda", "below 1"]),
    "negative threshold": ("golden: {cv: -1}\n" + GOOD, ["golden.cv", "above 0", "-1"]),
    "workload": (case("workload: prefill"), ["cases.a.workload", "one of decode, elementwise", '"prefill"']),
    "dtype": (case("dtype: fp8"), ["cases.a.dtype", "one of fp32, fp16, bf16"]),
    "anchor": (case("anchor: median"), ["cases.a.anchor", ", ".join(anchors.every())]),
    "launch": (case("launch: pdl"), ["cases.a.launch", "auto, plain, dependent"]),
    "backend": ("backend: gpu\n" + GOOD, ["bad.yaml:1", "backend", "one of auto, cuda, cpu", '"gpu"']),
    "architecture": ("build: {architectures: [80, 100]}\n" + GOOD, ["build.architectures[1]", "61, 70, 75", "100"]),
    "no architecture": ("build: {architectures: []}\n" + GOOD, ["build.architectures", "not empty"]),
    "architecture twice": ("build: {architectures: [80, 80]}\n" + GOOD,
        ["build.architectures", "none twice", "[80, 80]"]),
    "ptx": ("build: {ptx: 91}\n" + GOOD, ["build.ptx", "one of 61", "null", "91"]),
    # rules between keys
    "heads of kv_heads": (case("kv_heads: 5"), ["cases.a.kv_heads", "multiple of kv_heads", "16", "5"]),
    "another cache float": (case("cache_dtype: bf16"), ["cases.a.cache_dtype", "fp16", "int8 or int4"]),
    "incomplete case": ("cases: {a: {seq: 64}}", ["cases.a", "lacks heads, dim, compress"]),
    "window of elementwise": (case("workload: elementwise, window: 4"),
        ["cases.a.window", "does not apply", "elementwise"]),
    "dtype of elementwise": (case("workload: elementwise, dtype: fp16"), ["cases.a.dtype", "fp32"]),
    "cycle of elementwise": (case("workload: elementwise, measure: {decode_tokens: 4}"),
        ["decode_tokens", "does not apply"]),
    "row too long": ("cases: {a: {seq: 2147483647, heads: 1, dim: 64, compress: 1}}", ["cases.a.seq", "seq * dim"]),
    "sum too large": (case("sinks: 2147483647, window: 1"), ["cases.a.sinks", "sinks + window"]),
    "too much truncated": (case("measure: {reps: 3, truncate: 45}"), ["cases.a.measure.truncate", "leaves 1 of 3"]),
    "nothing to measure": ("backend: cpu\n", ["bad.yaml", "cases and matrices are both empty"]),
    "gguf repo alone": ("baselines: {gguf: {repo: a/b}}\n" + GOOD, ["baselines.gguf", "repo and file"]),
    "model with a line end": ('baselines: {transformers: {model: "a\\nb"}}\n' + GOOD,
        ["baselines.transformers.model", "without control characters"]),
    "model that starts with a space": ("baselines: {transformers: {model: ' b'}}\n" + GOOD,
        ["baselines.transformers.model", "not starting with a space"]),
    # ids and paths
    "capital id": (f"cases: {{Big: {SHAPE}}}", ["cases.Big", "lower-case"]),
    "id with slash": (f"cases: {{a/b: {SHAPE}}}", ["cases.a/b", "is not a valid id"]),
    "long id": (f"cases: {{{'a' * 101}: {SHAPE}}}", ["is not a valid id", "at most 100"]),
    "results climbs out": ("results: results/../../x\n" + GOOD, ["bad.yaml:1", "results", "'..' is not allowed"]),
    "results is the project": ("results: .\n" + GOOD, ["results", "must be a folder below results/"]),
    "results is a source": ("results: config/config.yaml\n" + GOOD, ["bad.yaml:1", "config holds sources"]),
    "results is made": ("results: build\n" + GOOD, ["bad.yaml:1", "deleted by `make clean`"]),
    "results of all": ("results: results/\n" + GOOD, ["bad.yaml:1", "of all runs"]),
    "results committed": ("results: results/reference/h200\n" + GOOD, ["bad.yaml:1", "committed"]),
    "results of home": ("results: ~/x\n" + GOOD, ["results", "not expanded"]),
    "results that end with a blank": ("results: 'mine '\n" + GOOD, ["bad.yaml:1: results", "a space"]),
    "results with braces": ("results: 'a{b}'\n" + GOOD, ["results", "without braces"]),
    "no results": ("results: ''\n" + GOOD, ["results", "not empty"]),
    # sweeps
    "exclude of nothing": (sweep("exclude:\n      - {seq: 64}\n      - {seq: 65}"),
        ["bad.yaml:7", "exclude[1]", "matches no combination"]),
    "exclude of everything": (sweep("exclude: [{heads: 4}]"), ["matrices.m", "no cases left"]),
    "empty exclude": (sweep("exclude: [{}]"), ["exclude[0]", "is empty"]),
    "incomplete include": (sweep("include: [{seq: 512}]"), ["bad.yaml:5", "include[0]", "lacks heads, dim, compress"]),
    "no axes": ("matrices: {m: {base: {seq: 4}}}", ["matrices.m", "lacks axes"]),
    "empty axes": ("matrices: {m: {axes: {}}}", ["matrices.m.axes", "is empty"]),
    "value twice": (sweep("").replace("[2, 4]", "[2, 2]"), ["matrices.m.axes.compress", "none twice"]),
    "axis also in base": (sweep("").replace("dim: 64}", "dim: 64, seq: 4}"), ["matrices.m.axes.seq", "also in base"]),
    "bad combination": (sweep("").replace("heads: 4,", "heads: 4, kv_heads: 3,"),
        ["matrices.m.kv_heads: m-seq64-compress2", "and 3 more"]),
    "too many": ("matrices: {m: {axes: {seq: %s, heads: %s, dim: %s}}}" % ((list(range(4, 404, 4)),) * 3),
                 ["matrices.m.axes", "1000000 combinations", "10000"]),
    "long sweep id": (sweep("").replace("  m:", f"  {'m' * 90}:"),
        ["bad.yaml:2", f"matrices.{'m' * 90}", f"{'m' * 90}-seq128-compress2 of 107 characters", "and 3 more",
         "at most 100", "shorten the sweep's name", "to base"]),
    "long id of an include": (
        sweep("include: [{seq: 512, heads: 4, dim: 64, compress: 2}]").replace("  m:", f"  {'m' * 78}:"),
        ["bad.yaml:5", "include[0]", f"{'m' * 78}-seq512-heads4-dim64-compress2 of 108 characters;"]),
    "sweep id is a case's": (f"cases: {{m-seq64-compress2: {SHAPE}}}\n" + sweep(""), ["m-seq64-compress2", "unique"]),
}  # fmt: skip
