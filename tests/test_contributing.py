"""The skeletons in CONTRIBUTING.md run as they stand, and the files it sends one to are there."""

import pathlib
import re
import tomllib

import jax
import jax.numpy as jnp
import pytest

import seqjax as sj

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SKELETONS = dict(zip(("cell", "layer", "engine"), re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)))


def made(skeleton):
    names = {"__name__": f"skeleton_{skeleton}"}
    exec(SKELETONS[skeleton], names)
    return names


def test_the_cell():
    cell = made("cell")["leaky_unit"](3, 4, leak=0.25)
    assert repr(cell) == "leaky_unit(3, 4, leak=0.25)"
    params, xs = cell.init(jax.random.key(0)), jnp.ones((2, 3))
    _, (first, second) = sj.unroll(cell, params, cell.initial_state(params), xs)
    assert first == pytest.approx(0.75 * jnp.tanh(xs[0] @ params.w_x))
    assert second == pytest.approx(0.25 * first + 0.75 * jnp.tanh(xs[1] @ params.w_x + first @ params.w_h))


def test_the_layer():
    layer = made("layer")["gain"](3)
    params = layer.init(jax.random.key(0))._replace(gain=jnp.array([1.0, 2.0, 3.0]))
    xs = jnp.full((2, 1, 3), jnp.nan).at[0].set(1)
    _, ys = layer.apply(params, layer.initial_state(params, (1,)), xs, lengths=jnp.array([1]))
    assert ys.tolist() == [[[1, 2, 3]], [[0, 0, 0]]]


def test_the_engine(monkeypatch):
    from seqjax.engines import plan

    monkeypatch.setitem(plan.ENGINES, "loop", made("engine")["prepare"])
    cell = sj.lstm(3, 4)
    params, xs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 2, 3))
    state = cell.initial_state(params, (2,))
    options = {"lengths": jnp.array([5, 2]), "reverse": True}
    jax.tree.map(
        assert_close,
        sj.unroll(cell, params, state, xs, engine="loop", **options),
        sj.unroll(cell, params, state, xs, engine="scan", **options),
    )


def assert_close(a, b):
    assert a == pytest.approx(b)


def test_the_files_it_names_are_there():
    names = re.findall(r"`((?:seqjax|tests|notebooks|benchmarks|docs|\.ci)/[\w/.]*)`", PAGE)
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name.replace("plan.ENGINES", "plan.py")).exists()] == []


def test_every_marker_is_documented():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    markers = [line.partition(":")[0] for line in options["markers"]]
    assert {"slow", "learning", "shared_data"} <= set(markers)
    assert [name for name in markers if f"`{name}`" not in PAGE] == []
    assert options["addopts"].endswith("-m 'not slow and not learning'")
    assert "-m slow" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_style_takes_ten_lines():
    assert len(re.findall(r"^\d+\. ", PAGE.split("## Style")[1], re.MULTILINE)) == 10
