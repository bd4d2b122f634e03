"""Transformations of cells against what they say they do, value by value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import B, T, at, floats, state_of
from reference import cells as reference
from zoo import D, H, perturbed

import seqjax as sj
from seqjax.transforms import compose

KEY = jax.random.key(7)
XS = jax.random.normal(jax.random.key(3), (T, B, D))


def drawn(cell):
    return perturbed(cell.init(jax.random.key(1)), jax.random.key(2))


def memory(size):
    """A cell that only copies: h' = h, y = x."""
    return sj.Cell(
        init=lambda key: (),
        initial_state=lambda params, batch_shape=(), *, key=None: jnp.zeros((*batch_shape, size)),
        step=lambda params, h, x: (h, x),
    )


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
    params = perturbed(params, jax.random.key(2))
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
    params = perturbed(start, jax.random.key(2))
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


# ---- dropout


def test_variational_dropout_is_one_mask_a_sequence_and_example():
    size, rate = 2000, 0.3
    cell = sj.variational_dropout(memory(1), rate)
    state = cell.initial_state((), (B,), key=KEY)
    last, ys = sj.unroll(cell, (), state, jnp.ones((T, B, size)))
    for y in ys[1:]:
        np.testing.assert_array_equal(y, ys[0])
    np.testing.assert_allclose(np.unique(ys), [0, 1 / (1 - rate)], rtol=1e-15)
    assert np.all(np.abs((np.asarray(ys[0]) == 0).mean(1) - rate) < 0.05)
    assert abs(np.corrcoef(ys[0, :2])[0, 1]) < 0.1
    fresh = sj.redraw(cell, (), last, jax.random.key(8))
    assert not np.array_equal(sj.unroll(cell, (), fresh, jnp.ones((1, B, size)))[1][0], ys[0])
    np.testing.assert_array_equal(sj.unroll(cell, (), cell.initial_state((), (B,)), XS)[1], XS)


def test_variational_dropout_of_a_tree():
    """Each array of floats has a mask of its own; integers pass."""
    cell = sj.variational_dropout(memory(1), 0.5)
    x = {"a": jnp.ones((B, 500)), "b": jnp.ones((B, 500)), "symbol": jnp.arange(B)}
    _, y = cell.step((), cell.initial_state((), (B,), key=KEY), x)
    np.testing.assert_array_equal(y["symbol"], x["symbol"])
    assert abs(np.corrcoef(y["a"][0], y["b"][0])[0, 1]) < 0.2


def dropped(noise, rate, index, size):
    """The mask that follows from a key, scaled."""

    def draw(key):
        return jax.random.bernoulli(jax.random.fold_in(key, index), 1 - rate, (size,))

    return np.asarray(jax.vmap(draw)(noise.value)) / (1 - rate)


def test_no_key_no_randomness():
    """Without a key a randomised cell is the cell itself, or its expectation, and its state holds no noise."""
    inner = sj.gru(D, H)
    params = drawn(inner)
    expected = sj.unroll(inner, params, inner.initial_state(params, (B,)), XS)
    for make in (sj.variational_dropout, sj.recurrent_dropout):
        cell = make(inner, 0.5)
        (last, noise), ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), XS)
        assert noise == sj.Noise(None)
        for a, b in zip(expected, (last, ys)):
            np.testing.assert_array_equal(a, b)
    start = sj.random_initial_state(inner, 0.5).initial_state(params, (B,))
    np.testing.assert_array_equal(start, inner.initial_state(params, (B,)))
    assert sj.zoneout(inner, 0.5).initial_state(params, (B,))[1] == sj.Noise(None)


def test_recurrent_dropout_is_one_mask_a_sequence():
    """With h' = h U and U = I: a dropped unit is gone, a kept one grows by 1/(1-rate) each tick."""
    rate, size = 0.3, 1000
    inner = sj.elman(1, size, activation=lambda a: a, b_init=None)
    params = sj.ElmanParams(jnp.zeros((1, size)), jnp.eye(size), None)
    cell = sj.recurrent_dropout(inner, rate)
    _, noise = cell.initial_state(params, (2,), key=KEY)
    (last, _), _ = sj.unroll(cell, params, (jnp.ones((2, size)), noise), jnp.ones((4, 2, 1)))
    last = np.asarray(last)
    np.testing.assert_allclose(np.unique(last.round(9)), [0, (1 / (1 - rate)) ** 4], rtol=1e-8)
    assert np.all(np.abs((last == 0).mean(1) - rate) < 0.05)
    assert abs(np.corrcoef(last)[0, 1]) < 0.1


@pytest.mark.parametrize("reset", ["after", "before"])
def test_recurrent_dropout_leaves_the_copy_alone(reset):
    """Gates and candidate see m ⊙ h / (1-rate), the copy z ⊙ h does not."""
    rate = 0.4
    inner = sj.gru(D, H, reset=reset)
    params = drawn(inner)
    cell = sj.recurrent_dropout(inner, rate)
    state = cell.initial_state(params, (B,), key=KEY)
    state = (state_of(inner, params), state[1])
    mask = dropped(state[1], rate, 0, H)
    assert 0 < (mask == 0).sum() < mask.size
    (new, _), y = cell.step(params, state, XS[0])
    p = jax.tree.map(np.asarray, params)
    step = reference.gru_after if reset == "after" else reference.gru_before
    for b in range(B):
        h, x = np.asarray(state[0][b]), np.asarray(XS[0, b])
        seen = h * mask[b]
        W, U, bias = (reference.blocks(w, "rzn") for w in (p.w_x, p.w_h, p.b))
        z = reference.sigmoid(x @ W.z + seen @ U.z + bias.z)
        expected = step(p, seen, x)[0] + z * (h - seen)
        np.testing.assert_allclose(new[b], expected, rtol=1e-12)
        np.testing.assert_allclose(y[b], expected, rtol=1e-12)


def test_recurrent_dropout_of_a_stack_draws_a_mask_a_layer():
    inner = sj.stack(*(sj.elman(H, H, activation=lambda a: a, b_init=None) for _ in range(2)))
    one = sj.ElmanParams(jnp.zeros((H, H)), jnp.eye(H), None)
    cell = sj.recurrent_dropout(inner, 0.5)
    state, noise = cell.initial_state((one, one), (50,), key=KEY)
    (new, _), _ = cell.step((one, one), (jax.tree.map(jnp.ones_like, state), noise), jnp.ones((50, H)))
    for i in (0, 1):
        np.testing.assert_array_equal(new[i], dropped(noise, 0.5, i, H))
    assert not np.array_equal(*new)


def jitted(cell):
    return cell._replace(step=jax.jit(cell.step))


@pytest.mark.parametrize("transform", [sj.recurrent_dropout, sj.zoneout], ids=["recurrent_dropout", "zoneout"])
def test_noise_reaches_into_jitted_steps(transform):
    """A step under `jax.jit`, with a jitted function of its own that has a derivative rule (relu)."""
    inner = sj.elman(D, H, activation=jax.nn.relu)
    plain, hidden = transform(inner, 0.4), transform(jitted(jitted(inner)), 0.4)
    params = drawn(inner)
    state = plain.initial_state(params, (B,), key=KEY)

    def gradient(cell):
        return jax.value_and_grad(lambda p: (sj.unroll(cell, p, state, XS)[1] ** 2).sum())(params)

    for a, b in zip(jax.tree.leaves(gradient(plain)), jax.tree.leaves(gradient(hidden))):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def bodies(jaxpr):
    """The loops of a jaxpr, at any depth."""
    for equation in jaxpr.eqns:
        for sub in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda s: hasattr(s, "eqns")):
            sub = getattr(sub, "jaxpr", sub)
            if hasattr(sub, "eqns"):
                if equation.primitive.name in ("scan", "while"):
                    yield sub
                yield from bodies(sub)


@pytest.mark.parametrize("transform", [sj.recurrent_dropout, sj.variational_dropout])
def test_masks_are_drawn_once_a_sequence(transform):
    """In a training step the draw stands outside the loops over time, though the step writes it inside."""
    inner = sj.lstm(D, H)
    cell = transform(inner, 0.4)
    params = drawn(inner)
    state = cell.initial_state(params, (B,), key=KEY)

    def loss(p):
        lengths = jnp.array([7, 4, 0])
        return (sj.unroll(cell, p, state, XS, lengths=lengths, engine="scan")[1] ** 2).sum()

    text = [str(body) for body in bodies(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)]
    assert text
    assert not any("random_bits" in body or "threefry" in body for body in text)


# ---- zoneout


def test_zoneout_keeps_old_values():
    rate = sj.LSTMState(h=0.2, c=0.6)
    inner = sj.lstm(D, 100)
    params = drawn(inner)
    cell = sj.zoneout(inner, rate)
    old, noise = cell.initial_state(params, (B,), key=KEY)
    old = jax.tree.map(lambda s: s + 0.5, old)
    plain, _ = inner.step(params, old, XS[0])
    (new, noise_1), y = cell.step(params, (old, noise), XS[0])
    for before, after, zoned, r in zip(old, plain, new, rate):
        held = np.asarray(zoned == before)
        np.testing.assert_array_equal(zoned, np.where(held, before, after))
        assert abs(held.mean() - r) < 0.1
    np.testing.assert_array_equal(y, new.h)
    (again, _), _ = cell.step(params, (old, noise_1), XS[0])
    held = [np.asarray(s.c == old.c).ravel() for s in (new, again)]
    assert abs(np.corrcoef(held)[0, 1]) < 0.1
    apart = [np.asarray(new.h == old.h).ravel(), held[0]]
    assert abs(np.corrcoef(apart)[0, 1]) < 0.1


def test_zoneout_without_key_is_the_expectation():
    inner = sj.lstm(D, H)
    params = drawn(inner)
    cell = sj.zoneout(inner, sj.LSTMState(h=0.2, c=0.6))
    old = state_of(inner, params)
    plain, _ = inner.step(params, old, XS[0])
    (new, _), y = cell.step(params, (old, sj.Noise(None)), XS[0])
    np.testing.assert_allclose(new.h, 0.2 * old.h + 0.8 * plain.h, rtol=1e-14)
    np.testing.assert_allclose(new.c, 0.6 * old.c + 0.4 * plain.c, rtol=1e-14)
    np.testing.assert_array_equal(y, new.h)


def test_zoneout_output_follows_the_state():
    """The output y = x + h' takes the zoned-out h'; keys, flags and inner noise are not held back."""
    inner = sj.first_bias(sj.residual(sj.recurrent_dropout(sj.elman(D, D), 0.3)))
    cell = sj.zoneout(inner, 0.5)
    params = inner.init(jax.random.key(1))
    state = cell.initial_state(params, (B,), key=KEY)
    (new, _), y = cell.step(params, state, XS[0])
    h, noise = new.cell
    np.testing.assert_array_equal(y, XS[0] + h)
    assert 0 < np.sum(h == 0) < h.size
    assert not new.first.any()
    np.testing.assert_array_equal(jax.random.key_data(noise.value), jax.random.key_data(state[0].cell[1].value))


# ---- dropped weights


def test_weight_drop():
    params = {"cells": (sj.lstm(D, 60).init(KEY), sj.gru(60, 40).init(KEY)), "w": jnp.ones(3)}
    rate = 0.3
    dropped = sj.weight_drop(params, jax.random.key(1), rate)
    assert jax.tree.structure(dropped) == jax.tree.structure(params)
    for before, after in zip(params["cells"], dropped["cells"]):
        kept = np.asarray(after.w_h != 0)
        assert abs(kept.mean() - (1 - rate)) < 0.02
        np.testing.assert_allclose(after.w_h, np.where(kept, before.w_h / (1 - rate), 0), rtol=1e-14)
        np.testing.assert_array_equal(after.w_x, before.w_x)
        np.testing.assert_array_equal(after.b, before.b)
    one, two = (np.asarray(cell.w_h != 0)[:40, :120].ravel() for cell in dropped["cells"])
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.1
    np.testing.assert_array_equal(
        sj.weight_drop(params, jax.random.key(1), rate)["cells"][0].w_h, dropped["cells"][0].w_h
    )
    assert sj.weight_drop(params, None, rate) is params
    other = sj.weight_drop(params, jax.random.key(1), 0.9, names=("w",))
    np.testing.assert_array_equal(other["cells"][0].w_h, params["cells"][0].w_h)
    assert np.sum(other["w"] == 0) > 0


def test_weight_drop_gradient_goes_to_kept_weights():
    cell = sj.elman(D, H)
    params = drawn(cell)
    dropped = sj.weight_drop(params, KEY, 0.5)

    def loss(params):
        params = sj.weight_drop(params, KEY, 0.5)
        return sj.unroll(cell, params, cell.initial_state(params, (B,)), XS)[1].sum()

    gradient = jax.grad(loss)(params).w_h
    np.testing.assert_array_equal(gradient != 0, dropped.w_h != 0)


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


# ---- errors


def test_bad_rates():
    cell = sj.lstm(D, H)
    for who, make in {
        "zoneout": sj.zoneout,
        "variational_dropout": sj.variational_dropout,
        "recurrent_dropout": sj.recurrent_dropout,
        "weight_drop": lambda cell, rate: sj.weight_drop(drawn(cell), KEY, rate),
    }.items():
        for rate in (-0.1, 1.0, "half"):
            with pytest.raises(ValueError, match=rf"{who}: expected a rate of at least 0 and below 1, got {rate!r}"):
                make(cell, rate)


def test_zoneout_rates_fit_the_state():
    cell = sj.zoneout(sj.elman(D, H), sj.LSTMState(h=0.1, c=0.2))
    params = cell.init(KEY)
    with pytest.raises(ValueError, match=r"zoneout: expected one rate, or rates like the state .* Give a tree of the"):
        cell.step(params, cell.initial_state(params, (B,)), XS[0])


def test_symbols_are_not_dropped():
    cell = sj.variational_dropout(memory(1), 0.1)
    with pytest.raises(TypeError, match=r"variational_dropout: expected inputs with floats to drop, got int.* Embed"):
        cell.step((), cell.initial_state((), (B,)), jnp.arange(B))


def test_recurrent_dropout_needs_a_mark():
    bare = memory(1)
    cell = sj.recurrent_dropout(bare, 0.1)
    with pytest.raises(ValueError, match=r"expected a step that marks .* got no mark. Write dot\(sj.recurrent_input"):
        cell.step((), cell.initial_state((), (B,), key=KEY), jnp.ones((B, 1)))

    def looped(params, h, x):
        return jax.lax.fori_loop(0, 2, lambda _, h: jnp.tanh(sj.recurrent_input(h)), h), x

    cell = sj.recurrent_dropout(bare._replace(step=looped), 0.1)
    with pytest.raises(ValueError, match=r"expected sj.recurrent_input in the step itself, got it inside scan. Mark"):
        cell.step((), cell.initial_state((), (B,), key=KEY), jnp.ones((B, 1)))


def test_weight_drop_needs_recurrent_weights():
    with pytest.raises(ValueError, match=r"weight_drop: expected parameters with a field called w_h, got none"):
        sj.weight_drop({"w": jnp.ones(3)}, KEY, 0.5)


def test_stack_and_residual_errors():
    with pytest.raises(ValueError, match=r"stack: expected at least one cell, got none. Pass the cells"):
        sj.stack()
    with pytest.raises(TypeError, match=r"stack: expected a Cell, got Layer. Layers go into serial"):
        sj.stack(sj.recurrent(sj.elman(D, H)))
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
