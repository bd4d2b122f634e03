"""Predicted bytes beside the compiler's, for the kinds of gradient whose bytes are counted in different ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but

import seqjax as sj
from benchmarks.predicted import Case, Found, found, told

CASES = {
    "nested blocks": Case("lstm", 399, 8, 64, "scan", "log"),
    "nested blocks and ticks left over": Case("elman", 345, 8, 24, "split", "log"),
    "a stacked matrix": Case("linear_attention_head", 128, 4, 32, "split", 64),
    "recomputed from states": Case("minimal_gated_unit", 618, 3, 32, "split", "carries"),
    "elementwise": Case("mingru", 614, 3, 112, "scan", 16),
    "small chunks": Case("lstm", 1009, 4, 32, "split", 16),
    "gradients of large weights, once": Case("lstm", 128, 2, 128, "split", "sqrt"),
    "gradients that ticks add up": Case("lstm", 128, 2, 128, "scan", 16),
    "number by number, recomputed": Case("minlstm", 248, 4, 112, "auto", "carries"),
    "a matrix fed back": Case("gated_delta_rule", 140, 18, 72, "auto", "auto"),
}


@pytest.mark.parametrize("name", all_but(list(CASES), "nested blocks and ticks left over"))
def test_predicted_bytes(name):
    """In single precision, to which the shares of what a chunk stacks are fitted."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        assert found(CASES[name]).ratio == pytest.approx(1, abs=0.15)


def test_shares_are_of_the_cases():
    """One of four is 20 % off, and it is the only small one."""
    results = [*[Found(2**21, 2**21, False)] * 3, Found(120, 100, False)]
    assert (
        told("all", results)
        == "all: 75% of 4 within 15% (100% of 3 that take a megabyte or more), median 1.00, 1.00 to 1.20"
    )


def test_a_chunk_is_an_eighth_of_a_long_time():
    """One sequence, for which a cache would hold half of it; the whole then takes less memory than a plain scan."""
    cell = sj.elman(64, 64, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    state, xs = cell.initial_state(params, (1,)), jax.ShapeDtypeStruct((1000, 1, 64), jnp.float32)
    assert sj.explain(cell, params, state, xs).chunk == 125
    auto, scan = (found(Case("elman", 1000, 1, 64, engine, "auto")).taken for engine in ("auto", "scan"))
    assert auto < scan


def decayed(params, h, x):
    """``h' = a h + b``: nothing in front of the loop, nothing behind it."""
    del params
    h = x["a"] * h + x["b"]
    return h, h


def decay_alone():
    """A cell of it, its start, and inputs of 1,000 ticks."""
    start = lambda params, batch_shape=(), *, key=None: jnp.zeros((*batch_shape, 8), jnp.float32)
    rng = np.random.default_rng(0)
    xs = {"a": rng.uniform(0.5, 1, (1000, 2, 8)), "b": rng.normal(size=(1000, 2, 8))}
    cell = sj.Cell(lambda key: (), start, decayed)
    return cell, cell.initial_state((), (2,)), jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), xs)


def test_a_linear_loop_alone_is_not_cut_into_chunks():
    """A chunk would be a copy of its part of time: value and gradient take a third of a plain scan's bytes."""
    cell, state, xs = decay_alone()
    assert sj.explain(cell, (), state, xs).chunk == 1000

    def taken(engine):
        loss = lambda xs, state: (sj.unroll(cell, (), state, xs, engine=engine)[1] ** 2).sum()
        return jax.jit(jax.value_and_grad(loss)).lower(xs, state).compile().memory_analysis().temp_size_in_bytes

    assert taken("auto") < 0.5 * taken("scan")


def test_a_linear_loop_as_a_whole_is_differentiated_as_by_hand():
    """Of the sum of squares: λ_t = 2 h_t + a_{t+1} λ_{t+1}, ∂b = λ, ∂a = λ h_{t-1}, in float64."""
    cell, state, xs = decay_alone()
    found = jax.grad(lambda xs: (sj.unroll(cell, (), state, xs)[1] ** 2).sum())(xs)
    a, b = (np.asarray(xs[name], np.float64) for name in "ab")
    h, back = np.zeros((1001, 2, 8)), np.zeros((1001, 2, 8))
    for t in range(1000):
        h[t + 1] = a[t] * h[t] + b[t]
    for t in range(1000)[::-1]:
        back[t] = 2 * h[t + 1] + (a[t + 1] * back[t + 1] if t < 999 else 0)
    np.testing.assert_allclose(found["b"], back[:1000], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found["a"], back[:1000] * h[:1000], rtol=1e-4, atol=1e-2)


def test_a_budget_is_of_the_chunks_that_are_run():
    """Chunks that keep all are longer than others here, and their bytes are what the budget is told."""
    cell = sj.cells.rglru(32, 32, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    given = cell, params, cell.initial_state(params, (4,)), jax.ShapeDtypeStruct((1024, 4, 32), jnp.float32)
    least = sj.explain(*given, memory="all").total_bytes
    enough, less = (sj.explain(*given, memory=f"{size}B") for size in (least, least - 1))
    assert (enough.keep, enough.chunk, enough.total_bytes) == ("all", 1024, least)
    assert less.keep == "carries"
    assert less.total_bytes < least


@pytest.mark.parametrize(("name", "whole"), [("rglru", True), ("mingru", False), ("lru", False), ("elman", False)])
def test_chunks_of_what_is_linear_are_all_of_time_where_that_takes_no_more(name, whole):
    """Not gates that are cut from one product, nor complex states behind which there are real outputs."""
    case = Case(name, 1024, 4, 32, "auto", "all")
    cell = sj.cells.__dict__[name](32, 32, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    state, xs = cell.initial_state(params, (4,)), jax.ShapeDtypeStruct((1024, 4, 32), jnp.float32)
    assert (sj.explain(cell, params, state, xs).chunk == 1024) == whole
    assert sj.explain(cell, params, state, xs, memory="carries").chunk < 1024
    if whole:
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            ours, plain = (found(case._replace(engine=engine)) for engine in ("auto", "scan"))
        assert ours.taken < plain.taken
        assert 1 <= ours.ratio < 1.4  # XLA computes again what is counted as kept; more at work is not counted
