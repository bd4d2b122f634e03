"""Products of looked-up rows: when the engine multiplies first, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj

V, D, H, T, B = 6, 3, 4, 40, 2


def cell_of(look_up, rows=V, cell=None):
    """An LSTM that reads symbols."""
    symbols = sj.memoryless(look_up, lambda key: jax.random.normal(key, (rows, D)))
    return sj.stack(symbols, cell or sj.lstm(D, H))


def plain(w, x):
    return w[x]


def strict(w, x):
    return w.at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def or_one(w, x):
    return w.at[x].get(mode="fill", fill_value=1.0, wrap_negative_indices=False)


def problem(cell, symbols=V):
    params = cell.init(jax.random.key(0))
    xs = jax.random.randint(jax.random.key(1), (T, B), 0, symbols)
    return params, cell.initial_state(params, (B,)), xs


def products_before(cell):
    """Products for all ticks at once, and products done once."""
    params, state, xs = problem(cell)
    plan = sj.explain(cell, params, state, xs, engine="split")
    return sum(work.get("dot_general", 0) for work in plan.before), plan.once.get("dot_general", 0)


@pytest.mark.parametrize("look_up", [plain, strict])
def test_the_product_is_done_once(look_up):
    assert products_before(cell_of(look_up)) == (0, 1)


def test_for_every_product_that_reads_the_rows():
    """A GRU that resets before has two input products."""
    assert products_before(cell_of(plain, cell=sj.gru(D, H, reset="before")))[0] == 0


@pytest.mark.parametrize(
    "cell",
    [
        cell_of(plain, rows=T * B // 2),  # as many symbols as reads: nothing is saved
        cell_of(or_one),  # what lies outside W is one in W[x], and not in (W V)[x]
        cell_of(lambda w, x: w[x] * x[..., None].astype(w.dtype)),  # not a row of W
        cell_of(lambda w, x: jnp.take(w.T, x, axis=0) @ jnp.ones((V, D)), rows=V),  # rows of Wᵀ go through a product
    ],
    ids=["many symbols", "other fill", "scaled", "other product"],
)
def test_otherwise_the_product_stays_where_it_is(cell):
    assert products_before(cell)[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["all", "carries", 7])
@pytest.mark.parametrize("look_up", [plain, strict])
def test_values_and_gradients_are_those_of_scan(look_up, memory):
    cell = cell_of(look_up)
    params, state, xs = problem(cell)
    mask = jnp.arange(T)[:, None] < jnp.array([T, 11])

    def loss(params, **options):
        _, ys = sj.unroll(cell, params, state, xs, mask=mask, **options)
        return (ys * jnp.sqrt(jnp.arange(1.0, ys.size + 1)).reshape(ys.shape)).sum()

    expected = jax.value_and_grad(loss)(params, engine="scan")
    found = jax.jit(jax.value_and_grad(lambda p: loss(p, engine="split", memory=memory)))(params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_in_narrow_products_too():
    """The cast of W is taken to the table; sums are in float32."""
    cell = cell_of(plain, cell=sj.lstm(D, H, compute_dtype=jnp.bfloat16, dtype=jnp.float32))
    params, state, xs = problem(cell)
    params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    state = cell.initial_state(params, (B,))
    ys = [sj.unroll(cell, params, state, xs, engine=engine)[1] for engine in ("scan", "split")]
    assert products_before(cell)[0] == 0
    np.testing.assert_allclose(ys[0], ys[1], atol=1e-6)


def test_a_symbol_outside_is_as_loud_as_before():
    cell = cell_of(strict)
    params, state, xs = problem(cell)
    xs = xs.at[T - 1, 1].set(V)
    for engine in ("scan", "split"):
        _, ys = sj.unroll(cell, params, state, xs, engine=engine)
        assert np.isnan(ys[-1, 1]).all()
        assert np.isfinite(ys[:-1]).all()
        assert np.isfinite(ys[-1, 0]).all()
