"""Every cell against one tick in NumPy float64, written from its equations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import B, T, at, state_of
from reference import cells as reference
from zoo import D, H, perturbed

import seqjax as sj
from seqjax.initializers import lstm_bias, only

SQUARE = {"five_equation_lstm"}
CASES = {
    "elman": (partial(sj.elman, D, H), reference.elman(np.tanh)),
    "elman_relu": (partial(sj.elman, D, H, activation=jax.nn.relu), reference.elman(reference.relu)),
    "elman_sigmoid": (partial(sj.elman, D, H, activation=jax.nn.sigmoid), reference.elman(reference.sigmoid)),
    "elman_linear": (partial(sj.elman, D, H, activation=lambda a: a), reference.elman(lambda a: a)),
    "elman_no_bias": (partial(sj.elman, D, H, b_init=None), reference.elman(np.tanh)),
    "pass_through": (partial(sj.pass_through, D, H), reference.pass_through),
    "carousel": (partial(sj.carousel, D, H), reference.carousel),
    "lstm_1997": (partial(sj.lstm_1997, D, H), reference.lstm_1997),
    "lstm": (partial(sj.lstm, D, H), reference.lstm),
    "lstm_bias_in_gates": (
        partial(sj.lstm, D, H, b_init=only("i", "f", "o", init=lstm_bias)),
        reference.lstm,
    ),
    "peephole_diagonal": (partial(sj.peephole_lstm, D, H), reference.peephole_lstm(np.multiply)),
    "peephole_full": (
        partial(sj.peephole_lstm, D, H, peepholes="full"),
        reference.peephole_lstm(np.matmul),
    ),
    "five_equation_lstm": (partial(sj.five_equation_lstm, H), reference.five_equation_lstm),
    "reset_lstm": (partial(sj.reset_lstm, D, H), reference.reset_lstm),
    "coupled_lstm": (partial(sj.coupled_lstm, D, H), reference.coupled_lstm),
    "projected_lstm": (partial(sj.projected_lstm, D, H, 2), reference.projected_lstm),
    "gru_after": (partial(sj.gru, D, H), reference.gru_after),
    "gru_after_one_bias": (partial(sj.gru, D, H, inner_bias=False), reference.gru_after),
    "gru_before": (partial(sj.gru, D, H, reset="before"), reference.gru_before),
    "gru_bias_in_candidate": (partial(sj.gru, D, H, b_init=only("n")), reference.gru_after),
    "multiplicative_rnn": (partial(sj.multiplicative_rnn, D, H, factor_size=5), reference.multiplicative_rnn),
    "multiplicative_lstm": (partial(sj.multiplicative_lstm, D, H), reference.multiplicative_lstm),
    "layer_norm_elman": (partial(sj.layer_norm_elman, D, H), reference.layer_norm_elman),
    "layer_norm_lstm": (partial(sj.layer_norm_lstm, D, H), reference.layer_norm_lstm),
    "layer_norm_gru": (partial(sj.layer_norm_gru, D, H), reference.layer_norm_gru),
    "layer_norm_gru_bias_in_gates": (
        partial(sj.layer_norm_gru, D, H, b_init=only("r", "z")),
        reference.layer_norm_gru,
    ),
}


def ticks(cell, params, state, xs):
    """A plain loop; that `unroll` equals it is a law."""
    ys = []
    for x in xs:
        state, y = cell.step(params, state, x)
        ys.append(y)
    return state, jnp.stack(ys)


@pytest.mark.parametrize("name", CASES)
def test_cell_equals_its_equations(name):
    make, step = CASES[name]
    cell = make()
    params = perturbed(cell.init(jax.random.key(1)), jax.random.key(2), 1.0)
    state = state_of(cell, params)
    xs = jax.random.normal(jax.random.key(3), (T, B, H if name in SQUARE else D))
    last, ys = ticks(cell, params, state, xs)
    p = jax.tree.map(np.asarray, params)
    for b in range(B):
        start = at(jax.tree.map(np.asarray, state), b)
        expected, expected_ys = reference.trajectory(step, p, start, np.asarray(xs[:, b]))
        np.testing.assert_allclose(ys[:, b], expected_ys, rtol=1e-12, atol=1e-13)
        for s, e in zip(jax.tree.leaves(last), jax.tree.leaves(expected)):
            np.testing.assert_allclose(s[b], e, rtol=1e-12, atol=1e-13)


# A19: a bias that is absent is no parameter, and the cell equals the same cell with that bias zero.
MAKERS = {
    "elman": sj.elman,
    "pass_through": sj.pass_through,
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
    params = perturbed(bare.init(jax.random.key(1)), jax.random.key(2))
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
    params = perturbed(part.init(jax.random.key(1)), jax.random.key(2))
    assert [block is not None for block in params.b] == [gate in kept for gate in gates]
    joined = jnp.concatenate([jnp.zeros(H) if block is None else block for block in params.b])
    state, x = state_of(part, params), jax.random.normal(jax.random.key(3), (B, D))
    for a, b in zip(
        jax.tree.leaves(part.step(params, state, x)),
        jax.tree.leaves(full.step(params._replace(b=joined), state, x)),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15)


def count(cell):
    return sum(p.size for p in jax.tree.leaves(jax.eval_shape(cell.init, jax.random.key(0))))


def test_parameter_counts():
    d, h = 64, 128
    one = h * (d + h + 1)
    assert (one, 3 * one, 4 * one) == (24_704, 74_112, 98_816)
    assert count(sj.elman(d, h)) == one
    assert count(sj.gru(d, h, reset="before")) == 3 * one
    assert count(sj.gru(d, h, inner_bias=False)) == 3 * one
    assert count(sj.gru(d, h)) == 3 * one + h
    assert count(sj.lstm(d, h)) == 4 * one
    assert count(sj.lstm_1997(d, h)) == count(sj.coupled_lstm(d, h)) == 3 * one
    assert count(sj.pass_through(d, h)) == 2 * one
    assert count(sj.reset_lstm(d, h)) == 5 * one
    assert count(sj.five_equation_lstm(h)) == 6 * h * h
    assert count(sj.peephole_lstm(d, h)) == 4 * one + 3 * h
    assert count(sj.peephole_lstm(d, h, peepholes="full")) == 4 * one + 3 * h * h
    assert count(sj.projected_lstm(d, h, 32)) == 4 * h * (d + 32 + 1) + h * 32
    assert count(sj.multiplicative_rnn(d, h, factor_size=50)) == h * (d + 50 + 1) + 50 * (d + h)
    assert count(sj.layer_norm_lstm(d, h)) == 4 * one + 4 * h


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
