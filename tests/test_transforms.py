"""Stacks, initial states and trajectories against what they say they do, value by value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import B, T, at, floats, state_of
from small_cells import jitted, memory
from zoo import D, H, drawn, perturbed

import seqjax as sj
from seqjax.transforms import compose

KEY = jax.random.key(7)
XS = jax.random.normal(jax.random.key(3), (T, B, D))


# ---- stack and residual


def test_stack_is_one_cell_after_the_other():
    low, high = sj.lstm(D, H), sj.gru(H, 2)
    cell = sj.stack(low, high)
    params = drawn(cell)
    state = state_of(cell, params)
    last, ys = sj.unroll(cell, params, state, XS)
    low_last, between = sj.unroll(low, params[0], state[0], XS)
    high_last, top = sj.unroll(high, params[1], state[1], between)
    for a, b in zip(jax.tree.leaves((last, ys)), jax.tree.leaves(((low_last, high_last), top))):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_skip_stack_is_haikus_deep_rnn_with_skip_connections():
    """Each cell above the first reads the input beside the output below; all outputs are the output."""
    hk = pytest.importorskip("haiku", reason="haiku is not installed (extra peers)")
    sizes = ((D, H), (D + H, 2), (D + 2, H))
    cell = sj.transforms.skip_stack(*(sj.elman(d, h, activation=jax.nn.relu) for d, h in sizes))
    params = drawn(cell)
    state = state_of(cell, params)
    last, ys = sj.unroll(cell, params, state, XS)

    def theirs(xs, state):
        return hk.dynamic_unroll(hk.deep_rnn_with_skip_connections([hk.VanillaRNN(n) for n in (H, 2, H)]), xs, state)

    run = hk.without_apply_rng(hk.transform(theirs))
    with jax.numpy_dtype_promotion("standard"):
        given = {}
        for p, name in zip(params, ("vanilla_rnn", "vanilla_rnn_1", "vanilla_rnn_2")):
            given |= {f"{name}/linear": {"w": p.w_x, "b": p.b}, f"{name}/linear_1": {"w": p.w_h, "b": 0 * p.b}}
        assert jax.tree.structure(given) == jax.tree.structure(run.init(KEY, XS, state))
        expected, end = run.apply(given, XS, state)
    np.testing.assert_allclose(ys, expected, rtol=1e-12)
    for a, b in zip(last, end):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_residual_adds_the_input():
    inner = sj.elman(H, H)
    cell = sj.residual(inner)
    params, x = drawn(inner), jnp.ones((B, H), jnp.float32)
    state = state_of(inner, params)
    h, y = cell.step(params, state, x)
    np.testing.assert_array_equal(h, inner.step(params, state, x)[0])
    np.testing.assert_array_equal(y, 1 + h)
    zero = jax.tree.map(jnp.zeros_like, params)
    np.testing.assert_array_equal(cell.step(zero, state, x)[1], x)


# ---- initial states


def test_learned_initial_state():
    """s_0 = θ for every example and after a reset; its gradient is the sum of theirs."""
    inner = sj.lstm(D, H)
    cell = sj.learned_initial_state(inner)
    params = cell.init(jax.random.key(1))
    np.testing.assert_array_equal(cell.initial_state(params, (B,)).c, np.zeros((B, H)))
    params = perturbed(params)
    weights = jax.random.normal(jax.random.key(4), (T, B, H))
    reset = jnp.zeros((T, B), bool).at[3].set(True)

    def loss(params):
        return (weights * sj.unroll(cell, params, cell.initial_state(params, (B,)), XS, reset=reset)[1]).sum()

    def apart(starts):
        _, first = sj.unroll(inner, params.cell, jax.tree.map(lambda s: s[0], starts), XS[:3])
        _, second = sj.unroll(inner, params.cell, jax.tree.map(lambda s: s[1], starts), XS[3:])
        return (weights * jnp.concatenate([first, second])).sum()

    starts = jax.tree.map(lambda s: jnp.broadcast_to(s, (2, B, H)), params.state)
    np.testing.assert_allclose(loss(params), apart(starts), rtol=1e-12)
    gradient = jax.grad(loss)(params).state
    assert type(gradient) is sj.LSTMState
    for g, each in zip(gradient, jax.grad(apart)(starts)):
        np.testing.assert_allclose(g, each.sum((0, 1)), rtol=1e-10)
        assert np.abs(g).min() > 1e-6


def test_learned_initial_state_leaves_noise_and_counters_alone():
    cell = sj.learned_initial_state(sj.zoneout(sj.first_bias(sj.elman(D, H)), 0.1))
    params = cell.init(jax.random.key(1))
    assert [leaf.shape for leaf in jax.tree.leaves(params.state)] == [(H,)]
    state, noise = cell.initial_state(params, (B,), key=KEY)
    assert state.first.all()
    assert noise.value.shape == (B,)


def test_random_initial_state():
    pair = sj.stack(memory(1000), memory(1000))
    cell = sj.random_initial_state(sj.learned_initial_state(pair), 0.25)
    params = cell.init(jax.random.key(1))._replace(state=(jnp.full(1000, 2.0), jnp.zeros(1000)))
    h, c = cell.initial_state(params, (2,), key=KEY)
    for noise in (h - 2.0, c):
        assert abs(np.std(noise) - 0.25) < 0.02
        assert abs(np.mean(noise)) < 0.02
        assert abs(np.corrcoef(noise)[0, 1]) < 0.1
    assert abs(np.corrcoef(h[0], c[0])[0, 1]) < 0.1
    np.testing.assert_array_equal(cell.initial_state(params, (2,))[0], np.full((2, 1000), 2.0))
    alone = jax.vmap(lambda key: cell.initial_state(params, key=key)[0])
    assert not np.array_equal(*alone(jax.random.split(KEY)))


@pytest.mark.parametrize("b_init", [sj.initializers.lstm_bias, sj.initializers.only("i", "o")])
def test_first_bias(b_init):
    """The first tick of every segment has the bias b_first, all others b; each gets its own gradient."""
    inner = sj.lstm(D, H, b_init=b_init)
    cell = sj.first_bias(inner)
    start = cell.init(jax.random.key(1))
    for own, b in zip(floats(start.b), floats(start.cell.b)):
        np.testing.assert_array_equal(own, b)
    params = perturbed(start)
    weights = jax.random.normal(jax.random.key(4), (T, B, H))
    reset = jnp.zeros((T, B), bool).at[4].set(True)

    def loss(params):
        return (weights * sj.unroll(cell, params, cell.initial_state(params, (B,)), XS, reset=reset)[1]).sum()

    def by_hand(params):
        outs = []
        for t in range(T):
            if t in (0, 4):
                state = inner.initial_state(params.cell, (B,))
            biased = params.cell._replace(b=params.b) if t in (0, 4) else params.cell
            state, y = inner.step(biased, state, XS[t])
            outs.append(y)
        return (weights * jnp.stack(outs)).sum()

    np.testing.assert_allclose(loss(params), by_hand(params), rtol=1e-12)
    gradient, expected = jax.grad(loss)(params), jax.jit(jax.grad(by_hand))(params)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        assert np.abs(a).max() > 1e-6


# ---- trajectories


MATRIX = np.random.default_rng(0).normal(size=(H, H))


def readout():
    """An LSTM whose output is computed from its state: y = h' C + c'."""
    inner = sj.lstm(D, H)

    def step(params, state, x):
        state, _ = inner.step(params, state, x)
        return state, state.h @ MATRIX + state.c

    return inner._replace(step=step)


# Cells, and their output as a function of the new state and the input.
CELLS = {
    "lstm": (sj.lstm(D, H), lambda s, x: s.h),
    "readout": (readout(), lambda s, x: s.h @ MATRIX + s.c),
    "jitted": (jitted(readout()), lambda s, x: s.h @ MATRIX + s.c),
    "residual": (sj.residual(sj.lstm(D, D)), lambda s, x: x + s.h),
    "stack": (sj.stack(sj.lstm(D, H), sj.residual(sj.gru(H, H))), lambda s, x: s[0].h + s[1]),
}


def test_with_states():
    inner = sj.lstm(D, H)
    params = drawn(inner)
    state = state_of(inner, params)
    last, (ys, states) = sj.unroll(sj.with_states(inner), params, state, XS)
    for t in range(T):
        state, y = inner.step(params, state, XS[t])
        np.testing.assert_allclose(ys[t], y, rtol=1e-13)
        np.testing.assert_allclose(states.h[t], state.h, rtol=1e-13)
        np.testing.assert_allclose(states.c[t], state.c, rtol=1e-13)
    np.testing.assert_array_equal(last.c, states.c[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_perturbation_gradient_is_that_of_the_state(name):
    """dL/dε_t equals dL/ds_t by running on from s_t; the output of tick t is a function of s_t too."""
    cell, output = CELLS[name]
    params = drawn(cell)
    state = state_of(cell, params)
    shape = jax.eval_shape(lambda: sj.unroll(cell, params, state, XS)[1]).shape
    weights = jax.random.normal(jax.random.key(4), shape)

    @jax.jit
    def perturbed_gradient():
        def loss(epsilon):
            return (weights * sj.unroll(sj.perturbed(cell), params, state, (XS, epsilon))[1]).sum()

        return jax.grad(loss)(sj.zero_perturbation(state, T))

    @jax.jit
    def on_from(t, moved, x):
        """The loss from tick t on, given s_t."""
        late = jnp.broadcast_to((jnp.arange(T) > t)[:, None], (T, B))
        later = sj.unroll(cell, params, moved, XS, mask=late)[1]
        return (weights[t] * output(moved, x)).sum() + (weights * later).sum()

    gradient = perturbed_gradient()
    _, (ys, states) = sj.unroll(sj.with_states(cell), params, state, XS)
    for t in (0, 3, T - 1):
        value, expected = jax.value_and_grad(on_from, argnums=1)(t, at(states, t), XS[t])
        np.testing.assert_allclose(value, (weights[t:] * ys[t:]).sum(), rtol=1e-11)
        for a, b in zip(jax.tree.leaves(at(gradient, t)), jax.tree.leaves(expected)):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_perturbation_moves_the_state():
    cell = sj.lstm(D, H)
    params = drawn(cell)
    state = state_of(cell, params)
    epsilon = sj.LSTMState(jnp.full((B, H), 0.5), None)
    plain, _ = cell.step(params, state, XS[0])
    moved, y = sj.perturbed(cell).step(params, state, (XS[0], epsilon))
    np.testing.assert_array_equal(moved.h, plain.h + 0.5)
    np.testing.assert_array_equal(moved.c, plain.c)
    np.testing.assert_array_equal(y, moved.h)


def test_zero_perturbation_leaves_noise_out():
    cell = sj.zoneout(sj.first_bias(sj.elman(D, H)), 0.1)
    params = cell.init(jax.random.key(1))
    state = cell.initial_state(params, (B,), key=KEY)
    epsilon = sj.zero_perturbation(state, T)
    assert [e.shape for e in jax.tree.leaves(epsilon)] == [(T, B, H)]
    expected = sj.unroll(cell, params, state, XS)
    got = sj.unroll(sj.perturbed(cell), params, state, (XS, epsilon))
    for a, b in zip(floats(expected), floats(got)):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_stack_and_residual_errors():
    with pytest.raises(ValueError, match=r"stack: expected at least one cell, got none. Pass the cells"):
        sj.stack()
    with pytest.raises(TypeError, match=r"stack: expected a Cell, got Layer. Layers go into serial"):
        sj.stack(sj.recurrent(sj.elman(D, H)))
    with pytest.raises(ValueError, match=r"skip_stack: expected at least one cell, got none"):
        sj.transforms.skip_stack()
    with pytest.raises(TypeError, match=r"skip_stack: expected a Cell, got Layer. Layers go into serial, cells into"):
        sj.transforms.skip_stack(sj.recurrent(sj.elman(D, H)))
    with pytest.raises(TypeError, match=r"residual: expected a Cell, got function.* Pass a cell"):
        compose.residual(sj.elman)
    cell = sj.residual(sj.elman(D, H))
    params = cell.init(KEY)
    with pytest.raises(ValueError, match=r"residual: expected outputs of the inputs' shape \(3, 3\), got \(3, 4\)"):
        cell.step(params, cell.initial_state(params, (B,)), XS[0])


def test_initial_state_errors():
    for scale in (-1.0, "small", None):
        with pytest.raises(ValueError, match=rf"random_initial_state: expected a scale of at least 0, got {scale!r}"):
            sj.random_initial_state(sj.elman(D, H), scale)
    with pytest.raises(ValueError, match=r"first_bias: expected .* a bias b, got ElmanParams without. Give it one"):
        sj.first_bias(sj.elman(D, H, b_init=None)).init(KEY)
    with pytest.raises(ValueError, match=r"first_bias: expected .* a bias b, got tuple without. Give it one; wrap"):
        sj.first_bias(sj.stack(sj.elman(D, H))).init(KEY)


def test_perturbation_errors():
    cell = sj.lstm(D, H)
    params = drawn(cell)
    state = state_of(cell, params)
    for epsilon in (jnp.zeros((B, H)), sj.LSTMState(jnp.zeros((B, H)), jnp.zeros(H))):
        with pytest.raises(
            ValueError, match=r"perturbed: expected a perturbation like the state, .* Make it with zero"
        ):
            sj.perturbed(cell).step(params, state, (XS[0], epsilon))
    with pytest.raises(
        ValueError, match=r"zero_perturbation: expected length to be a whole number of at least 1, got 0"
    ):
        sj.zero_perturbation(state, 0)
