"""Laws that every layer obeys."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from laws import (
    LENGTHS,
    MASKS,
    RESET,
    B,
    T,
    assert_close,
    at,
    batched,
    floats,
    loss,
    no_compiles,
    plain,
    poison,
    restarted,
    state_of,
    valued,
)
from marks import all_but, quick
from zoo import LAYERS as ZOO
from zoo import D, H, LayerCase, drawn

import seqjax as sj
from seqjax.base import is_noise
from seqjax.layers.batch_normalized import Statistics

pytestmark = pytest.mark.usefixtures("equal_ranks")


def settled(layer):
    """Batch norm by statistics that stay. Its state is the cell's: those that it gathers outlive a reset, as noise."""

    def init(key):
        return layer.init(key)._replace(statistics=Statistics(jnp.ones(D), jnp.full(4 * H, 2.0)))

    def initial_state(params, batch_shape=(), *, key=None):
        return layer.initial_state(params, batch_shape, key=key).cell

    def apply(params, state, xs, **ticks):
        empty = layer.initial_state(params, xs.shape[1:-1])
        after, ys = layer.apply(params, empty._replace(cell=state), xs, **ticks)
        return after.cell, ys

    return sj.Layer(init, initial_state, apply)


LAYERS = ZOO | {"input_batch_norm_settled": LayerCase(lambda: settled(sj.layers.input_batch_norm(sj.lstm(D, H))))}

# Under the laws of a tick, of padding and of masks every time, under the others, where another layer of the kind is
# (`kinds`), with `pytest -m slow`.
ALIKE = ("recurrent_reverse", "dense", "residual", "tied_embedding", "weight_norm", "rms_norm")
# Under all laws with `pytest -m slow` only: they are made of layers that are under them every time.
MADE = ("depthwise_conv", "gated_mlp", "self_gate", "gated_recurrence", "block")
few = pytest.mark.parametrize(
    "case", quick(LAYERS, "recurrent", "bidirectional", "serial", "causal_conv"), indirect=True, scope="module"
)
kinds = pytest.mark.parametrize("case", all_but(LAYERS, *ALIKE, *MADE), indirect=True, scope="module")


@pytest.fixture(params=all_but(LAYERS, *MADE), scope="module")
def case(request):
    return LAYERS[request.param]


@pytest.fixture
def causal(case):
    """Skips the laws that hold only where no output depends on later inputs."""
    if not case.causal:
        pytest.skip("reads from both ends")


@pytest.fixture(scope="module")
def layer(case):
    return case.make()


@pytest.fixture(scope="module")
def params(layer):
    return drawn(layer)


@pytest.fixture(scope="module")
def xs(case):
    return case.draw(jax.random.key(3), (T, B))


def join(rows):
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *rows)


example = jax.jit(at)


@jax.jit
def gather(xs, t, b):
    """One tick of one example, ``[1, ...]``."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x[:, b], t, 1), xs)


def loop(layer, params, state, xs, mask, reset):
    """One example and one tick at a time: no batch, no mask, no reset, no chunk."""
    apply, rows = jax.jit(layer.apply), []
    blank = jax.eval_shape(lambda p, s, x: layer.apply(p, s, x)[1], params, example(state, 0), gather(xs, 0, 0))
    for b in range(B):
        s = example(state, b)
        ys = [jax.tree.map(lambda y: np.zeros(y.shape, y.dtype), blank)] * T
        for t in range(T):
            if reset[t, b]:
                s = restarted(layer, params, s)
            if mask[t, b]:
                s, ys[t] = apply(params, s, gather(xs, t, b))
        rows.append((s, ys))
    return batched(rows, join)


@pytest.mark.usefixtures("causal")
def test_chunk_equals_ticks_one_by_one(layer, params, xs):
    """Values, last state and gradients, with masks, resets, noise and NaN in the padding."""
    mask = MASKS["holes"]
    state = state_of(layer, params, key=jax.random.key(9))
    bad = poison(mask, xs)
    fast = jax.jit(valued(lambda params: layer.apply(params, state, bad, mask=mask, reset=RESET)))
    slow = valued(lambda params: loop(layer, params, state, xs, np.asarray(mask), np.asarray(RESET)))
    assert_close(fast(params), slow(params))


def test_padded_length_changes_nothing(layer, params, xs):
    """NaN behind the end: values and the gradients of parameters and inputs are those without it."""
    state = state_of(layer, params)
    pad = jnp.concatenate([xs, jnp.full_like(xs[:2], jnp.nan if floats(xs) else 0)])

    def run(params, xs, mask):
        state_T, ys = layer.apply(params, state, xs, mask=mask)
        return state_T, jax.tree.map(lambda y: y[:T], ys)

    run = jax.jit(valued(run, (0, 1)))
    padded, (of_params, of_xs) = run(params, pad, sj.masks.from_lengths(jnp.full(B, T), T + 2))
    expected, (expected_of_params, expected_of_xs) = run(params, xs, None)
    assert_close((padded, of_params), (expected, expected_of_params))
    if floats(xs):
        assert_close(of_xs, jnp.concatenate([expected_of_xs, jnp.zeros_like(xs[:2])]))


def test_masked_outputs_are_zero(layer, params, xs):
    mask = MASKS["holes"]
    _, ys = jax.jit(layer.apply)(params, state_of(layer, params), poison(mask, xs), mask=mask)
    for y in floats(ys):
        assert np.array_equal(np.asarray(y)[~mask], np.zeros_like(np.asarray(y)[~mask]))


@kinds
@pytest.mark.usefixtures("causal")
def test_chunks_compose(layer, params, xs):
    state = state_of(layer, params, key=jax.random.key(5))

    def run(state, ticks):
        return layer.apply(params, state, xs[ticks], mask=MASKS["holes"][ticks], reset=RESET[ticks])

    @jax.jit
    def both(state):
        middle, first = run(state, slice(3))
        last, second = run(middle, slice(3, None))
        return run(state, slice(None)), (last, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second))

    assert_close(*both(state))


@kinds
def test_batch_equals_vmap(case, layer, params, xs):
    """A batch is its examples, noise included, where it does not mix them; two batch axes are one."""
    state, mask = layer.initial_state(params, (B,), key=jax.random.key(6)), MASKS["lengths"]

    @jax.jit
    def apply(state, xs, mask, reset):
        return layer.apply(params, state, xs, mask=mask, reset=reset)

    batched = apply(state, xs, mask, RESET)
    if case.apart:
        assert_close(batched, jax.jit(jax.vmap(apply, (0, 1, 1, 1), (0, 1)))(state, xs, mask, RESET))
    wide = jax.tree.map(lambda s: s[None], state)
    new, ys = apply(wide, xs[:, None], mask[:, None], RESET[:, None])
    assert_close(batched, (at(new, 0), at(ys, slice(None), 0)))


def test_state_keeps_its_type(layer, params, xs):
    def types(key):
        state = layer.initial_state(params, (B,), key=key)
        return state, layer.apply(params, state, xs, key=key)[0]

    for key in (None, jax.random.key(7)):
        state, new = jax.eval_shape(types, key)
        assert all(leaf.shape[:1] == (B,) for leaf in jax.tree.leaves(state))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, new)


def test_one_trace_and_second_call_compiles_nothing(layer, params, xs):
    traces = []

    @jax.jit
    def apply(*args):
        traces.append(1)
        return layer.apply(*args)

    after, _ = apply(params, state_of(layer, params), xs)
    with no_compiles():
        apply(params, after, xs)
    assert len(traces) == 1


def test_second_eager_call_compiles_nothing(layer, params, xs):
    state = state_of(layer, params)
    layer.apply(params, state, xs, mask=MASKS["holes"], reset=RESET)
    with no_compiles():
        layer.apply(params, state, xs, mask=MASKS["holes"], reset=RESET)


@few
def test_gradients_by_finite_differences(case, layer, params, xs):
    """Of the last state, too, but for statistics of the batch that are gathered in it: none goes through them."""
    state = state_of(layer, params)
    leaves, tree = jax.tree.flatten((params, state, xs))
    moving = floats(leaves)
    if not moving:
        return

    def f(moving):
        given = iter(moving)
        filled = [next(given) if jnp.issubdtype(x.dtype, jnp.inexact) else x for x in leaves]
        result = layer.apply(*tree.unflatten(filled), mask=MASKS["lengths"], reset=RESET)
        return loss(result if case.apart else result[1])

    check_grads(jax.jit(f), (moving,), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6, eps=1e-5)


@pytest.mark.usefixtures("causal")
def test_causal(layer, params, xs):
    """Changing the input at tick s changes no output before s."""
    state = state_of(layer, params)
    s = 4
    other = xs.at[s:].set(4 - xs[s:] if jnp.issubdtype(xs.dtype, jnp.integer) else xs[s:] + 1)
    run = jax.jit(lambda xs: layer.apply(params, state, xs)[1])
    ys, zs = run(xs), run(other)
    assert_close(at(ys, slice(s)), at(zs, slice(s)), rtol=0, atol=0)
    assert any(np.abs(a[s:] - b[s:]).max() > 0 for a, b in zip(floats(ys), floats(zs)))


@kinds
def test_gradients_stay_finite_over_long_sequences(layer, case):
    """T = 10,000 from the initial parameters, in float32 numbers as users run it."""
    params = jax.tree.map(lambda p: p.astype(jnp.float32), layer.init(jax.random.key(0)))
    xs = case.draw(jax.random.key(1), (10_000,))
    xs = xs.astype(jnp.float32) if jnp.issubdtype(xs.dtype, jnp.inexact) else xs

    @jax.jit
    @jax.value_and_grad
    def f(params):
        _, ys = layer.apply(params, layer.initial_state(params), xs)
        return loss(ys)

    value, gradient = f(params)
    chex.assert_tree_all_finite((value, gradient))


@few
def test_per_example_gradients_and_ensembles(case, layer, params, xs):
    f = valued(lambda params, state, x: layer.apply(params, state, x)[1])
    state = state_of(layer, params)

    @jax.jit
    def per_example(params):
        return at(jax.vmap(f, (None, 0, 1))(params, state, xs), 1), f(params, at(state, 1), xs[:, 1])

    @jax.jit
    def ensemble(params):
        half = jax.tree.map(lambda p: p * 0.5, params)
        pair = jax.tree.map(lambda p, q: jnp.stack([p, q]), params, half)
        return at(jax.vmap(f, (0, None, None))(pair, state, xs), 1), f(half, state, xs)

    if case.apart:
        assert_close(*per_example(params))
    if jax.tree.leaves(params):
        assert_close(*ensemble(params))


def test_redraw_changes_noise_only(layer, params):
    state = state_of(layer, params, key=jax.random.key(8))
    again = sj.redraw(layer, params, state, jax.random.key(10))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, again)
    for old, new in zip(
        jax.tree.leaves(state, is_leaf=is_noise), jax.tree.leaves(again, is_leaf=is_noise), strict=True
    ):
        if is_noise(old):
            assert not any(
                np.array_equal(a, b) for a, b in zip(jax.tree.leaves(plain(old)), jax.tree.leaves(plain(new)))
            )
        else:
            assert_close(old, new, rtol=0, atol=0)


@kinds
def test_lengths_are_the_mask_that_they_stand_for(layer, params, xs):
    """Values, last state and gradients, with resets, noise and NaN in the padding."""
    state = state_of(layer, params, key=jax.random.key(11))
    bad = poison(MASKS["lengths"], xs)

    def run(**ticks):
        inputs = (0, 1) if floats(xs) else 0
        apply = valued(lambda params, xs: layer.apply(params, state, xs, reset=RESET, **ticks), inputs)
        return jax.jit(apply)(params, bad)

    assert_close(run(lengths=LENGTHS), run(mask=MASKS["lengths"]))
    with pytest.raises(ValueError, match=r"expected mask or lengths, got both\. Leave one out"):
        layer.apply(params, state, xs, lengths=LENGTHS, mask=MASKS["lengths"])
