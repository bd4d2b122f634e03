"""cuDNN's LSTM without a GPU: JAX's own reference of it in its place, and the reasons why it does not apply."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

import seqjax as sj
from seqjax.engines import cudnn

T, B, D, H = 6, 4, 3, 5
LENGTHS = jnp.array([6, 3, 1, 0])


def reference(x, h, c, weights, lengths, input_size, hidden_size, layers, dropout, bidirectional):
    """What `jax.experimental.rnn.lstm` computes, in JAX."""
    unpacked = rnn.unpack_lstm_weights(weights, input_size, hidden_size, layers, bidirectional)
    sizes = (input_size, hidden_size, layers, dropout, bidirectional)
    return rnn.lstm_ref(x, h, c, *unpacked, lengths, *sizes)


def problem(dtype=jnp.float32, **options):
    cell = sj.lstm(D, H, dtype=dtype, **options)
    params = cell.init(jax.random.key(0))
    state = jax.tree.map(lambda s: s + 0.3, cell.initial_state(params, (B,)))
    return cell, params, state, jax.random.normal(jax.random.key(1), (T, B, D), dtype)


BIASES = {
    "vector": sj.initializers.lstm_bias,
    "none": None,
    "two": sj.initializers.two_biases(),
    "blocks": sj.initializers.only("i", "f", init=sj.initializers.lstm_bias),
}


@pytest.mark.parametrize(
    ("bias", "reverse", "lengths"),
    [
        ("vector", False, None),
        ("vector", True, None),
        ("vector", True, LENGTHS),
        ("none", False, LENGTHS),
        ("two", False, None),
        ("blocks", False, LENGTHS),
    ],
)
def test_equals_scan(bias, reverse, lengths):
    """Values, last state and gradients of everything, with NaN in the padding; the weights as cuDNN lays them out."""
    cell, params, state, xs = problem(jnp.float64, b_init=BIASES[bias])
    if lengths is not None:
        xs = jnp.where(sj.masks.from_lengths(lengths, T)[..., None], xs, jnp.nan)

    def both(run):
        def value(params, state, xs):
            (h, c), ys = run(params, state, xs)
            return (ys * jnp.cos(jnp.arange(ys.size)).reshape(ys.shape)).sum() + (h * c).sum(), (h, c, ys)

        return jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))(params, state, xs)

    ours = both(lambda *a: sj.unroll(cell, *a, lengths=lengths, reverse=reverse, engine="scan"))
    theirs = both(lambda *a: cudnn.run(*a, lengths, reverse=reverse, lstm=reference))
    for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_packing_has_the_documented_order():
    """W, U, then both biases, each gate's rows together; unpacked by JAX."""
    _, params, _, _ = problem()
    w_ih, w_hh, b_ih, b_hh = rnn.unpack_lstm_weights(cudnn.pack(params), D, H, 1, False)
    np.testing.assert_array_equal(w_ih[0], params.w_x.T)
    np.testing.assert_array_equal(w_hh[0], params.w_h.T)
    np.testing.assert_array_equal(b_ih[0], params.b)
    np.testing.assert_array_equal(b_hh[0], 0)


@pytest.mark.parametrize("bias", BIASES)
def test_the_cell_is_known_by_its_equations(bias):
    cell, *rest = problem(b_init=BIASES[bias])
    assert cudnn.is_lstm(cell.step, *rest)
    assert cudnn.is_lstm(lambda p, s, x: cell.step(p, s, x), *rest)
    assert cudnn.is_lstm(sj.lstm(D, H, compute_dtype=jnp.float32).step, *rest)
    assert not cudnn.is_lstm(sj.lstm(D, H, compute_dtype=jnp.bfloat16).step, *rest)
    assert not cudnn.is_lstm(lambda p, s, x: cell.step(p, s, 2 * x), *rest)


def test_other_cells_are_not_taken_for_it():
    xs = jnp.zeros((T, B, D), jnp.float32)
    for make in (sj.gru, sj.elman, sj.peephole_lstm, sj.lstm_1997, sj.coupled_lstm, sj.layer_norm_lstm):
        cell = make(D, H, dtype=jnp.float32)
        params = cell.init(jax.random.key(0))
        assert not cudnn.is_lstm(cell.step, params, cell.initial_state(params, (B,)), xs)


REASONS = {
    "a cell with other equations": lambda: (sj.zoneout(problem()[0], 0.1), {}),
    "mask=: give lengths= if the padding is on the right": lambda: (None, {"mask": jnp.ones((T, B), bool)}),
    "reset=": lambda: (None, {"reset": jnp.zeros((T, B), bool)}),
    "a program for cpu": lambda: (None, {}),
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_is_given(reason):
    other, options = REASONS[reason]()
    cell, params, state, xs = problem()
    if other is not None:
        cell, state = other, other.initial_state(params, (B,))
    for call in (sj.unroll, sj.explain):
        with pytest.raises(ValueError, match=f"got {reason}") as error:
            call(cell, params, state, xs, engine="cudnn", **options)
        assert "Use engine='split'" in str(error.value)


def test_types_and_batch_axes_it_does_not_take():
    cell, params, state, xs = problem(jnp.float64)
    with pytest.raises(ValueError, match=r"engine='cudnn', got float64\. Use"):
        sj.unroll(cell, params, state, xs, engine="cudnn")
    cell, params, _, xs = problem()
    with pytest.raises(ValueError, match=r"got a state of shape \(5,\)"):
        sj.unroll(cell, params, cell.initial_state(params), xs[:, 0], engine="cudnn")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As if there were one: JAX's reference in the place of cuDNN."""
    monkeypatch.setattr("seqjax.engines.cudnn.jax.default_backend", lambda: "gpu")
    monkeypatch.setattr("seqjax.engines.cudnn._cudnn", lambda: reference)


def test_it_is_reached_through_unroll(on_a_gpu):
    cell, params, state, xs = problem()
    run = lambda engine: sj.unroll(cell, params, state, xs, lengths=LENGTHS, engine=engine)
    for a, b in zip(jax.tree.leaves(run("cudnn")), jax.tree.leaves(run("scan")), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    plan = sj.explain(cell, params, state, xs, lengths=LENGTHS, engine="cudnn")
    assert (plan.engine, plan.chunk, plan.keep, plan.loops) == ("cudnn", T, "all", ())
    assert plan.why == ("one call of cuDNN for all of time", "all activations kept")


@pytest.mark.parametrize("memory", ["sqrt", "carries", 3, "1MB"])
def test_it_keeps_all_activations(on_a_gpu, memory):
    cell, params, state, xs = problem()
    message = f"expected memory='auto' or 'all' for engine='cudnn', which keeps all activations, got {memory!r}. Use"
    for call in (sj.unroll, sj.explain):
        with pytest.raises(ValueError, match=message):
            call(cell, params, state, xs, engine="cudnn", memory=memory)


def test_costs_count_what_a_gradient_keeps():
    """At least the outputs and four gates a unit and tick, whatever the library keeps them in."""
    _, params, state, xs = problem()
    found = cudnn.costs(params, state, xs, None, lstm=reference)
    assert found.state == 2 * B * H * 4
    assert found.all == found.carries >= 5 * B * H * 4
