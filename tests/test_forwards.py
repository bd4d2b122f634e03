"""Where nothing is differentiated: what is much larger than its result stays in the loop; no budget refuses."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steps import B, D, T, normal

import seqjax as sj
from seqjax import spread

PLACES = 64


def register(w, s, x):
    """The last inputs, and a weighted sum of their squashes."""
    s = jnp.concatenate([x[..., None, :], s[..., :-1, :]], -2)
    return s, (jnp.tanh(s) * w).sum((-2, -1))


def cell_of(step, state):
    return sj.Cell(lambda key: None, lambda p, batch_shape=(), *, key=None: state, step)


def unrolled(params, state, xs, step=register, **options):
    return sj.unroll(cell_of(step, state), params, state, xs, **options)


def plain(params, state, xs, step=register):
    return jax.lax.scan(functools.partial(step, params), state, xs)


def largest(f, *args):
    """Bytes of the largest array that a program makes, at any depth."""

    def within(jaxpr):
        inside = [sub for e in jaxpr.eqns for sub in jax.extend.core.jaxprs_in_params(e.params)]
        made = [v.aval.size * v.aval.dtype.itemsize for e in jaxpr.eqns for v in e.outvars]
        return max([0, *made, *(within(getattr(sub, "jaxpr", sub)) for sub in inside)])

    return within(jax.make_jaxpr(f)(*args).jaxpr)


STATE, WEIGHTS, XS = normal(1, B, PLACES, D), normal(2, PLACES, D), normal(6, T, B, D)


def test_a_large_state_is_not_kept_where_nothing_is_differentiated():
    run = unrolled
    assert largest(run, WEIGHTS, STATE, XS) <= 2 * STATE.nbytes
    expected, found = plain(WEIGHTS, STATE, XS), run(WEIGHTS, STATE, XS)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    temporaries = jax.jit(run).lower(WEIGHTS, STATE, XS).compile().memory_analysis().temp_size_in_bytes
    assert temporaries < 4 * STATE.nbytes


def test_a_product_behind_the_loop_stays_there():
    """An Elman network with a readout: a history of a few numbers for one, and one product for all ticks."""

    def elman(p, h, x):
        h = jnp.tanh(x @ p[0] + h @ p[1])
        return h, h @ p[2]

    params, h = (normal(1, D, 64), normal(2, 64, 64), normal(3, 64, 10)), normal(4, B, 64)
    plan = sj.explain(cell_of(elman, h), params, h, XS)
    assert plan.behind["dot_general"] == 1
    assert not any("tick by tick" in why for why in plan.why)
    jaxpr = str(jax.make_jaxpr(functools.partial(unrolled, step=elman))(params, h, XS))
    assert f"f64[{T * B},10] = dot_general" in jaxpr


def test_gradients_are_the_split_engines_own():
    def loss(run, params, state, xs):
        state, ys = run(params, state, xs)
        return jnp.vdot(ys, jnp.cos(jnp.arange(ys.size)).reshape(ys.shape)) + (state**2).sum()

    f = lambda run: jax.grad(functools.partial(loss, run), (0, 1, 2))
    mine = unrolled
    for a, b in zip(f(mine)(WEIGHTS, STATE, XS), f(plain)(WEIGHTS, STATE, XS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    by_hand = lambda u: loss(mine, WEIGHTS * u, STATE, XS)
    np.testing.assert_allclose(jax.grad(jax.grad(by_hand))(1.1), jax.hessian(by_hand)(1.1), rtol=1e-10)
    assert str(jax.make_jaxpr(f(mine))(WEIGHTS, STATE, XS)).count("custom_jvp") == 0


def test_a_weight_that_the_step_closes_over_has_a_gradient():
    def loss(w, run):
        step = lambda _, s, x: register(w, s, x)
        return (run(None, STATE, XS, step=step)[1] ** 2).sum()

    expected = jax.grad(loss)(WEIGHTS, plain)
    np.testing.assert_allclose(jax.grad(loss)(WEIGHTS, unrolled), expected, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(jax.grad(loss), static_argnums=1)(WEIGHTS, unrolled), expected, rtol=1e-10)


@pytest.mark.parametrize("reverse", [False, True])
def test_masks_resets_keys_and_counters_go_along(reverse):
    """Of everything a state may hold, only what is a number has a gradient."""

    def step(w, s, x):
        key, count, constant, places = s
        key, now = jax.random.split(key)
        places, y = register(w, places, x + 0.1 * jax.random.normal(now, x.shape))
        return (key, count + 1, constant, places), (y * constant, count)

    state = (jax.random.key(3), jnp.int32(0), jnp.asarray(1.5), STATE[0])
    cell = cell_of(step, state)
    mask, reset = np.arange(T) % 4 != 1, np.arange(T) % 5 == 2

    def run(engine, w):
        s, (ys, count) = sj.unroll(cell, w, state, XS[:, 0], mask=mask, reset=reset, reverse=reverse, engine=engine)
        return (ys**2).sum() + (s[3] ** 2).sum(), (ys, count, s[1], s[3], jax.random.key_data(s[0]))

    for f in (run, jax.value_and_grad(run, argnums=1, has_aux=True)):
        found, expected = f("auto", WEIGHTS), f("scan", WEIGHTS)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10)


def test_vmap_and_forward_mode():
    run = lambda w: unrolled(w, STATE, XS)[1]
    many = jnp.stack([WEIGHTS, 2 * WEIGHTS])
    np.testing.assert_allclose(jax.vmap(run)(many), jnp.stack([run(w) for w in many]), rtol=1e-12)
    _, moved = jax.jvp(run, (WEIGHTS,), (WEIGHTS,))
    np.testing.assert_allclose(moved, run(WEIGHTS), rtol=1e-10)  # linear in w
    mapped = jax.vmap(jax.grad(lambda w: run(w).sum()))(many)
    np.testing.assert_allclose(mapped[1], jax.grad(lambda w: run(w).sum())(many[1]), rtol=1e-10)


class TestBudgets:
    def test_bind_only_where_something_is_kept(self):
        small = functools.partial(unrolled, memory="10B")
        expected = plain(WEIGHTS, STATE, XS)
        for run in (small, jax.jit(small)):
            for a, b in zip(run(WEIGHTS, STATE, XS), expected):
                np.testing.assert_allclose(a, b, rtol=1e-12)
        _, moved = jax.jvp(lambda w: small(w, STATE, XS)[1], (WEIGHTS,), (WEIGHTS,))
        np.testing.assert_allclose(moved, expected[1], rtol=1e-10)
        batched = jax.vmap(lambda w: small(w, STATE, XS)[1])(WEIGHTS[None])
        np.testing.assert_allclose(batched[0], expected[1], rtol=1e-12)

    @pytest.mark.parametrize("engine", ["auto", "split", "scan"])
    def test_a_gradient_is_refused_when_it_is_traced(self, engine):
        loss = lambda w: unrolled(w, STATE, XS, memory="10B", engine=engine)[1].sum()
        for f in (jax.grad(loss), jax.jit(jax.grad(loss))):
            with pytest.raises(ValueError, match=r"expected memory to allow at least .* for 13 ticks, got 10\. Raise"):
                jax.eval_shape(f, WEIGHTS)

    def test_a_gradient_of_something_else_is_not(self):
        loss = lambda w: (unrolled(WEIGHTS, STATE, XS, memory="10B")[1] * w).sum()
        np.testing.assert_allclose(jax.grad(loss)(1.0), plain(WEIGHTS, STATE, XS)[1].sum(), rtol=1e-12)

    def test_explain_says_so(self):
        plan = sj.explain(cell_of(register, STATE), WEIGHTS, STATE, XS, memory="10B")
        assert "forwards only: a gradient takes at least" in plan.why[-1]
        assert plan.total_bytes > 10


@pytest.mark.parametrize(("batch", "inputs", "by_ticks"), [(8, 16, True), (1, 16, False), (8, 128, False)])
def test_weights_of_a_near_cache_save_little_where_the_loop_has_no_product(batch, inputs, by_ticks):
    """A minGRU of 64 units: 8 KB of weights for 8 sequences are read again, for one they are not, nor are 64 KB."""
    cell = sj.cells.mingru(inputs, 64, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    xs = jax.ShapeDtypeStruct((64, batch, inputs), jnp.float32)
    assert bool(sj.explain(cell, params, cell.initial_state(params, (batch,)), xs).forwards) is by_ticks


def test_a_forward_pass_has_chunks_of_its_own():
    """320 KB of sums and states a tick: 8 ticks at least; 512 KB with ε, of which 2 MB are 4 ticks."""
    cell = sj.lstm(256, 256, dtype=jnp.float32)
    params, xs = cell.init(jax.random.key(0)), jnp.zeros((512, 64, 256), jnp.float32)
    state = cell.initial_state(params, (64,))

    def loops(f):
        """How often the loops of a program run."""
        return [*map(int, re.findall(r"length=(\d+)", str(jax.make_jaxpr(f)(params, xs))))]

    def run(params, xs, **asked):
        return sj.unroll(cell, params, state, xs, **asked)[1].sum()

    plan = sj.explain(cell, params, state, xs)
    assert "chunks of 4 (of 8 where no gradient is taken)" in str(plan)
    assert (plan.chunk, plan.chunk_forwards) == (4, 8)
    assert sorted(loops(run)) == [8, 64]
    assert {*loops(jax.grad(run))} == {4, 128}
    settings = sj.Settings(engine="split", memory="all", chunk=16)
    assert {*loops(lambda p, x: run(p, x, settings=settings))} == {16, 32}


@pytest.mark.parametrize(
    ("shape", "chunk", "forwards"),
    [
        ((4096, 8, 64), 128, 128),  # 2 MB of 16 KB, 1.25 MB of 10 KB
        ((512, 8, 64), 64, 32),  # the longest chunk of so many ticks; stacks of 128 KB, which two threads would share
        ((128, 64, 512), 4, 8),  # 2 MB are 2 ticks; the gradient of 4 MB is added up for no less than 4 MB
        ((128, 256, 128), 2, 8),  # that of 256 KB for 2 ticks
        ((128, 16, 2048), 8, 8),  # that of 64 MB for no less than 8, whatever they stack
    ],
)
def test_chunks_of_an_lstm_on_a_cpu(shape, chunk, forwards):
    ticks, batch, units = shape
    cell = sj.lstm(units, units, dtype=jnp.float32)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: cell.initial_state(params, (batch,)), params)
    plan = sj.explain(cell, params, state, jax.ShapeDtypeStruct((ticks, batch, units), jnp.float32))
    assert (plan.chunk, plan.chunk_forwards) == (chunk, forwards)


@pytest.mark.parametrize(
    ("shape", "forwards", "alone"),
    [
        ((1024, 8, 128), 32, 128),  # 256 KB of 8 KB a tick
        ((256, 32, 128), 8, 32),  # of 32 KB
        ((128, 64, 256), 8, 8),  # no fewer, though one is 128 KB
    ],
)
def test_chunks_forwards_are_short_where_devices_share_the_threads_of_a_cpu(shape, forwards, alone):
    ticks, batch, units = shape
    cell = sj.lstm(units, units, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))

    def chunks(xs):
        state = jax.tree.map(lambda a: spread.joined(a, jax.typeof(xs[0])), cell.initial_state(params, (batch // 2,)))
        plan = sj.explain(cell, params, state, xs)
        seen.append((plan.chunk, plan.chunk_forwards))
        return xs

    seen, mesh = [], jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over = jax.sharding.PartitionSpec(None, "data")
    xs = jax.ShapeDtypeStruct((ticks, batch, units), jnp.float32)
    jax.eval_shape(jax.shard_map(chunks, mesh=mesh, in_specs=over, out_specs=over), xs)
    jax.eval_shape(chunks, jax.ShapeDtypeStruct((ticks, batch // 2, units), jnp.float32))
    assert seen[0] == (seen[1][0], forwards)
    assert seen[1][1] == alone


@pytest.mark.parametrize(("kernel", "chunk"), [((1, 1), 64), ((1, 2), 32), ((2, 2), 16), ((3, 3), 8), ((5, 5), 2)])
def test_a_chunk_of_a_kernels_gradient_is_read_from_a_cache_once_for_each_place(kernel, chunk):
    """1 MB of pictures of 18 KB; no more than 64 of 512 ticks."""

    def step(k, picture, x):
        numbers = jax.lax.conv_dimension_numbers(picture.shape, k.shape, ("NHWC", "HWIO", "NHWC"))
        picture = jnp.tanh(jax.lax.conv_general_dilated(picture, k, (1, 1), "SAME", dimension_numbers=numbers) + x)
        return picture, picture.sum()

    k, picture = jnp.zeros((*kernel, 4, 4), jnp.float32), jnp.zeros((8, 12, 12, 4), jnp.float32)
    plan = sj.explain(cell_of(step, picture), k, picture, jnp.zeros((512, 1), jnp.float32))
    assert plan.chunk == chunk


def test_a_step_whose_products_lie_inside_a_cond_is_scanned():
    def step(p, h, x, outside=False):
        h = jax.lax.cond(x[0, 0] > 0, lambda h: jnp.tanh(h @ p[0]), lambda h: jnp.tanh(h @ p[1]), h)
        return (h @ p[0] if outside else h), h[:, 0]

    params, h = (normal(1, D, D), normal(2, D, D)), normal(4, B, D)
    plan = sj.explain(cell_of(step, h), params, h, XS)
    assert (plan.engine, plan.why[1]) == ("scan", "scan: all products of a tick lie inside cond, which stays whole")
    both = sj.explain(cell_of(functools.partial(step, outside=True), h), params, h, XS)
    assert both.engine == "split"


def test_a_sum_of_few_numbers_saves_less_than_a_large_one():
    """Chains of 5 states, their forward algorithm: two sums of 1,280 bytes a tick save half of that each."""

    def step(p, alpha, x):
        alpha = jax.nn.logsumexp(alpha[:, :, None] + p, axis=1) + x
        return alpha, jax.nn.logsumexp(alpha, axis=1)

    def forwards(chains):
        alpha, xs = jnp.zeros((chains, 5), jnp.float32), jnp.zeros((T, chains, 5), jnp.float32)
        return sj.explain(cell_of(step, alpha), jnp.zeros((5, 5), jnp.float32), alpha, xs).forwards

    assert forwards(64) == "forwards tick by tick: 1,536 bytes a tick would be moved to save 1,280"
