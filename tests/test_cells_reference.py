"""Every cell against one tick in NumPy float64, written from its equations."""

import inspect
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import B, T, at, state_of
from marks import all_but
from reference import cells as reference
from zoo import D, H, drawn

import seqjax as sj
from seqjax.cells.registry import REGISTRY
from seqjax.initializers import lstm_bias, only, two_biases

# What the registry does not list: other activations, biases in some gates or none.
VARIANTS = {
    "elman_sigmoid": (sj.elman(D, H, activation=jax.nn.sigmoid), partial(reference.elman, phi=reference.sigmoid)),
    "elman_linear": (sj.elman(D, H, activation=lambda a: a), partial(reference.elman, phi=lambda a: a)),
    "elman_no_bias": (sj.elman(D, H, b_init=None), reference.elman),
    "lstm_bias_in_gates": (sj.lstm(D, H, b_init=only("i", "f", "o", init=lstm_bias)), reference.lstm),
    "gru_after_one_bias": (sj.gru(D, H, inner_bias=False), reference.gru_after),
    "lstm_two_biases": (sj.lstm(D, H, b_init=two_biases(lstm_bias)), reference.lstm),
    "gru_two_biases": (sj.gru(D, H, b_init=two_biases(gates=("r", "z"))), reference.gru_after),
    "layer_norm_lstm_two_biases": (sj.layer_norm_lstm(D, H, b_init=two_biases()), reference.layer_norm_lstm),
    "gru_bias_in_candidate": (sj.gru(D, H, b_init=only("n")), reference.gru_after),
    "layer_norm_gru_bias_in_gates": (sj.layer_norm_gru(D, H, b_init=only("r", "z")), reference.layer_norm_gru),
    "conv_lstm_peepholes": (sj.cells.conv_lstm(D, H, (4,), (5,), peepholes=True), reference.conv_lstm),
    "conv_lstm_volume": (sj.cells.conv_lstm(1, 2, (2, 3, 2), (1, 3, 2), b_init=only("i", "g")), reference.conv_lstm),
}
PICTURES = {"conv_lstm_peepholes": (4, D), "conv_lstm_volume": (2, 3, 2, 1)}


def registered(name):
    """A cell of the registry and its reference, with those of the cell's options that the reference names."""
    entry = REGISTRY[name]
    step = getattr(reference, entry.reference or name)
    named = inspect.signature(step).parameters
    return entry.small(), partial(step, **{k: v for k, v in {**entry.variant, **entry.sizes}.items() if k in named})


def ticks(cell, params, state, xs):
    """A plain loop; that `unroll` equals it is a law, and so is that a tick is the same without `jax.jit`."""
    step, ys = jax.jit(cell.step), []
    for x in xs:
        state, y = step(params, state, x)
        ys.append(y)
    return state, jnp.stack(ys)


def assert_equal_to_reference(cell, step, input_shape, length=T):
    params = drawn(cell, scale=1.0)
    state = state_of(cell, params)
    xs = jax.random.normal(jax.random.key(3), (length, B, *input_shape))
    last, ys = ticks(cell, params, state, xs)
    p = jax.tree.map(np.asarray, params)
    for b in range(B):
        start = at(jax.tree.map(np.asarray, state), b)
        expected, expected_ys = reference.trajectory(step, p, start, np.asarray(xs[:, b]))
        np.testing.assert_allclose(ys[:, b], expected_ys, rtol=1e-11, atol=1e-12)
        for s, e in zip(jax.tree.leaves(last), jax.tree.leaves(expected)):
            np.testing.assert_allclose(s[b], e, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", all_but([*REGISTRY, *VARIANTS], "conv_lstm_volume", "conv_lstm_peepholes"))
def test_cell_equals_its_equations(name):
    cell, step = VARIANTS[name] if name in VARIANTS else registered(name)
    assert_equal_to_reference(cell, step, REGISTRY[name].input_shape if name in REGISTRY else PICTURES.get(name, (D,)))


LSTM_CHOICES = [
    {"forget": forget, "coupled": coupled, "peepholes": peepholes, "normalise": normalise} | ends
    for forget, coupled in [(True, False), (True, True), (False, False)]
    for peepholes in (None, "diagonal", "full")
    for normalise in (None, "layer")
    for ends in ({}, {"reset": True}, {"squash": False}, {"projection_size": 2}, {"reset": True, "squash": False})
]
GRU_CHOICES = [
    {"reset": reset, "inner_bias": inner_bias, "normalise": normalise}
    for reset, inner_bias in [("after", True), ("after", False), ("before", False)]
    for normalise in (None, "layer")
]


@pytest.mark.parametrize("bias", [{}, pytest.param({"b_init": None}, marks=pytest.mark.slow)], ids=["bias", "bare"])
@pytest.mark.parametrize(
    ("make", "step", "choices"),
    [
        pytest.param(sj.cells.gated_lstm, reference.gated_lstm, LSTM_CHOICES, id="lstm", marks=pytest.mark.slow),
        pytest.param(sj.cells.gated_gru, reference.gated_gru, GRU_CHOICES, id="gru"),
    ],
)
def test_choices_combine(make, step, choices, bias):
    """Every combination of the choices that gated cells are made of, in values; gradients are the engines' laws."""
    for own in choices:
        cell = make(D, H, **own, **bias)
        assert_equal_to_reference(cell, partial(step, **own), (D,), length=3)


GATED = [name for name, entry in REGISTRY.items() if "gate_activation" in inspect.signature(entry.make).parameters]


@pytest.mark.parametrize("name", GATED)
def test_activations_of_gates_and_candidates(name, monkeypatch):
    """The same equations with other functions in the place of σ and tanh."""
    entry = REGISTRY[name]
    options = {"activation": jax.nn.soft_sign, "gate_activation": jax.nn.hard_sigmoid}
    cell = entry.make(D, H, **{**entry.variant, **entry.sizes, **options})
    _, step = registered(name)
    other = {**vars(np), "tanh": lambda a: a / (1 + np.abs(a))}
    monkeypatch.setattr(reference, "np", SimpleNamespace(**other))
    monkeypatch.setattr(reference, "sigmoid", lambda a: np.clip(a + 3, 0, 6) / 6)
    assert_equal_to_reference(cell, step, (D,), length=2)


def test_an_lstm_gives_out_by_another_function_and_remembers_by_a_constant():
    """Constant 1 in the forget gate, kept apart from its bias; the candidate by tanh, the output by relu."""
    cell = sj.lstm(D, H, output_activation=jax.nn.relu, forget_bias=1.0)
    params = drawn(cell, scale=1.0)
    (h, c), x = state_of(cell, params), jax.random.normal(jax.random.key(3), (B, D))
    i, f, g, o = np.split(x @ params.w_x + h @ params.w_h + params.b, 4, axis=-1)
    expected = reference.sigmoid(f + 1) * c + reference.sigmoid(i) * np.tanh(g)
    state, y = cell.step(params, sj.cells.LSTMState(h, c), x)
    np.testing.assert_allclose(state.c, expected, rtol=1e-12)
    np.testing.assert_allclose(y, reference.sigmoid(o) * np.maximum(expected, 0), rtol=1e-12)
    with pytest.raises(ValueError, match=r"^gated_lstm: expected no forget_bias without a forget gate"):
        sj.cells.gated_lstm(D, H, forget=False, forget_bias=1.0)


# A19: a bias that is absent is no parameter, and the cell equals the same cell with that bias zero.
MAKERS = {
    "elman": sj.elman,
    "pass_through": sj.pass_through,
    "minimal_gated_unit": sj.cells.minimal_gated_unit,
    "carousel": sj.carousel,
    "lstm_1997": sj.lstm_1997,
    "lstm": sj.lstm,
    "peephole_lstm": sj.peephole_lstm,
    "reset_lstm": sj.reset_lstm,
    "coupled_lstm": sj.coupled_lstm,
    "projected_lstm": partial(sj.projected_lstm, projection_size=2),
    "gru_after": sj.gru,
    "gru_before": partial(sj.gru, reset="before"),
    "multiplicative_rnn": sj.multiplicative_rnn,
    "multiplicative_lstm": sj.multiplicative_lstm,
    "layer_norm_elman": sj.layer_norm_elman,
    "layer_norm_lstm": sj.layer_norm_lstm,
    "layer_norm_gru": sj.layer_norm_gru,
}


@pytest.mark.parametrize("name", MAKERS)
def test_absent_bias_equals_zero_bias(name):
    make = MAKERS[name]
    bare, full = make(D, H, b_init=None), make(D, H)
    params = drawn(bare)
    assert params.b is None
    filled = full.init(jax.random.key(1))
    zeros = {k: v for k, v in filled._asdict().items() if getattr(params, k) is None}
    same = params._replace(**jax.tree.map(jnp.zeros_like, zeros))
    assert jax.tree.structure(same) == jax.tree.structure(filled)
    state, x = state_of(bare, params), jax.random.normal(jax.random.key(3), (B, D))
    for a, b in zip(jax.tree.leaves(bare.step(params, state, x)), jax.tree.leaves(full.step(same, state, x))):
        np.testing.assert_array_equal(a, b)


GATES = {
    "pass_through": "nz",
    "minimal_gated_unit": "un",
    "lstm_1997": "igo",
    "lstm": "ifgo",
    "peephole_lstm": "ifgo",
    "reset_lstm": "rufog",
    "coupled_lstm": "fgo",
    "projected_lstm": "ifgo",
    "gru_after": "rzn",
    "gru_before": "rzn",
    "multiplicative_lstm": "ifgo",
    "layer_norm_lstm": "ifgo",
    "layer_norm_gru": "rzn",
}


@pytest.mark.parametrize("name", GATES)
def test_bias_in_single_blocks(name):
    """The first and last gate with a bias: the rest as if zero, and no parameter for it."""
    make, gates = MAKERS[name], GATES[name]
    kept = (gates[0], gates[-1])
    part, full = make(D, H, b_init=only(*kept)), make(D, H)
    params = drawn(part)
    assert [block is not None for block in params.b] == [gate in kept for gate in gates]
    joined = jnp.concatenate([jnp.zeros(H) if block is None else block for block in params.b])
    state, x = state_of(part, params), jax.random.normal(jax.random.key(3), (B, D))
    for a, b in zip(
        jax.tree.leaves(part.step(params, state, x)),
        jax.tree.leaves(full.step(params._replace(b=joined), state, x)),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15)


BFLOAT16 = MAKERS | {"five_equation_lstm": lambda d, h, **k: sj.five_equation_lstm(h, **k)}


@pytest.mark.parametrize("name", BFLOAT16)
def test_bfloat16_products_keep_float32_states(name):
    """float32 parameters, bfloat16 operands: the state stays float32, the error is that of rounding."""
    make = BFLOAT16[name]
    wide = make(8, 8, dtype=jnp.float32)
    narrow = make(8, 8, dtype=jnp.float32, compute_dtype=jnp.bfloat16)
    params = wide.init(jax.random.key(1))
    xs = jax.random.normal(jax.random.key(3), (10, 4, 8), jnp.float32)

    start = wide.initial_state(params, (4,))
    (_, exact), (state, ys) = (ticks(cell, params, start, xs) for cell in (wide, narrow))
    for leaf in (*jax.tree.leaves(state), *jax.tree.leaves(params), ys):
        assert leaf.dtype == jnp.float32
    error = np.abs(ys - exact).max() / np.abs(exact).max()
    assert 1e-5 < error < 10 * 2**-8, error


def test_products_are_summed_in_float32():
    """257 is no bfloat16: a sum kept in that type would give 256."""
    x, w = jnp.ones((1, 257), jnp.bfloat16), jnp.ones((257, 1), jnp.float32)
    for operand in (w, w.astype(jnp.bfloat16)):
        y = sj.dot(x, operand, jnp.bfloat16)
        assert y.dtype == jnp.float32
        assert y[0, 0] == 257


def test_bfloat16_products_have_float32_gradients():
    exact, narrow = (
        sj.lstm(8, 8, dtype=jnp.float32),
        sj.lstm(8, 8, dtype=jnp.float32, compute_dtype=jnp.bfloat16),
    )
    params = exact.init(jax.random.key(1))
    xs = jax.random.normal(jax.random.key(3), (10, 4, 8), jnp.float32)

    def gradient(cell):
        return jax.grad(lambda p: (sj.unroll(cell, p, cell.initial_state(p, (4,)), xs)[1] ** 2).sum())(params)

    for a, b in zip(gradient(exact), gradient(narrow)):
        assert b.dtype == jnp.float32
        assert 1e-5 < np.linalg.norm(a - b) / np.linalg.norm(a) < 2**-5


@pytest.mark.parametrize("name", ["elman", "lstm", "gru_after", "layer_norm_lstm"])
def test_bfloat16_parameters(name):
    """bfloat16 parameters can be drawn, and states are still kept in float32."""
    cell = MAKERS[name](8, 8, dtype=jnp.bfloat16)
    params = cell.init(jax.random.key(0))
    assert all(p.dtype == jnp.bfloat16 for p in jax.tree.leaves(params))
    state, ys = sj.unroll(cell, params, cell.initial_state(params), jnp.ones((3, 8), jnp.bfloat16))
    assert all(s.dtype == jnp.float32 for s in jax.tree.leaves(state))
    assert np.isfinite(ys).all()
