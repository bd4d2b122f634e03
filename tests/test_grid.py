"""Kernels whose programs share the units: equal to plain scan side by side, and what meeting itself does."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from lowering import for_cuda, lowers
from steps import STEPS
from test_pallas import (
    REFUSED,
    bfloat16_is_near_float64,
    cell_of,
    close,
    drawn,
    kernels,
    layer_normalised,
    loss,
    problem,
    value_and_gradient,
)

import seqjax as sj
from seqjax.engines import grid, layout, pallas, selftest
from seqjax.engines.distribute import UnsupportedError
from seqjax.engines.grid import Grid

T = 5
ALONE = {"diagonal", "feed_forward"}  # a state without units, and no loop at all


@pytest.fixture(autouse=True)
def shared_out(monkeypatch):
    """Every weight is too large for one program; two of them run at a time, interpreted."""
    monkeypatch.setattr("seqjax.engines.layout.RESIDENT", 0)
    with pallas.target("interpreter"), pallas.meetings(True), grid.multiprocessors(2):
        yield


@pytest.mark.parametrize("name", [n for n in STEPS if n not in {*REFUSED, *ALONE}])
def test_equals_scan(name, monkeypatch):
    """Values, last state and gradients of everything, none of it by programs that are alone."""
    monkeypatch.setattr("seqjax.engines.kernel.Kernel._call", None)
    f, moving = problem(name)
    expected = value_and_gradient(f, engine="scan")(moving)
    close(value_and_gradient(f, engine="pallas")(moving), expected)


def test_transformations():
    """Forward mode, Hessian-vector products, vmap inside and outside of grad."""
    f, moving = problem("swapped")
    direction = [jnp.cos(m) for m in moving]
    pair = [jnp.stack([m, 0.5 * m]) for m in moving]

    def transformed(**options):
        value = lambda moving: loss(f(moving, **options))
        gradient = jax.grad(value)
        return jax.jit(
            lambda: (
                jax.jvp(value, (moving,), (direction,)),
                jax.jvp(gradient, (moving,), (direction,))[1],
                jax.vmap(gradient)(pair),
                jax.grad(lambda pair: jax.vmap(value)(pair).sum())(pair),
            )
        )()

    close(transformed(engine="pallas"), transformed(engine="scan"), 1e-10)


@pytest.mark.parametrize(
    ("programs", "batch", "hidden", "plan"),
    [(6, (20,), 18, "1 × 2 × 2 programs"), (5, (2, 3), 35, "1 × 5 × 1 programs"), (4, (), 36, "1 × 3 × 1 programs")],
)
@pytest.mark.parametrize("make", [sj.layer_norm_lstm, sj.peephole_lstm], ids=["layer_norm", "peephole"])
def test_shares_of_any_size(make, programs, batch, hidden, plan):
    """Shares of 9, 7 and 12 units in 16 columns; a tile not filled; two batch axes, and none; sums over all units."""
    cell = make(3, hidden)
    params = drawn(cell)
    state = jax.tree.map(lambda s: s + 0.1, cell.initial_state(params, batch))
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(T, *batch, 3)))
    both = lambda engine: jax.jit(
        jax.value_and_grad(lambda *a: loss(sj.unroll(cell, *a, engine=engine)), (0, 1, 2))
    )(params, state, xs)  # fmt: skip
    with grid.multiprocessors(programs):
        close(both("pallas"), both("scan"), 1e-9)
        assert plan in str(sj.explain(cell, params, state, xs, engine="pallas"))


@pytest.mark.parametrize("make", [sj.headwise_lstm, sj.headwise_gru, sj.slstm], ids=["lstm", "gru", "slstm"])
def test_shares_of_several_heads(make):
    """Three heads of 34 units, each shared out between two programs that meet only each other; two tiles."""
    cell = make(4, 102, 3)
    params = drawn(cell)
    state = jax.tree.map(lambda s: s + 0.1, cell.initial_state(params, (20,)))
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(T, 20, 4)))
    options = {"lengths": jnp.asarray(np.arange(20) % (T + 1))}
    both = lambda engine: jax.jit(
        jax.value_and_grad(lambda *a: loss(sj.unroll(cell, *a, engine=engine, **options)), (0, 1, 2))
    )(params, state, xs)  # fmt: skip
    with grid.multiprocessors(12):
        assert "3 × 2 × 2 programs" in str(sj.explain(cell, params, state, xs, engine="pallas", **options))
        close(both("pallas"), both("scan"), 1e-9)


def test_the_filling_of_a_share_reaches_no_sum():
    """Shares of 9 units fill 16 columns with zeros, where h² / |h| is NaN; one number is a parameter of them all."""

    def step(params, h, x):
        u, gain = params
        h = jnp.tanh(gain * jnp.sin(h @ u + x) + h)
        h = h * h / jnp.abs(h)
        return h / jnp.sqrt((h * h).sum(-1, keepdims=True)), h

    rng = np.random.default_rng(1)
    u, state, xs = (jnp.asarray(rng.normal(size=s)) for s in ((18, 18), (3, 18), (T, 3, 18)))
    run = lambda engine: lambda p: loss(sj.unroll(cell_of(step), p, state, xs, engine=engine))
    both = lambda engine: jax.jit(jax.value_and_grad(run(engine)))((u, jnp.asarray(0.7)))
    close(both("pallas"), both("scan"), 1e-10)


def test_masks_resets_and_reverse():
    cell = sj.gru(3, 8)
    params, xs = drawn(cell), jnp.asarray(np.random.default_rng(1).normal(size=(T, 4, 3)))
    options = {"lengths": jnp.array([5, 3, 0, 1]), "reset": jnp.zeros((T, 4), bool).at[2, 0].set(True), "reverse": True}

    def both(engine):
        run = lambda p: loss(sj.unroll(cell, p, cell.initial_state(p, (4,)), xs, engine=engine, **options))
        return jax.jit(jax.value_and_grad(run))(params)

    close(both("pallas"), both("scan"))


def test_bfloat16():
    bfloat16_is_near_float64()


def one_layer(units, batch=3, ticks=T, dtype=jnp.float32):
    """A kernel of tanh(h U + x) and what it is called with; U of another type if one is given."""

    def tick(values):
        u, h, x = values
        h = jnp.tanh(jnp.matmul(h.astype(u.dtype), u, preferred_element_type=x.dtype) + x)
        return [h, h - h.mean(-1, keepdims=True)]

    rng, shapes = np.random.default_rng(0), ((units, units), (batch, units), (ticks, batch, units))
    u, h, xs = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    u = u.astype(dtype)
    kernel = Grid(tick, *([jax.ShapeDtypeStruct(a.shape, a.dtype)] for a in (u, h, xs[0])))
    inputs, specs = kernel._inputs([u], [h], [xs], ticks)
    return kernel, (inputs, specs, *kernel._outputs(ticks)), {"length": ticks, "reverse": True}


def test_what_is_written_to_memory_is_read_back():
    """The kernel itself, slots and counter included, for a program that meets nobody but itself."""
    with grid.multiprocessors(1):
        kernel, given, time = one_layer(48)
        expected = kernel._side_by_side(*given, **time)
        for a, b in zip(kernel.call(*given, **time, interpret=True), expected, strict=True):
            np.testing.assert_allclose(a[..., :3, :, :], b[..., :3, :, :], rtol=1e-5, atol=1e-6)


def test_what_travels_is_as_narrow_as_the_weights():
    """The state in the weights' type, two programs' shares of 16; then each one's part of the mean."""
    kernel, (inputs, specs, *_), _ = one_layer(32, dtype=jnp.bfloat16)
    assert kernel._sites(inputs, specs) == [(16, 32, jnp.bfloat16), (16, 16, jnp.float32)]


@pytest.mark.parametrize("ticks", [1, T])
def test_who_waits_in_vain_says_so(ticks, monkeypatch):
    """Interpreted, programs run one after the other: the first waits in vain, gives up, and spoils all that follows."""
    monkeypatch.setattr(grid, "PATIENCE", 3)
    kernel, given, time = one_layer(32, ticks=ticks)
    assert kernel.plan.shares == 2
    last, ys = kernel.call(*given, **time, interpret=True)
    assert np.isnan(ys[:, :3]).all()
    assert np.isnan(last[:3, 0]).all()
    if ticks > 1:
        assert np.isnan(last[:3]).all()


@lowers
def test_a_batch_of_kernels_is_one_after_the_other():
    """A kernel for each of five weights keeps to two programs: side by side, ten would wait for each other."""
    cell = sj.elman(3, 32, dtype=jnp.float32)
    params = jax.vmap(jax.jit(cell.init))(jax.random.split(jax.random.key(0), 5))
    xs = jnp.zeros((T, 4, 3), jnp.float32)
    run = lambda p: sj.unroll(cell, p, cell.initial_state(p, (4,)), xs, engine="pallas")[1].sum()
    with pallas.target("cuda"):
        jaxpr = jax.make_jaxpr(jax.vmap(jax.grad(run)))(params)
    assert grids(jaxpr.jaxpr) == {(2, 1)}


def grids(jaxpr):
    """Of all kernels in a jaxpr."""
    found = {e.params["grid_mapping"].grid for e in jaxpr.eqns if e.primitive.name == "pallas_call"}
    return found.union(*(grids(inner) for e in jaxpr.eqns for inner in core.jaxprs_in_params(e.params)))


@lowers
@pytest.mark.parametrize(("make", "hidden", "plan"), [
    (sj.lstm, 1024, "1 × 64 × 1 programs"), (sj.gru, 2048, "1 × 128 × 1 programs"),
    (sj.layer_norm_lstm, 768, "1 × 48 × 1 programs"),
])  # fmt: skip
def test_lowers_for_cuda(make, hidden, plan):
    """Forwards and backwards, at sizes that one multiprocessor cannot hold."""
    cell = make(hidden, hidden, dtype=jnp.float32, compute_dtype=jnp.bfloat16)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = np.zeros((8, 16, hidden), np.float32)
    options = {"lengths": np.full(16, 8), "engine": "pallas"}
    run = lambda p: sj.unroll(cell, p, cell.initial_state(p, (16,)), xs, **options)
    with grid.multiprocessors(132):
        assert kernels(lambda p: (run(p)[1] ** 2).sum(), params) == 2
        with pallas.target("cuda"):
            state = jax.eval_shape(lambda p: cell.initial_state(p, (16,)), params)
            assert plan in str(sj.explain(cell, params, state, xs, **options))


@lowers
def test_a_users_step_lowers_for_cuda():
    shapes = (("w", (8, 2048)), ("u", (512, 2048)), ("b", (2048,)))
    params = {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes}
    state = (jnp.zeros((16, 512), jnp.float32),) * 2
    xs = jnp.zeros((8, 16, 8), jnp.float32)
    with grid.multiprocessors(132):
        text = for_cuda(
            lambda p: (sj.unroll(cell_of(layer_normalised), p, state, xs, engine="pallas")[1] ** 2).sum(), params
        )
    assert text.count("seqjax_shared_recurrence") >= 2
    assert text.count("__gpu$xla.gpu.triton") == 2


def explained(units=2048):
    cell = sj.lstm(8, units, dtype=jnp.float32)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda p: cell.initial_state(p, (2,)), params)
    return str(sj.explain(cell, params, state, jnp.zeros((T, 2, 8), jnp.float32), engine="pallas"))


@pytest.mark.parametrize(
    ("switch", "programs", "why"),
    [
        (False, 132, "they are switched off"),
        (None, 132, "no device has shown that they meet"),
        (True, 7, "units in stretches of .2048., 1 heads and a batch of 2 are not shared out among 7 multiprocessors"),
    ],
)
def test_programs_meet_only_where_that_is_known_to_work(switch, programs, why):
    with (
        pallas.meetings(switch),
        grid.multiprocessors(programs),
        pytest.raises(ValueError, match=f"67,108,864 bytes a head.*; nor by programs that share the units: {why}"),
    ):
        explained()


def test_programs_that_could_not_all_run_are_refused():
    """Tiles asked for, smaller than those chosen, would need four programs on two multiprocessors."""
    cell = sj.elman(3, 32, dtype=jnp.float32)
    given = (
        jax.eval_shape(cell.init, jax.random.key(0)),
        jnp.zeros((32, 32), jnp.float32),
        jnp.zeros((T, 32, 3), jnp.float32),
    )
    assert "1 × 2 × 1 programs (heads × shares of their units × tiles of 32" in str(
        sj.explain(cell, *given, engine="pallas")
    )
    with layout.tuning((16, 4)), pytest.raises(UnsupportedError, match="tiles of 16 examples need 4 programs"):
        one_layer(32, batch=32)


def test_the_device_is_tried_first(monkeypatch):
    """The test passes side by side, and says what is wrong where programs do not meet, or compute something else."""
    small = {"ticks": 4, "batch": 3, "units": 32}
    assert selftest.attempt(**small, interpret=True) is None
    monkeypatch.setattr(jax.lax, "all_gather", lambda a, *_, **__: jnp.concatenate([a, a], 1))
    assert re.match(r"the test on this device was wrong by \d", selftest.attempt(**small, interpret=True))
    monkeypatch.undo()
    selftest.failure.cache_clear()
    assert selftest.failure().startswith("the test on this device failed: ")
