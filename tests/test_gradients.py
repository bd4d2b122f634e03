"""Where gradients go, against explicit Jacobian products, finite differences and known numbers."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import B, T
from laws import state_of as noisy
from reference import cells as reference
from zoo import CELLS, D, H

import seqjax as sj
from seqjax import gradients

KEY = jax.random.key(7)
XS = jnp.asarray(np.random.default_rng(3).normal(size=(T, B, D)))
MASK = jnp.asarray(np.arange(T)[:, None] < np.array([7, 4, 0]))
JUNK = jnp.asarray(np.where(np.asarray(MASK)[..., None], XS, np.nan))


def drawn(cell):
    """Parameters of the cell's shapes, drawn in NumPy: biases and gains are not what they are initialised to."""
    rng, shapes = np.random.default_rng(1), jax.eval_shape(cell.init, jax.random.key(1))
    return jax.tree.map(lambda leaf: jnp.asarray(0.6 * rng.normal(size=leaf.shape), leaf.dtype), shapes)


def state_of(cell, params, key=None):
    return jax.jit(lambda params: noisy(cell, params, key=key))(params)


LSTM = sj.lstm(D, H)
PARAMS = drawn(LSTM)
STATE = state_of(LSTM, PARAMS)


@jax.jit
def ticked(state, x):
    """The LSTM's next state and the Jacobian of the step, states as vectors."""
    flat = lambda v: jnp.concatenate(LSTM.step(PARAMS, sj.LSTMState(*jnp.split(v, 2)), x)[0])
    return flat(state), jax.jacrev(flat)(state)


def chained(state, xs, t):
    """ds_T/ds_t of one example, step Jacobians multiplied out by the plain definition; and that of tick t."""
    jacobians, state = [], np.concatenate(state)
    for x in np.asarray(xs):
        state, jacobian = map(np.asarray, ticked(state, x))
        jacobians.append(jacobian)
    product = np.eye(2 * H)
    for jacobian in reversed(jacobians[t + 1 :]):
        product = product @ jacobian
    return product, jacobians[t]


def squares(ys):
    return (ys**2).sum()


@pytest.fixture(scope="module")
def report():
    found = gradients.flow(
        LSTM, PARAMS, STATE, XS, squares, MASK, singular_values_at=(2, 0, 6), probes=2 * H, engine="scan"
    )
    return jax.tree.map(np.asarray, found)


def test_flow_gradient_norms_are_those_of_finite_differences(report):
    params, xs = jax.tree.map(np.asarray, (PARAMS, XS[:, 1]))

    def loss(h, c, t):
        state, total = (h, c), (h**2).sum()
        for x in xs[t + 1 : 4]:
            state, y = reference.lstm(params, state, x)
            total += (y**2).sum()
        return total

    state = tuple(np.asarray(s[1]) for s in STATE)
    for t in range(4):
        state, _ = reference.lstm(params, state, xs[t])
        start, slopes = np.concatenate(state), []
        for e in 1e-5 * np.eye(2 * H):
            up, down = (loss(*np.split(start + d, 2), t) for d in (e, -e))
            slopes.append((up - down) / 2e-5)
        np.testing.assert_allclose(report.loss_gradient[t, 1], np.linalg.norm(slopes), rtol=1e-7)


def test_flow_stretch_and_singular_values_are_those_of_explicit_products(report):
    state = jax.tree.map(lambda s: np.asarray(s)[0], STATE)
    for t in range(T):
        product, _ = chained(state, XS[:, 0], t)
        expected = np.log(np.linalg.norm(product) / np.sqrt(2 * H))
        np.testing.assert_allclose(report.log_stretch[t, 0], expected, rtol=1e-9, atol=1e-12)
    for i, t in enumerate((2, 0, 6)):
        values = np.linalg.svd(chained(state, XS[:, 0], t)[1], compute_uv=False)
        np.testing.assert_allclose(report.singular_values[i, 0], values, rtol=1e-9)


def test_flow_saturation_is_counted_by_hand(report):
    h, c = (np.asarray(s[0], np.float64) for s in STATE)
    w_x, w_h, b = map(np.asarray, PARAMS)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    i, f, g, o = np.split(np.asarray(XS[0, 0]) @ w_x + h @ w_h + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    # In the order of the step's equations: f, i, g, o, tanh c.
    values = [sigmoid(f), sigmoid(i), np.tanh(g), sigmoid(o), np.tanh(c)]
    assert [name.split()[1] for name in report.saturation] == ["logistic", "logistic", "tanh", "logistic", "tanh"]
    ends = [(0.1, 0.9), (0.1, 0.9), (-0.8, 0.8), (0.1, 0.9), (-0.8, 0.8)]
    for found, value, (low, high) in zip(report.saturation.values(), values, ends):
        assert found.low[0, 0] == (value < low).mean()
        assert found.high[0, 0] == (value > high).mean()
    run = jax.jit(lambda: sj.unroll(gradients.with_gates(LSTM), PARAMS, STATE, XS, mask=MASK, engine="split"))
    _, (_, gates) = run()
    chex.assert_trees_all_close([np.asarray(gate)[0, 0] for gate in gates.values()], values, rtol=1e-10)
    assert sum(float(s.low[:, 0].sum() + s.high[:, 0].sum()) for s in report.saturation.values()) > 0


def test_flow_does_not_see_padding_and_the_engines_agree(report):
    longer = jnp.asarray(np.concatenate([JUNK, np.full((2, B, D), np.nan)]))
    mask = jnp.asarray(np.concatenate([MASK, np.zeros((2, B), bool)]))
    other = gradients.flow(
        LSTM, PARAMS, STATE, longer, squares, mask, singular_values_at=(2, 0, 6), probes=2 * H, engine="split"
    )
    other = jax.tree.map(np.asarray, other)
    short = jax.tree.map(lambda v: v[:T], (other.loss_gradient, other.log_stretch, other.saturation))
    expected = (report.loss_gradient, report.log_stretch, report.saturation)
    chex.assert_trees_all_close(short, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(other.singular_values, report.singular_values, rtol=1e-12)
    np.testing.assert_array_equal(other.memory_length, report.memory_length)
    np.testing.assert_array_equal(report.loss_gradient[~np.asarray(MASK)], 0)
    np.testing.assert_array_equal(report.log_stretch[~np.asarray(MASK)], -np.inf)
    np.testing.assert_array_equal(report.singular_values[2, 1], 1)
    assert report.memory_length[2] == 0


@pytest.mark.parametrize("name", ["zoneout", "first_bias"])
def test_flow_of_states_with_noise_and_counters_is_the_gradient_of_a_perturbation(name):
    cell = CELLS[name].make()
    params = drawn(cell)
    state = state_of(cell, params, key=KEY)
    found = gradients.flow(cell, params, state, XS, squares, MASK, singular_values_at=(1,), engine="scan")

    def loss(epsilon):
        return squares(sj.unroll(sj.perturbed(cell), params, state, (XS, epsilon), mask=MASK, engine="scan")[1])

    zero = jax.tree.map(lambda e: np.zeros(e.shape), jax.eval_shape(lambda s: sj.zero_perturbation(s, T), state))
    leaves = [np.asarray(g) for g in jax.tree.leaves(jax.jit(jax.grad(loss))(zero))]
    expected = np.sqrt(sum((g**2).sum(-1) for g in leaves))
    np.testing.assert_allclose(found.loss_gradient, expected, rtol=1e-10, atol=1e-14)
    assert found.singular_values.shape == (1, B, sum(g.shape[-1] for g in leaves))


def linear(w):
    """h' = w h + x, one unit."""
    cell = sj.elman(1, 1, activation=lambda a: a, b_init=None)
    return cell, sj.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), w), None)


@pytest.mark.parametrize(
    ("w", "length", "factor"), [(1.1, 50, 117.39), (0.9, 50, 0.005154), (1.1, 49, 106.72), (0.9, 49, 0.005726)]
)
def test_the_scalar_chain(w, length, factor):
    np.testing.assert_allclose(gradients.scalar_chain(w, length)[-1], factor, rtol=1e-4)
    np.testing.assert_allclose(gradients.scalar_chain(jnp.array([w, 0.5]), length)[:, 1], 0.5 ** np.arange(length + 1))


def test_flow_of_the_scalar_chain():
    cell, params = linear(1.1)
    xs = jnp.zeros((51, 1))
    flow = gradients.flow(cell, params, cell.initial_state(params), xs, lambda ys: ys[-1, 0], probes=1)
    np.testing.assert_allclose(np.exp(flow.log_stretch), 1.1 ** np.arange(50.0, -1, -1), rtol=1e-12)
    np.testing.assert_allclose(flow.loss_gradient, 1.1 ** np.arange(50.0, -1, -1), rtol=1e-12)


def test_stretch_survives_where_floats_do_not_and_resets_cut_it():
    cell, params = linear(3.0)
    xs = jnp.zeros((1000, 1))
    reset = jnp.zeros(1000, bool).at[10].set(True)
    flow = gradients.flow(cell, params, cell.initial_state(params), xs, lambda ys: ys[-1, 0], reset=reset, probes=1)
    np.testing.assert_allclose(flow.log_stretch[10], 989 * np.log(3.0), rtol=1e-12)
    np.testing.assert_array_equal(flow.log_stretch[:10], -np.inf)
    assert flow.memory_length == 990
    cell, params = linear(0.5)
    flow = gradients.flow(cell, params, cell.initial_state(params), xs[:50], lambda ys: ys[-1, 0], probes=1)
    assert flow.memory_length == 2


def test_few_probes_are_right_on_average():
    def stretch(key, probes):
        report = gradients.flow(LSTM, PARAMS, STATE, XS, squares, probes=probes, key=key, engine="scan")
        return report.log_stretch

    several = np.asarray(jax.jit(jax.vmap(lambda key: stretch(key, 1)))(jax.random.split(KEY, 400)))
    exact = np.asarray(stretch(KEY, 2 * H))
    np.testing.assert_allclose(np.exp(2 * several).mean(0), np.exp(2 * exact), rtol=0.25)


def shape(*axes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(axes, dtype)


def of_flow(cell, params, state, xs, mask):
    return gradients.flow(cell, params, state, xs, squares, mask, singular_values_at=(0, 9999))


def of_sensitivity(cell, params, state, xs, mask):
    return gradients.sensitivity(cell, params, state, xs, lambda ys: ys[-1, ..., 0], mask)


def of_weights(cell, params, state, xs, mask):
    return gradients.weight_gradient_norms(cell, params, state, xs, lambda ys, _: squares(ys), jnp.zeros(8), mask)


def of_exponents(cell, params, state, xs, mask):
    return gradients.lyapunov_exponents(cell, params, state, xs, 4, mask=mask)


@pytest.mark.parametrize(
    ("report", "most"), [(of_flow, 400e6), (of_sensitivity, 250e6), (of_weights, 250e6), (of_exponents, 50e6)]
)
def test_ten_thousand_ticks_of_256_lstm_units_fit_in_two_gigabytes(report, most):
    cell = sj.lstm(64, 256, dtype=jnp.float32)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = sj.LSTMState(shape(8, 256), shape(8, 256))
    run = jax.jit(functools.partial(report, cell))
    xs, mask = shape(10_000, 8, 64), shape(10_000, 8, dtype=bool)
    memory = run.lower(params, state, xs, mask).compile().memory_analysis()
    total = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    # All states are 160 MB, all activations that a backward pass wants 800 MB.
    assert total < most


def test_a_second_call_compiles_nothing():
    traces = 0

    def step(params, state, x):
        nonlocal traces
        traces += 1
        return LSTM.step(params, state, x)

    cell = sj.Cell(LSTM.init, LSTM.initial_state, step)
    gradients.flow(cell, PARAMS, STATE, XS, squares, singular_values_at=(1,), engine="scan")
    first = traces
    gradients.flow(cell, PARAMS, STATE, XS + 1, squares, singular_values_at=(1,), engine="scan")
    assert traces == first


def test_errors():
    with pytest.raises(ValueError, match="flow: expected at most 8 probes"):
        gradients.flow(LSTM, PARAMS, STATE, XS, squares, probes=9)
    with pytest.raises(ValueError, match="flow: expected loss\\(ys\\) of shape \\(\\) like a scalar"):
        gradients.flow(LSTM, PARAMS, STATE, XS, lambda ys: ys.sum((0, 2)))
    with pytest.raises(ValueError, match="step_jacobians: expected ticks from 0 to 6, got 7"):
        gradients.step_jacobians(LSTM, PARAMS, STATE, XS, [7])
    with pytest.raises(ValueError, match=r"step_jacobians: expected ticks from 0 to 6, got 1\.5"):
        gradients.step_jacobians(LSTM, PARAMS, STATE, XS, [1.5])
    with pytest.raises(ValueError, match="lyapunov_exponents: expected at most 8 exponents"):
        gradients.lyapunov_exponents(LSTM, PARAMS, STATE, XS, 9)
    with pytest.raises(ValueError, match="lyapunov_exponents: expected skip from 0 to 6"):
        gradients.lyapunov_exponents(LSTM, PARAMS, STATE, XS, skip=7)
    with pytest.raises(ValueError, match="with_saturation: expected a part"):
        gradients.with_saturation(LSTM, 0.6)
    with pytest.raises(TypeError, match="sensitivity: expected floats"):
        gradients.sensitivity(LSTM, PARAMS, STATE, jnp.ones((T, B, D), int), squares)
    with pytest.raises(ValueError, match="sensitivity: expected of"):
        gradients.sensitivity(LSTM, PARAMS, STATE, XS, squares)
    with pytest.raises(ValueError, match="weight_gradient_norms: expected a state with one batch axis"):
        gradients.weight_gradient_norms(LSTM, PARAMS, LSTM.initial_state(PARAMS), XS[:, 0], squares, ())


# ---- Lyapunov exponents


def test_lyapunov_exponents_of_the_logistic_map():
    exponent = gradients.lyapunov_exponents(
        gradients.logistic_map, jnp.array(4.0), jnp.array([0.3, 0.61]), None, length=20_000
    )
    np.testing.assert_allclose(exponent[:, 0], np.log(2), atol=2e-3)
    # At r = 2 the fixed point 1/2 is superstable; at r = 2.5 the slope there is 2 - r.
    exponent = gradients.lyapunov_exponents(
        gradients.logistic_map, jnp.array(2.5), jnp.array(0.3), None, length=2000, skip=1000
    )
    np.testing.assert_allclose(exponent, np.log(0.5), rtol=1e-9)


def test_lyapunov_exponents_of_linear_maps_and_a_rotation():
    cell = sj.elman(1, 3, activation=lambda a: a, b_init=None)
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 0.5]])
    base = np.random.default_rng(0).normal(size=(3, 3))
    params = sj.ElmanParams(jnp.zeros((1, 3)), jnp.asarray(base @ rotation @ np.linalg.inv(base)), None)
    exponents = gradients.lyapunov_exponents(cell, params, jnp.ones(3), jnp.zeros((3000, 1)), skip=200)
    np.testing.assert_allclose(exponents, [0, 0, np.log(0.5)], atol=2e-3)
    two = gradients.lyapunov_exponents(cell, params, jnp.ones(3), jnp.zeros((3000, 1)), 2, skip=200, key=KEY)
    np.testing.assert_allclose(two, exponents[:2], atol=2e-3)


def test_qr_tick_by_tick_is_that_of_the_direct_product():
    state = jax.tree.map(lambda s: s[0], STATE)
    product, last = chained(state, XS[:, 0], 0)
    product = product @ last
    first = jnp.linalg.qr(jax.random.normal(KEY, (2 * H, 3)))[0]
    expected = np.log(np.abs(np.diagonal(np.linalg.qr(np.asarray(product @ first))[1]))) / T
    found = gradients.lyapunov_exponents(LSTM, PARAMS, state, XS[:, 0], 3, key=KEY)
    np.testing.assert_allclose(found, -np.sort(-expected), rtol=1e-8)


def test_lyapunov_exponents_sum_to_the_log_determinant_and_skip_padding():
    def volume(example, length):
        state, xs = jax.tree.map(lambda s: np.asarray(s)[example], STATE), np.asarray(XS)[:length, example]
        logs = [np.linalg.slogdet(chained(state, xs, t)[1])[1] for t in range(length)]
        return np.mean(logs)

    exponents = gradients.lyapunov_exponents(LSTM, PARAMS, STATE, JUNK, mask=MASK)
    np.testing.assert_allclose(exponents[0].sum(), volume(0, 7), rtol=1e-9)
    np.testing.assert_allclose(exponents[1].sum(), volume(1, 4), rtol=1e-9)
    assert np.isnan(exponents[2]).all()


def test_lyapunov_memory_does_not_grow_with_time():
    cell = sj.elman(1, 16)
    params = jax.eval_shape(cell.init, jax.random.key(0))

    auto = sj.Cell(cell.init, cell.initial_state, lambda p, h, _: cell.step(p, h, jnp.zeros(1)))

    def bytes_of(length):
        f = lambda p, s: gradients.lyapunov_exponents(auto, p, s, None, 4, length=length)
        return jax.jit(f).lower(params, jax.ShapeDtypeStruct((16,), jnp.float64)).compile().memory_analysis()

    assert bytes_of(100_000).temp_size_in_bytes == bytes_of(10).temp_size_in_bytes


# ---- sensitivity, untied copies


def test_sensitivity_is_the_jacobian_row():
    of = lambda ys: ys[5, ..., 2]
    found = np.asarray(gradients.sensitivity(LSTM, PARAMS, STATE, XS, of, MASK))
    of_xs = lambda xs: of(sj.unroll(LSTM, PARAMS, STATE, xs, mask=MASK, engine="scan")[1])
    full = np.asarray(jax.jit(jax.jacrev(of_xs))(XS))
    for b in range(B):
        np.testing.assert_allclose(found[:, b], np.linalg.norm(full[b, :, b], axis=-1), rtol=1e-10)
    assert found[5, 0] > 0
    assert found[6, 0] == 0
    np.testing.assert_array_equal(gradients.sensitivity(LSTM, PARAMS, STATE, JUNK, of, MASK), found)


# Copies are made of whatever leaves there are: a counter and noise in the state matter, more leaves do not.
MORE = [pytest.param(name, marks=pytest.mark.slow) for name in ("gru_before", "layer_norm_lstm")]


@pytest.mark.parametrize("name", ["elman", "first_bias", "zoneout", *MORE])
def test_gradients_of_untied_copies_sum_to_the_gradient(name):
    cell = CELLS[name].make()
    params = drawn(cell)
    state = state_of(cell, params, key=KEY)

    @jax.jit
    def both(params):
        copies = gradients.untied_gradients(cell, params, state, XS, squares, MASK)
        whole = jax.grad(lambda p: squares(sj.unroll(cell, p, state, XS, mask=MASK, engine="scan")[1]))(params)
        return jax.tree.map(lambda g: g.sum(0), copies), whole

    copies, whole = both(params)
    chex.assert_trees_all_close(copies, whole, rtol=1e-12, atol=1e-12)


def test_the_norms_of_untied_gradients_are_those_of_each_example():
    cell = sj.stack(sj.gru(D, H), sj.elman(H, H))
    params = drawn(cell)
    state = state_of(cell, params)
    loss = lambda ys, target: ((ys - target) ** 2).sum()

    @jax.jit
    def both(state):
        norms = gradients.weight_gradient_norms(cell, params, state, XS, loss, jnp.arange(3.0), MASK)
        one = jax.tree.map(lambda s: s[:1], state)
        alone = gradients.untied_gradients(cell, params, one, XS[:, :1], lambda ys: loss(ys, 0.0), MASK[:, :1])
        return norms, alone

    norms, alone = jax.tree.map(np.asarray, both(state))
    expected = np.sqrt(sum((g**2).reshape(T, -1).sum(1) for g in jax.tree.leaves(alone)))
    np.testing.assert_allclose(norms[:, 0], expected, rtol=1e-10)
    np.testing.assert_array_equal(norms[~np.asarray(MASK)], 0)


# ---- by hand


def untie(cell, params, xs, weights, last):
    """The loss whose outputs' gradients are ``weights`` and whose last state's are ``last``."""

    def loss(params, state, xs):
        state, ys = sj.unroll(cell, params, state, xs, engine="scan")
        return (ys * weights).sum() + sum((a * b).sum() for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(last)))

    return loss


@pytest.mark.parametrize(
    ("cell", "bptt"),
    [
        (sj.elman(D, H), gradients.elman_bptt),
        (sj.elman(D, H, activation=lambda a: a), gradients.linear_bptt),
        (sj.lstm(D, H), gradients.lstm_bptt),
    ],
    ids=["elman", "linear", "lstm"],
)
def test_bptt_by_hand_equals_autodiff(cell, bptt):
    params = drawn(cell)
    state = state_of(cell, params)
    ys_bar = jnp.asarray(np.random.default_rng(7).normal(size=(T, B, H)))
    last = state_of(cell, params)

    @jax.jit
    def both(*args):
        expected = jax.grad(untie(cell, params, XS, ys_bar, last), argnums=(0, 1, 2))(*args)
        return bptt(*args, ys_bar, last), expected

    found, expected = both(params, state, XS)
    chex.assert_trees_all_close(tuple(found), expected, rtol=1e-12, atol=1e-12)


def test_bptt_asks_for_a_bias():
    params = PARAMS._replace(b=None)
    with pytest.raises(ValueError, match="lstm_bptt: expected a bias of one array, got NoneType"):
        gradients.lstm_bptt(params, STATE, XS, jnp.zeros((T, B, H)), STATE)
