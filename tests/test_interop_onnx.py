"""ONNX graphs, run by onnxruntime: what they compute is what the module computes, and what cannot be said is told."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from zoo import CELLS, LAYERS, drawn, symbols

import seqjax as sj
from seqjax.cells.registry import REGISTRY
from seqjax.interop.equations import evaluated, names, written_out

pytest.importorskip("jax2onnx")
runtime = pytest.importorskip("onnxruntime")

KEY = jax.random.key(0)
# What the exporter and the runtime deprecate within themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

MODEL = sj.serial(sj.embedding(5, 8), sj.recurrent(sj.lstm(8, 8)), sj.dense(8, 5))


def float32(tree):
    """Floats and integers in the types that graphs have without doubles."""
    kinds = {"f": jnp.float32, "i": jnp.int32}
    return jax.tree.map(lambda x: x.astype(kinds.get(x.dtype.kind, x.dtype)), tree)


def extras_of(n):
    """Every argument by name, for ticks and sequences of these sizes."""
    rng = np.random.default_rng(0)
    return {
        "mask": rng.random(n) > 0.3,
        "reset": rng.random(n) > 0.7,
        "lengths": rng.integers(0, n[0] + 1, n[1:]).astype(np.int32),
    }


def run(graph, xs, state, extra):
    """The outputs by name; the state's leaves go in, and come out, in their order."""
    session = runtime.InferenceSession(graph.SerializeToString())
    known = [each.name for each in session.get_inputs()]
    feed = dict(zip(known, map(np.asarray, jax.tree.leaves((xs, state))))) | extra
    assert set(feed) == set(known)
    return [each.name for each in session.get_outputs()], session.run(None, feed)


def check(module, draw, n=(7, 3), takes=(), initial=False, kind=float32, **options):
    """A graph of a module with moved parameters and states, beside the module itself."""
    is_cell = isinstance(module, sj.Cell)
    params = kind(drawn(module))
    x = kind(draw(jax.random.key(2), n[is_cell:]))
    one = jax.tree.map(lambda x: x[(0,) * len(n[is_cell:])], x)
    state = kind(module.initial_state(params, n[1:]))
    if not initial:
        moved = lambda s: s + jnp.asarray(0.3, s.dtype) if jnp.issubdtype(s.dtype, jnp.inexact) else s
        state = jax.tree.map(moved, state)
    extra = {name: extras_of(n)[name] for name in takes}
    graph = sj.interop.to_onnx(module, params, one, takes=takes, state="initial" if initial else "given", **options)
    found, got = run(graph, x, None if initial else state, extra)
    arrays = {name: jnp.asarray(value) for name, value in extra.items()}
    after, ys = module.step(params, state, x) if is_cell else module.apply(params, state, x, **arrays)
    for a, b in zip(got, jax.tree.leaves((ys, after)), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    return found


COMPLEX = ("lru", "lru_learned_gamma", "s5")


def test_complex_states_are_refused():
    """All that have them: what runtimes make of their products is an error, at the earliest when it is run."""
    found = []
    for name in REGISTRY:
        cell = CELLS[name].make()
        kinds = jax.tree.leaves(cell.initial_state(cell.init(KEY)))
        found += [name] if any(jnp.issubdtype(kind.dtype, jnp.complexfloating) for kind in kinds) else []
    assert tuple(found) == COMPLEX
    cell = sj.cells.lru(3, 4)
    with pytest.raises(ValueError, match=r"to_onnx: expected real numbers, got complex.*export with `exported`"):
        sj.interop.to_onnx(cell, cell.init(KEY), jnp.ones(3))


@pytest.mark.parametrize("name", quick([name for name in CELLS if name not in COMPLEX], "lstm"))
def test_the_tick_of_a_cell(name):
    """Of any batch."""
    found = check(CELLS[name].make(), CELLS[name].draw)
    if name == "lstm":
        assert found == ["y", "next_state.h", "next_state.c"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REGISTRY if name not in COMPLEX])
def test_the_tick_of_a_cell_from_its_start(name):
    """Of one sequence, with the initial state inside."""
    check(CELLS[name].make(), CELLS[name].draw, n=(7,), batch=(), initial=True)


WAYS = {
    "any sizes": {},
    "numbers": {"length": 7, "batch": 3},
    "more sequences than ticks": {"n": (2, 5), "length": 2, "batch": 5},
    "any length": {"batch": 3},
    "mask and reset": {"takes": ("reset", "mask")},
    "lengths": {"takes": ("lengths",), "initial": True},
}


RINGS = ("causal_conv", "weight_norm", "depthwise_conv", "windowed_attention", "gated_recurrence", "block")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, way):
    if name in RINGS and way in ("mask and reset", "lengths"):
        pytest.skip("the exporter sorts a number of ticks: test_what_the_exporter_does_not_know")
    check(LAYERS[name].make(), LAYERS[name].draw, **WAYS[way])


def test_a_language_model():
    """Any number of ticks and sequences, a mask; the names say where in the model a state is."""
    found = check(MODEL, symbols, takes=("mask",))
    assert found == ["ys", "next_state.1.h", "next_state.1.c"]


def test_both_directions_and_double_precision():
    check(sj.bidirectional(sj.lstm(3, 4), sj.gru(3, 2)), LAYERS["bidirectional"].draw, kind=lambda tree: tree)


def test_a_stream(tmp_path):
    """A file: the first chunk by a graph that starts, the next ones by a graph that is given the state."""
    import onnx

    params = float32(MODEL.init(KEY))
    paths = tmp_path / "start.onnx", tmp_path / "next.onnx"
    sj.interop.to_onnx(MODEL, params, jnp.int32(0), paths[0], state="initial")
    sj.interop.to_onnx(MODEL, params, jnp.int32(0), str(paths[1]))
    first, later = (runtime.InferenceSession(onnx.load(path).SerializeToString()) for path in paths)
    xs = np.asarray(symbols(KEY, (9, 2)), np.int32)
    ys, *state = first.run(None, {"xs": xs[:4]})
    names_of = [each.name.removeprefix("next_") for each in first.get_outputs()][1:]
    more, *_ = later.run(None, {"xs": xs[4:], **dict(zip(names_of, state))})
    _, expected = MODEL.apply(params, MODEL.initial_state(params, (2,)), jnp.asarray(xs))
    np.testing.assert_allclose(np.concatenate([ys, more]), expected, rtol=1e-6, atol=1e-6)


def test_exporting_leaves_our_functions_as_they_were():
    """The exporter puts functions of its own in the place of JAX's: none of them may stay, or reach a cache."""
    cumsum = jnp.cumsum
    layer = sj.recurrent(sj.elman(3, 5))
    params = float32(layer.init(KEY))
    sj.interop.to_onnx(layer, params, jnp.ones(3, jnp.float32), length=4, batch=2)
    assert jnp.cumsum is cumsum
    xs = jnp.ones((4, 2, 3), jnp.float32)
    assert layer.apply(params, layer.initial_state(params, (2,)), xs)[1].shape == (4, 2, 5)


def test_equations_are_written_out():
    """No calls, no marks, loops forwards; the values are the same."""
    cell = sj.gru(3, 4)
    params = cell.init(KEY)

    def f(xs, n):
        state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), xs, reverse=True)
        ys = jax.lax.cond(n > 0, lambda: jax.nn.relu(ys), lambda: -ys)
        padded = jnp.pad(xs, ((0, 0), (2, 0), (1, 3)), constant_values=7)
        return [jax.lax.while_loop(lambda s: s.sum() < 9, lambda s: s + jax.nn.relu(s) + 1, state), ys, n % 3, padded]

    xs, n = jax.random.normal(KEY, (5, 2, 3)), jnp.array(-7)
    closed = written_out(f, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (xs, n)])
    assert {"scan", "cond", "while"} <= names(closed)
    assert not names(closed) & {"jit", "pjit", "name", "custom_jvp_call", "rem", "pad"}
    for a, b in zip(evaluated(closed, (xs, n)), f(xs, n), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_what_the_exporter_does_not_know():
    conv = LAYERS["causal_conv"].make()
    message = r"^to_onnx: expected what jax2onnx turns .* TypeError, lax.sort .* use seqjax.interop.export_module.$"
    with pytest.raises(NotImplementedError, match=message):
        sj.interop.to_onnx(conv, float32(conv.init(KEY)), jnp.ones(3, jnp.float32), takes=("mask",))


WRONG = {
    "a key": (lambda: {"takes": ("key",)}, "to_onnx: expected numbers, got key<fry> at ['key']"),
    "a state": (lambda: {"state": "none"}, "to_onnx: expected state to be one of 'given', 'initial', got 'none'"),
    "an extra": (lambda: {"takes": ("masks",)}, "to_onnx: expected takes to be one of"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name):
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        sj.interop.to_onnx(MODEL, MODEL.init(KEY), jnp.int32(0), **options())


def test_random_numbers_are_refused():
    noisy = sj.pointwise(lambda _, x: x + jax.random.normal(jax.random.key(0), x.shape, x.dtype))
    with pytest.raises(ValueError, match=r"to_onnx: expected no random numbers, .*, got random_bits"):
        sj.interop.to_onnx(noisy, (), jnp.ones(3), length=4, batch=2)
