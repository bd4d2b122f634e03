"""Dropout of inputs, of the state and of weights, and zoneout, value by value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import B, T, state_of
from reference import cells as reference
from small_cells import jitted, memory
from zoo import D, H, drawn

import seqjax as sj

KEY = jax.random.key(7)
XS = jax.random.normal(jax.random.key(3), (T, B, D))


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
