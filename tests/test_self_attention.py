"""Windowed attention against NumPy, in blocks, tick by tick, with NaN, and in the memory of a block."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from laws import assert_close, loss, valued
from marks import quick

from seqjax.engines.equations import jaxprs
from seqjax.layers import windowed_attention

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def by_definition(params, xs, *, heads, groups, window, rotary, mask, reset):
    """One sequence, one tick at a time, each head by itself; every tick turned by its own place in the sequence."""
    w_x, w_out = (np.asarray(p, np.float64) for p in params)
    size = w_out.shape[0] // heads
    w_q, w_k, w_v = np.split(w_x, [heads * size, (heads + groups) * size], axis=1)
    ys, past = np.zeros_like(xs), []

    def turned(v, place):
        if not rotary:
            return v
        z = (v[: size // 2] + 1j * v[size // 2 :]) * np.exp(1j * place * 10_000.0 ** (-2 * np.arange(size // 2) / size))
        return np.concatenate([z.real, z.imag])

    for t, x in enumerate(xs):
        past = [] if reset[t] else past
        if not mask[t]:
            continue
        place = 1000 + len(past)
        past.append(x)
        outputs = []
        for head in range(heads):
            own, shared = (slice(i * size, (i + 1) * size) for i in (head, head * groups // heads))
            q = turned(x @ w_q[:, own], place)
            seen = range(max(0, len(past) - window), len(past))
            scores = np.array([q @ turned(past[s] @ w_k[:, shared], 1000 + s) for s in seen]) / np.sqrt(size)
            weights = np.exp(scores - scores.max())
            outputs.append(weights / weights.sum() @ np.stack([past[s] @ w_v[:, shared] for s in seen]))
        ys[t] = np.concatenate(outputs) @ w_out
    return ys


@pytest.mark.parametrize("kind", quick(["two by two", "one for all", "each its own"], "two by two"))
def test_by_definition(kind):
    """Three blocks of queries, with masked ticks and resets."""
    heads, groups, rotary = {"two by two": (4, 2, True), "one for all": (2, 1, True), "each its own": (4, 4, False)}[
        kind
    ]
    length, batch, window, size = 300, 2, 11, 8
    layer = windowed_attention(size, heads, window, kv_heads=groups, rotary=rotary)
    params = layer.init(KEY)
    xs = RNG.normal(size=(length, batch, size))
    mask, reset = RNG.random((length, batch)) < 0.7, RNG.random((length, batch)) < 0.02
    bad = np.where(mask[..., None], xs, np.nan)
    _, ys = jax.jit(layer.apply)(params, layer.initial_state(params, (batch,)), bad, mask=mask, reset=reset)
    options = {"heads": heads, "groups": groups, "window": window, "rotary": rotary}
    for b in range(batch):
        expected = by_definition(params, xs[:, b], mask=mask[:, b], reset=reset[:, b], **options)
        np.testing.assert_allclose(ys[:, b], expected, rtol=1e-9, atol=1e-12)


def test_blocks_are_the_ticks_one_by_one():
    """Twice round the ring from a state that is not empty, over the edges of blocks: values, state and gradients."""
    layer = windowed_attention(4, 2, 5, kv_heads=1)
    params, xs = layer.init(KEY), jnp.asarray(RNG.normal(size=(270, 2, 4)))
    begin, _ = layer.apply(params, layer.initial_state(params, (2,)), xs[:3])

    def ticks(params, xs):
        state, ys = jax.lax.scan(lambda s, x: layer.apply(params, s, x[None]), begin, xs)
        return state, ys[:, 0]

    both = jax.jit(lambda params, xs: [valued(f, (0, 1))(params, xs) for f in (chunk, ticks)])
    chunk = lambda params, xs: layer.apply(params, begin, xs)
    assert_close(*both(params, xs), rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_gradients_over_blocks_by_finite_differences():
    layer = windowed_attention(2, 1, 3)
    params, xs = layer.init(KEY), jnp.asarray(RNG.normal(size=(140, 2)))
    f = jax.jit(lambda *given: loss(layer.apply(given[0], layer.initial_state(params), given[1])))
    check_grads(f, (params, xs), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)


def test_a_tick_of_nan_spoils_those_that_see_it_and_no_other():
    """Whole and tick by tick; it leaves the ring with its place in the window."""
    layer, t = windowed_attention(4, 2, 5), 130
    params, xs = layer.init(KEY), jnp.asarray(RNG.normal(size=(140, 4))).at[130].set(jnp.nan)

    @jax.jit
    def both(xs):
        start = layer.initial_state(params)
        _, slow = jax.lax.scan(lambda s, x: layer.apply(params, s, x[None]), start, xs)
        return layer.apply(params, start, xs)[1], slow[:, 0]

    for ys in both(xs):
        np.testing.assert_array_equal(np.isnan(ys).all(-1), (np.arange(140) >= t) & (np.arange(140) < t + 5))
        np.testing.assert_array_equal(np.isnan(ys).any(-1), np.isnan(ys).all(-1))


def test_what_lies_in_an_empty_ring_is_not_seen():
    layer = windowed_attention(4, 2, 5)
    params, xs = layer.init(KEY), jnp.asarray(RNG.normal(size=(7, 4)))
    clean = layer.initial_state(params)
    dirty = clean._replace(ring=jnp.full_like(clean.ring, jnp.nan))
    found = jax.jit(lambda s: (layer.apply(params, s, xs)[1], layer.apply(params, s, xs[:1])[1]))
    assert_close(found(dirty), found(clean))


def equations(jaxpr):
    """All of a program, inside its loops too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs.core.jaxprs_in_params(equation.params):
            yield from equations(jaxprs.opened(inner))


def test_no_array_of_ticks_by_ticks():
    """Value and gradient: what is largest grows with the ticks, not with their square."""
    layer = windowed_attention(4, 2, 64)
    params = jax.eval_shape(layer.init, KEY)

    def largest(ticks):
        f = jax.grad(lambda p, xs: loss(layer.apply(p, layer.initial_state(p), xs)))
        found = equations(jax.make_jaxpr(f)(params, jax.ShapeDtypeStruct((ticks, 4), float)).jaxpr)
        return max(v.aval.size for equation in found for v in equation.outvars if hasattr(v.aval, "size"))

    assert largest(8192) <= 2.1 * largest(4096)
    assert largest(8192) < 8192 * 64


@pytest.mark.parametrize("length", quick([1, 9], 9))
def test_the_softmax_is_taken_in_float32(length):
    """With parameters in bfloat16: no exponential of fewer bits, and as near as weights of bfloat16 can be."""
    layer = windowed_attention(16, 1, 9, dtype=jnp.bfloat16)
    exact = windowed_attention(16, 1, 9)
    params = layer.init(KEY)
    wide = jax.tree.map(lambda p: p.astype(float), params)
    past, xs = jnp.asarray(4 * RNG.normal(size=(2, 9, 16)), jnp.bfloat16)
    state, _ = jax.jit(layer.apply)(params, layer.initial_state(params), past)
    assert state.ring.dtype == jnp.bfloat16
    _, ys = jax.jit(layer.apply)(params, state, xs[:length])
    _, expected = jax.jit(exact.apply)(wide, state._replace(ring=state.ring.astype(float)), xs[:length].astype(float))
    assert ys.dtype == jnp.float32
    found = equations(jax.make_jaxpr(layer.apply)(params, state, xs[:length]).jaxpr)
    scores = [equation.invars[0] for equation in found if equation.primitive.name == "exp"]
    assert [v.aval.dtype for v in scores] == [jnp.float32]
    np.testing.assert_allclose(ys, expected, atol=0.03 * np.abs(expected).max())


def _apply(xs, batch=()):
    layer = windowed_attention(4, 2, 3)
    params = layer.init(KEY)
    return layer.apply(params, layer.initial_state(params, batch), xs)


ERRORS = {
    "heads": (
        lambda: windowed_attention(6, 4, 3),
        r"windowed_attention: expected heads to divide size=6, got 4. Change one of them",
    ),
    "kv_heads": (
        lambda: windowed_attention(8, 4, 3, kv_heads=3),
        "windowed_attention: expected kv_heads to divide heads=4, got 3. Change",
    ),
    "odd": (
        lambda: windowed_attention(6, 2, 3),
        r"windowed_attention: expected heads of an even size to rotate, got 6 / 2 = 3. Change size or heads, or set ro",
    ),
    "window": (lambda: windowed_attention(4, 2, 1), "windowed_attention: expected a window of at least 2, got 1. Use"),
    "window_type": (lambda: windowed_attention(4, 2, 2.5), "windowed_attention: expected window to be a whole number"),
    "inputs": (lambda: _apply(jnp.ones((5, 3))), r"windowed_attention: expected inputs \[T, \*batch, 4\], got shape"),
    "batch": (
        lambda: _apply(jnp.ones((5, 2, 4))),
        r"expected inputs' batch of shape \(\) like the state's, got \(2,\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    with pytest.raises(ValueError, match=text):
        call()


def test_a_state_of_one_head_is_as_small_as_its_keys():
    layer = functools.partial(windowed_attention, 8, 4, 5)
    rings = [
        jax.eval_shape(lambda m=m: layer(kv_heads=m).initial_state(layer(kv_heads=m).init(KEY))) for m in (None, 1)
    ]
    assert [state.ring.shape for state in rings] == [(4, 16), (4, 4)]
