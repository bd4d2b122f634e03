"""Predicted bytes beside the compiler's, for the kinds of gradient whose bytes are counted in different ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but

import seqjax as sj
from benchmarks.predicted import Case, Found, found, told
from seqjax.engines import costs
from seqjax.engines.base import Costs

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


def fast_weights(size):
    """``A' = .9 A + h hᵀ / 2``, ``h' = tanh(x W + h U + h A' / 8)``, of which a number is told; 400 ticks of 2."""

    def step(params, state, x):
        a, h = state
        a = 0.9 * a + 0.5 * h[:, :, None] * h[:, None, :]
        h = jnp.tanh(x @ params["w"] + h @ params["u"] + jnp.einsum("bi,bij->bj", h, a) / 8)
        return (a, h), h[:, 0]

    rng = np.random.default_rng(0)
    params = {n: jnp.asarray(rng.normal(size=(size, size)) / 4, jnp.float32) for n in "wu"}
    state = tuple(jnp.zeros(shape, jnp.float32) for shape in ((2, size, size), (2, size)))
    cell = sj.Cell(lambda key: params, lambda params, batch_shape=(), *, key=None: state, step)
    return cell, params, state, jnp.asarray(rng.normal(size=(400, 2, size)), jnp.float32)


def test_time_is_not_cut_where_a_chunk_would_only_copy_what_is_kept():
    """Eighths would copy a matrix and keep back its few inputs; of a GRU they keep back more than they copy."""
    given = fast_weights(32)
    cell, params, state, xs = given
    plan = sj.explain(*given)
    assert plan.chunk == 400
    assert sj.explain(*given, memory="carries").chunk < 400

    def run(engine, settings=None):
        loss = lambda *values: (sj.unroll(cell, *values, engine=engine, settings=settings)[1] ** 2).sum()
        compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(params, state, xs).compile()
        return compiled(params, state, xs), compiled.memory_analysis().temp_size_in_bytes

    (auto, taken), (plain, most) = run("auto"), run("scan")
    _, cut = run("auto", sj.Settings("split", "all", chunk=50))
    assert taken < min(most * 1.02, cut)
    assert plan.total_bytes == pytest.approx(taken, rel=0.15)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), auto, plain)
    gru = sj.gru(32, 32, dtype=jnp.float32)
    params = gru.init(jax.random.key(0))
    assert sj.explain(gru, params, gru.initial_state(params, (2,)), xs).chunk < 400


def test_a_gradient_is_traced_for_its_bytes_only_where_a_tick_makes_much(monkeypatch):
    """To trace the one of a layer-norm LSTM would take as long as all else before the compiler."""
    counted = []
    monkeypatch.setattr(costs, "kept_bytes", lambda *given: counted.append(given) or Costs(0, 0, 0))
    for cell in (sj.lstm(16, 16), sj.gru(16, 16), sj.layer_norm_lstm(16, 16), sj.layer_norm_gru(16, 16)):
        params = cell.init(jax.random.key(0))
        given = params, cell.initial_state(params, (2,)), jnp.zeros((400, 2, 16))
        jax.eval_shape(lambda *given, cell=cell: sj.unroll(cell, *given), *given)
    assert not counted
    cell, *given = fast_weights(32)
    jax.eval_shape(lambda *given: sj.unroll(cell, *given), *given)
    assert len(counted) == 1
