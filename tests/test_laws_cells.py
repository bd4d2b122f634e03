"""Laws that every cell obeys."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from laws import (
    MASKS,
    RESET,
    B,
    T,
    assert_close,
    at,
    floats,
    loss,
    no_compiles,
    plain,
    poison,
    restarted,
    state_of,
)
from zoo import CELLS, perturbed

import seqjax as sj
from seqjax.base import is_noise


@pytest.fixture(params=CELLS, scope="module")
def case(request):
    return CELLS[request.param]


@pytest.fixture(scope="module")
def cell(case):
    return case.make()


@pytest.fixture(scope="module")
def params(cell):
    return perturbed(cell.init(jax.random.key(1)), jax.random.key(2))


@pytest.fixture(scope="module")
def xs(case):
    return case.draw(jax.random.key(3), (T, B))


def loop(cell, params, state, xs, mask, reset=None, reverse=False):
    """The Python loop over single examples that `unroll` must equal: no batch, no where, no mask."""
    length, batch = mask.shape
    rows = []
    for b in range(batch):
        s = at(state, b)
        blank = jax.eval_shape(lambda p, s, x: cell.step(p, s, x)[1], params, s, at(xs, 0, b))
        ys = [jax.tree.map(lambda y: jnp.zeros(y.shape, y.dtype), blank)] * length
        for t in reversed(range(length)) if reverse else range(length):
            restart = reset is not None and bool(reset[t, b])
            if restart and not reverse:
                s = restarted(cell, params, s)
            if mask[t, b]:
                s, ys[t] = cell.step(params, s, at(xs, t, b))
            if restart and reverse:
                s = restarted(cell, params, s)
        rows.append((s, jax.tree.map(lambda *y: jnp.stack(y), *ys)))
    states, outs = zip(*rows)
    return jax.tree.map(lambda *s: jnp.stack(s), *states), jax.tree.map(lambda *y: jnp.stack(y, 1), *outs)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("mask", MASKS)
def test_unroll_equals_python_loop(cell, params, xs, mask, reverse):
    """Values, last state and gradients, with masks, resets, noise and NaN in the padding."""
    mask = MASKS[mask]
    state = state_of(cell, params, key=jax.random.key(9))

    def fast(params, xs):
        return sj.unroll(cell, params, state, xs, mask=mask, reset=RESET, reverse=reverse)

    def slow(params, xs):
        return loop(cell, params, state, xs, mask, RESET, reverse)

    def gradient(f, xs):
        of_params, of_xs = jax.grad(lambda p, x: loss(f(p, x)), (0, 1), allow_int=True)(params, xs)
        return of_params, floats(of_xs)

    bad = poison(mask, xs)
    assert_close(fast(params, bad), slow(params, xs))
    assert_close(gradient(fast, bad), gradient(slow, xs))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_padded_length_changes_nothing(cell, params, xs, reverse):
    state = state_of(cell, params)
    pad = jax.tree.map(
        lambda x: jnp.concatenate([x, x[:2] * 0 + (jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else 0)]),
        xs,
    )
    lengths = jnp.full(B, T)

    def run(params, xs, lengths):
        state_T, ys = sj.unroll(cell, params, state, xs, lengths=lengths, reverse=reverse)
        return state_T, jax.tree.map(lambda y: y[:T], ys)

    assert_close(run(params, pad, lengths), run(params, xs, None))
    gradient = jax.grad(lambda p, xs, n: loss(run(p, xs, n)))
    assert_close(gradient(params, pad, lengths), gradient(params, xs, None))


def test_chunks_compose(cell, params, xs):
    state = state_of(cell, params, key=jax.random.key(5))
    mask = MASKS["holes"]
    whole = sj.unroll(cell, params, state, xs, mask=mask, reset=RESET)
    middle, first = sj.unroll(cell, params, state, jax.tree.map(lambda x: x[:3], xs), mask=mask[:3], reset=RESET[:3])
    last, second = sj.unroll(cell, params, middle, jax.tree.map(lambda x: x[3:], xs), mask=mask[3:], reset=RESET[3:])
    assert_close(whole, (last, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)))


def test_batch_equals_vmap(cell, params, xs):
    """One key an example makes a batch of noise equal its examples; two batch axes equal one."""
    key = jax.random.key(6)
    batched = sj.unroll(cell, params, cell.initial_state(params, (B,), key=key), xs)
    alone = jax.tree.map(lambda x: x[:, None], xs)
    state = jax.tree.map(lambda s: s[None], cell.initial_state(params, (B,), key=key))
    in_axes = (0, 1)
    mapped = jax.vmap(lambda s, x: sj.unroll(cell, params, s, x), in_axes, (0, 1))(
        cell.initial_state(params, (B,), key=key), xs
    )
    assert_close(batched, mapped)
    two_axes = sj.unroll(cell, params, state, alone)
    assert_close(batched, (jax.tree.map(lambda s: s[0], two_axes[0]), jax.tree.map(lambda y: y[:, 0], two_axes[1])))


def test_state_keeps_its_type(cell, params, xs):
    for key in (None, jax.random.key(7)):
        state = cell.initial_state(params, (2, B), key=key)
        assert all(leaf.shape[:2] == (2, B) for leaf in jax.tree.leaves(state))
        new, _ = cell.step(params, state, jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), xs))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, new)


def test_one_trace_for_one_shape(cell, params, xs):
    traces = []

    def step(params, state, x):
        traces.append(1)
        return cell.step(params, state, x)

    counted = cell._replace(step=step)
    state = state_of(cell, params)
    sj.unroll(counted, params, state, xs)
    first = len(traces)
    assert first <= 2
    sj.unroll(counted, params, state, xs)
    assert len(traces) == first


def test_second_eager_call_compiles_nothing(cell, params, xs):
    state = state_of(cell, params)
    sj.unroll(cell, params, state, xs)
    with no_compiles():
        sj.unroll(cell, params, state, xs)


def test_gradients_by_finite_differences(cell, params, xs):
    state = state_of(cell, params)
    moving = floats(state)

    def f(params, moving):
        leaves, tree = jax.tree.flatten(state)
        it = iter(moving)
        leaves = [next(it) if jnp.issubdtype(s.dtype, jnp.inexact) else s for s in leaves]
        return loss(sj.unroll(cell, params, tree.unflatten(leaves), xs))

    check_grads(f, (params, moving), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6, eps=1e-5)


def test_causal(cell, params, xs):
    """Changing the input at tick s changes no output before s."""
    state = state_of(cell, params)
    s = 4
    other = jax.tree.map(lambda x: x.at[s:].set(x[s:][::-1] if jnp.issubdtype(x.dtype, jnp.integer) else x[s:] + 1), xs)
    _, ys = sj.unroll(cell, params, state, xs)
    _, zs = sj.unroll(cell, params, state, other)
    assert_close(jax.tree.map(lambda y: y[:s], ys), jax.tree.map(lambda z: z[:s], zs), rtol=0, atol=0)
    assert any(np.abs(a[s:] - b[s:]).max() > 0 for a, b in zip(floats(ys), floats(zs)))


def test_gradients_stay_finite_over_long_sequences(cell, case):
    """T = 10,000 from the initial parameters, in float32 numbers as users run it."""
    params = jax.tree.map(lambda p: p.astype(jnp.float32), cell.init(jax.random.key(0)))
    xs = jax.tree.map(
        lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.inexact) else x,
        case.draw(jax.random.key(1), (10_000,)),
    )
    found = jax.jit(jax.value_and_grad(lambda p: loss(sj.unroll(cell, p, cell.initial_state(p), xs)[1])))(params)
    chex.assert_tree_all_finite(found)


def test_per_example_gradients_and_ensembles(cell, params, xs):
    def f(params, state, x):
        return loss(sj.unroll(cell, params, state, x)[1])

    state = state_of(cell, params)
    apart = jax.vmap(jax.grad(f), (None, 0, 1))(params, state, xs)
    one = jax.grad(f)(params, jax.tree.map(lambda s: s[1], state), jax.tree.map(lambda x: x[:, 1], xs))
    assert_close(jax.tree.map(lambda g: g[1], apart), one)
    pair = jax.tree.map(lambda p: jnp.stack([p, p * 0.5]), params)
    ensemble = jax.vmap(lambda p: sj.unroll(cell, p, state, xs))(pair)
    assert_close(
        jax.tree.map(lambda y: y[1], ensemble),
        sj.unroll(cell, jax.tree.map(lambda p: p * 0.5, params), state, xs),
    )


def test_redraw_changes_noise_only(cell, params):
    state = state_of(cell, params, key=jax.random.key(8))
    again = sj.redraw(cell, params, state, jax.random.key(10))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, again)
    for old, new in zip(jax.tree.leaves(state, is_leaf=is_noise), jax.tree.leaves(again, is_leaf=is_noise)):
        if is_noise(old):
            assert not all(
                np.array_equal(a, b) for a, b in zip(jax.tree.leaves(plain(old)), jax.tree.leaves(plain(new)))
            )
        else:
            assert_close(old, new, rtol=0, atol=0)
