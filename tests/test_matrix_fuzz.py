"""Whatever a config holds, loading it ends in a Config or a UsageError."""

import copy
from pathlib import Path

import yaml
from fuzzing import share
from hypothesis import example, given
from hypothesis import strategies as st

from elastickv import matrix
from elastickv.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
GOOD = "cases: {a: {seq: 1024, heads: 16, dim: 64, compress: 2}}\n"
KEYS = ["cases", "a", "seq", "heads", "dim", "compress", "measure", "reps", "matrices", "axes", "base", "include",
        "exclude", "defaults", "workload", "results", "golden", "noise", "build", "architectures",
        "<<", ""]  # fmt: skip
SCALARS = (
    st.sampled_from([0, 1, 64, -1, 2**70, True, None, "decode", "elementwise", "fp16", "../x", "", "a b", 0.5])
    | st.floats()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
SHIPPED = {
    name: yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8")) for name in ("config.yaml", "sweep.yaml")
}


def dumped(tree: object) -> str:
    return yaml.dump(tree, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def loads_or_refuses(tmp_path: Path, text: str, overrides=None) -> None:
    """Anything but a Config or a UsageError is a defect and fails the test by itself."""
    file = tmp_path / "fuzz.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        config = matrix.load([file], overrides)
    except UsageError as error:
        assert error.problems
        assert str(error)
    else:
        assert config.cases


@share(0.4)
@given(text=st.text(alphabet=st.sampled_from(list("ab:-[]{}&*!?|>'\"%@,#~ \t\n\0\u2028é.0_<")), max_size=60))
@example(text="%YAML 1.1\n---\na: 1")
@example(text="%TAG ! tag:x:\n--- !a b")
@example(text="\ufeffcases: {}")
@example(text="cases: {a: |\n x\n}")
def test_any_text_loads_or_is_refused(tmp_path, text):
    loads_or_refuses(tmp_path, text)


@share(0.3)
@given(tree=st.dictionaries(st.sampled_from(KEYS), TREES, max_size=5))
def test_any_tree_loads_or_is_refused(tmp_path, tree):
    loads_or_refuses(tmp_path, dumped(tree))
    loads_or_refuses(tmp_path, GOOD, {str(key): value for key, value in tree.items()})


@share(0.3)
@given(st.data())
def test_a_valid_config_with_one_value_replaced_loads_or_is_refused(tmp_path, data):
    tree = place = copy.deepcopy(SHIPPED[data.draw(st.sampled_from(sorted(SHIPPED)))])
    while isinstance(place, dict):
        key = data.draw(st.sampled_from(sorted(place, key=str)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(TREES)
            break
        place = place[key]
    loads_or_refuses(tmp_path, dumped(tree))
