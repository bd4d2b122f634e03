"""Cells in heads: against NumPy with dense block-diagonal weights, and on kernels with one program a head."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_close, at, loss, state_of
from lowering import for_cuda, lowers
from marks import quick
from reference import cells as reference
from scipy.linalg import block_diag
from zoo import drawn

import seqjax as sj
from seqjax.engines import pallas

D, HEADS, H, T, B = 3, 2, 6, 7, 3


def dense(p, gates):
    """The parameters with U as one matrix ``[h, g h]``, gates side by side over all heads, as cells without heads."""
    blocks = [block_diag(*(np.split(head, gates, axis=1)[g] for head in p.w_h)) for g in range(gates)]
    b_n = getattr(p, "b_n", None)
    return SimpleNamespace(
        w_x=p.w_x, w_h=np.concatenate(blocks, 1), b=p.b, b_n=None if b_n is None else b_n.reshape(-1)
    )


def slstm(forget):
    """The equations without a stabiliser: sums of exponentials."""

    def step(p, state, x):
        h, c, n = state
        W, U, b = (reference.blocks(w, "ifzo") for w in (p.w_x, p.w_h, p.b))
        i, f = np.exp(x @ W.i + h @ U.i + b.i), forget(x @ W.f + h @ U.f + b.f)
        z, o = np.tanh(x @ W.z + h @ U.z + b.z), reference.sigmoid(x @ W.o + h @ U.o + b.o)
        c, n = f * c + i * z, f * n + i
        h = o * c / n
        return (h, c, n), h

    return step


MAKERS = {
    "elman": (sj.headwise_elman, reference.elman, 1),
    "lstm": (sj.headwise_lstm, reference.lstm, 4),
    "gru": (sj.headwise_gru, reference.gru_after, 3),
    "slstm": (sj.slstm, slstm(reference.sigmoid), 4),
    "slstm_exp": (lambda *a, **k: sj.slstm(*a, forget_gate="exp", **k), slstm(np.exp), 4),
}


@pytest.mark.parametrize("bias", ["vector", "none"])
@pytest.mark.parametrize("name", MAKERS)
def test_cell_equals_its_equations(name, bias):
    make, step, gates = MAKERS[name]
    cell = make(D, H, HEADS, **({} if bias == "vector" else {"b_init": None}))
    params = drawn(cell, scale=1.0)
    xs = jax.random.normal(jax.random.key(3), (T, B, D))
    start = cell.initial_state(params, (B,)) if "slstm" in name else state_of(cell, params)
    last, ys = sj.unroll(cell, params, start, xs, engine="scan")
    p = dense(jax.tree.map(np.asarray, params), gates)
    for b in range(B):
        one = jax.tree.map(lambda s: np.asarray(s).reshape(-1), at(start, b))
        expected, expected_ys = reference.trajectory(step, p, one[:3] if "slstm" in name else one, np.asarray(xs[:, b]))
        np.testing.assert_allclose(ys[:, b], expected_ys, rtol=1e-11, atol=1e-12)
        if "slstm" in name:
            h, c, n, m = (s[b].reshape(-1) for s in last)
            last_b = (h, c * jnp.exp(m), n * jnp.exp(m))
        else:
            last_b = jax.tree.map(lambda s: s.reshape(-1), at(last, b))
        for s, e in zip(jax.tree.leaves(last_b), jax.tree.leaves(expected)):
            np.testing.assert_allclose(s, e, rtol=1e-11, atol=1e-12)


def test_one_head_is_the_cell_without_heads():
    headed, plain = sj.headwise_lstm(D, H, 1), sj.lstm(D, H)
    params = headed.init(jax.random.key(0))
    same = sj.LSTMParams(params.w_x, params.w_h[0], params.b)
    xs = jax.random.normal(jax.random.key(3), (T, B, D))
    _, a = sj.unroll(headed, params, headed.initial_state(params, (B,)), xs)
    _, b = sj.unroll(plain, same, plain.initial_state(same, (B,)), xs)
    assert_close(a, b)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_exponential_gates_neither_overflow_nor_vanish(forget):
    """Pre-activations in the thousands, where exp is infinite or zero in any float: all stays finite."""
    cell = sj.slstm(D, H, HEADS, forget_gate=forget, dtype=jnp.float32)
    params = jax.tree.map(lambda p: p * jnp.float32(300), cell.init(jax.random.key(0)))
    xs = 10 * jax.random.normal(jax.random.key(3), (200, B, D), jnp.float32)

    def value(params, xs):
        return sj.unroll(cell, params, cell.initial_state(params, (B,)), xs)[1].sum()

    result = jax.jit(jax.value_and_grad(value, (0, 1)))(params, xs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


@pytest.mark.parametrize("name", quick(["lstm", "slstm"], "slstm"))
def test_heads_are_programs_of_the_kernel(name):
    """Values and gradients equal plain scan's, with masks; each head's weights are all that a program reads."""
    cell = MAKERS[name][0](D, H, HEADS)
    params = drawn(cell)
    xs = jax.random.normal(jax.random.key(3), (T, B, D))
    state = cell.initial_state(params, (B,))
    options = {"lengths": jnp.array([7, 4, 1])}

    def both(engine):
        run = lambda p, x: loss(sj.unroll(cell, p, state, x, engine=engine, **options)[1])
        return jax.jit(jax.value_and_grad(run, (0, 1)))(params, xs)

    with pallas.target("interpreter"):
        assert "kernel: 2 × 1 programs" in str(sj.explain(cell, params, state, xs, engine="pallas", **options))
        assert_close(both("pallas"), both("scan"))


@lowers
@pytest.mark.parametrize("compute_dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", quick(MAKERS, "slstm"))
def test_lowers_for_cuda(name, compute_dtype):
    cell = MAKERS[name][0](8, 64, 2, dtype=jnp.float32, compute_dtype=compute_dtype)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (16,))
    xs = jnp.zeros((8, 16, 8), jnp.float32)
    lowered = for_cuda(lambda p: (sj.unroll(cell, p, state, xs, engine="pallas")[1] ** 2).sum(), params)
    assert lowered.count("__gpu$xla.gpu.triton") == 2
    assert lowered.count("grid_x = 2 ") == 2


def test_heads_must_divide_the_state():
    for make in (sj.headwise_elman, sj.headwise_lstm, sj.headwise_gru, sj.slstm):
        with pytest.raises(ValueError, match=r"expected heads to divide hidden_size=6, got 4\. Change one of them"):
            make(3, 6, 4)
    with pytest.raises(ValueError, match="slstm: expected forget_gate to be one of 'sigmoid', 'exp', got 'relu'"):
        sj.slstm(3, 6, 2, forget_gate="relu")
    cell = sj.headwise_gru(3, 6, 2)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match="headwise_gru: expected inputs of size 3, got 5"):
        cell.step(params, cell.initial_state(params), jnp.ones(5))
