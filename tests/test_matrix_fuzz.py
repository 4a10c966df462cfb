"""Whatever a config holds, loading it ends in a Config or a UsageError."""

from pathlib import Path

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elastickv import matrix
from elastickv.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
GOOD = "cases: {a: {seq: 1024, heads: 16, dim: 64, compress: 2}}\n"
KEYS = ["cases", "a", "seq", "heads", "dim", "compress", "measure", "reps", "matrices", "axes", "base", "include",
        "exclude", "defaults", "workload", "results", "golden", "build", "architectures", "<<", ""]  # fmt: skip
SCALARS = (
    st.sampled_from([0, 1, 64, -1, 2**70, True, None, "decode", "elementwise", "fp16", "../x", "", "a b", 0.5])
    | st.floats()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


@QUICK
@given(text=st.text(alphabet=st.sampled_from(list("ab:-[]{}&*!?|>'\"%@,#~ \t\n\0\u2028é.0_<")), max_size=60))
@example(text="%YAML 1.1\n---\na: 1")
@example(text="%TAG ! tag:x:\n--- !a b")
@example(text="\ufeffcases: {}")
@example(text="cases: {a: |\n x\n}")
def test_any_text_loads_or_is_refused(tmp_path, text):
    loads_or_refuses(tmp_path, text)


@QUICK
@given(tree=st.dictionaries(st.sampled_from(KEYS), TREES, max_size=5))
def test_any_tree_loads_or_is_refused(tmp_path, tree):
    loads_or_refuses(tmp_path, yaml.safe_dump(tree))
    loads_or_refuses(tmp_path, GOOD, {str(key): value for key, value in tree.items()})


@QUICK
@given(st.data())
def test_a_valid_config_with_one_value_replaced_loads_or_is_refused(tmp_path, data):
    text = (ROOT / "config" / data.draw(st.sampled_from(["config.yaml", "sweep.yaml"]))).read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    place = tree
    while isinstance(place, dict):
        key = data.draw(st.sampled_from(sorted(place, key=str)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(TREES)
            break
        place = place[key]
    loads_or_refuses(tmp_path, yaml.safe_dump(tree))
