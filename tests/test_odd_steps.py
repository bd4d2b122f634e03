"""Steps of unusual kinds under every engine and memory setting: equal to scan, or refused in words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but, quick

import seqjax as sj

T, B, D = 6, 2, 3
MEMORY = ["all", "carries", "sqrt", "log", 2, "1MB"]


def cell_of(step, initial=lambda params, batch_shape=(), *, key=None: jnp.zeros((*batch_shape, D))):
    return sj.Cell(lambda key: (), initial, step)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def loss(result):
    leaves = [x for x in jax.tree.leaves(result) if jnp.issubdtype(x.dtype, jnp.inexact)]
    parts = [part for x in leaves for part in ((x.real, x.imag) if jnp.iscomplexobj(x) else (x,))]
    return sum((x * jnp.cos(jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))).sum() for x in parts)


def close(a, b, tolerance=1e-11):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jnp.number):
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


# ---- values that nobody reads


@pytest.mark.parametrize("bad", all_but([jnp.nan, jnp.inf], jnp.inf))
@pytest.mark.parametrize("where", ["rows", "weight"])
@pytest.mark.parametrize("batch", [(), (4,)])
def test_a_row_that_is_not_read_may_hold_anything(bad, where, batch):
    """``W[x] V`` as ``(W V)[x]``: gradients of W and V are those of scan, in which an unread row takes no part."""

    def step(params, h, x):
        w, v = params
        h = jnp.tanh(0.5 * h + w[x] @ v)
        return h, h

    w, v = normal(0, 5, D), normal(1, D, D)
    w = w.at[3].set(bad) if where == "rows" else w
    xs = jnp.array([0, 1, 4, 2, 0, 1] * 10)
    xs = jnp.broadcast_to(xs.reshape(60, *(1,) * len(batch)), (60, *batch))
    state = jnp.zeros((*batch, D))

    def run(engine):
        f = lambda w, v: loss(sj.unroll(cell_of(step), (w, v), state, xs, engine=engine))
        forward = jax.jvp(f, (w, v), (jnp.ones_like(w), jnp.ones_like(v)))
        second = jax.grad(lambda w, v: sum((g[:3] ** 2).sum() for g in jax.grad(f, (0, 1))(w, v)), (0, 1))(w, v)
        return jax.value_and_grad(f, (0, 1))(w, v), forward, second

    plan = sj.explain(cell_of(step), (w, v), state, xs, engine="split")
    assert plan.once.get("dot_general") == (1 if batch else None)  # one row at a time is a slice, and stays one
    found, expected = jax.jit(run, static_argnums=0)("split"), jax.jit(run, static_argnums=0)("scan")
    close(found, expected, 1e-9)
    assert np.isfinite(found[0][1][1]).all()


# ---- keys


GENERATORS = {
    "split": lambda key, x: jax.random.key_data(jax.random.split(key, 2)[1]).astype(x.dtype).sum(),
    "fold_in": lambda key, x: jax.random.key_data(jax.random.fold_in(key, 7)).astype(x.dtype).sum(),
    "gamma": lambda key, x: jax.random.gamma(key, 2.0, dtype=x.dtype),
    "permutation": lambda key, x: jax.random.permutation(key, jnp.arange(3.0, dtype=x.dtype))[0],
    "normal": lambda key, x: jax.random.normal(key, dtype=x.dtype),
    "bernoulli": lambda key, x: jax.random.bernoulli(key, 0.3).astype(x.dtype),
}


@pytest.mark.parametrize("impl", quick(["threefry2x32", "rbg", "unsafe_rbg"], "threefry2x32"))
@pytest.mark.parametrize("name", quick(GENERATORS, "gamma", "permutation", "normal"))
def test_every_key_draws_what_scan_draws(impl, name):
    def step(params, key, x):
        key, own = jax.random.split(key)
        return key, x + GENERATORS[name](own, x)

    key, xs = jax.random.key(0, impl=impl), normal(0, 8)
    ys = [sj.unroll(cell_of(step), (), key, xs, engine=engine)[1] for engine in ("split", "scan")]
    np.testing.assert_allclose(*ys, rtol=1e-13)
    readout = lambda params, h, x: (h + x, GENERATORS[name](jax.random.fold_in(params, 3), x) + h)
    ys = [sj.unroll(cell_of(readout), key, jnp.zeros(()), xs, engine=engine)[1] for engine in ("split", "scan")]
    np.testing.assert_allclose(*ys, rtol=1e-13)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
@pytest.mark.parametrize(
    "transform",
    [
        lambda cell: sj.zoneout(cell, 0.1),
        lambda cell: sj.variational_dropout(cell, 0.1),
        lambda cell: sj.recurrent_dropout(cell, 0.1),
        lambda cell: sj.random_initial_state(cell, 0.1),
    ],
)
def test_noise_by_keys_that_batches_draw_differently_from_is_refused(impl, transform):
    cell = transform(sj.elman(2, 3))
    params = cell.init(jax.random.key(0))
    with pytest.raises(
        ValueError, match=r"noise: expected a threefry key, .* got u?rbg\. Make it with jax\.random\.key"
    ):
        cell.initial_state(params, (2,), key=jax.random.key(0, impl=impl))


# ---- complex numbers


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["scan", "split"])
@pytest.mark.parametrize("memory", MEMORY)
def test_complex_states_and_transforms(engine, memory):
    """A rotation and an FFT in the step, in every setting, with a mask and a reset."""

    def step(params, state, x):
        z, h = state
        z = jax.lax.complex(jnp.cos(params), jnp.sin(params)) * z + jnp.fft.fft(x)
        h = jnp.tanh(0.5 * h + jnp.abs(z) + jnp.fft.ifft(z).real)
        return (z, h), (z, h)

    def initial(params, batch_shape=(), *, key=None):
        return jnp.zeros((*batch_shape, D), complex), jnp.zeros((*batch_shape, D))

    cell, params, xs = cell_of(step, initial), normal(0, D), normal(1, T, B, D)
    state = jax.tree.map(lambda s: s + 0.3, initial(params, (B,)))
    mask, reset = jnp.arange(T)[:, None] < jnp.array([T, 3]), (jnp.arange(T) == 2)[:, None] & jnp.array([True, False])

    def run(engine, memory):
        f = lambda params, xs: loss(
            sj.unroll(cell, params, state, xs, mask=mask, reset=reset, engine=engine, memory=memory)
        )
        return jax.jit(jax.value_and_grad(f, (0, 1)))(params, xs)

    close(run(engine, memory), run("scan", "all"))
    assert sj.explain(cell, params, state, xs, mask=mask, engine=engine, memory=memory).ticks == T


# ---- operations that are not batched


def doubled(x):
    return jax.pure_callback(lambda x: np.asarray(2 * x), jax.ShapeDtypeStruct(x.shape, x.dtype), x)


@jax.custom_jvp
def outside(x):
    return doubled(x)


outside.defjvp(lambda primals, tangents: (outside(primals[0]), 2 * tangents[0]))
PLACES = {
    "before": lambda u, h, x: jnp.tanh(h * u + outside(x)),
    "inside": lambda u, h, x: jnp.tanh(outside(h) * u + x),
    "linear_call": lambda u, h, x: jnp.tanh(
        jax.custom_derivatives.linear_call(lambda r, x: 3 * x, lambda r, ct: 3 * ct, (), h) * u + x
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("memory", quick(["auto", "carries", 2, "1MB"], "auto", 2))
def test_what_has_no_batching_rule_stays_in_the_loop(place, memory):
    def step(u, h, x):
        h = PLACES[place](u, h, x)
        return h, h + outside(h)

    cell, u, state, xs = cell_of(step), normal(0, D), jnp.zeros((B, D)), normal(1, T, B, D)

    def run(engine, memory):
        f = lambda u, xs: loss(sj.unroll(cell, u, state, xs, engine=engine, memory=memory))
        return jax.jit(jax.value_and_grad(f, (0, 1)))(u, xs)

    close(run("auto", memory), run("scan", "all"))
    plan = sj.explain(cell, u, state, xs, memory=memory)
    assert plan.engine == "split"


@pytest.mark.parametrize("memory", ["auto", "all", "1MB"])
def test_a_step_with_effects_is_planned_and_run_in_order(memory):
    said = []

    def step(params, h, x):
        jax.experimental.io_callback(lambda x: said.append(float(x)), None, x.sum(), ordered=True)
        return h + x, h

    cell, state, xs = cell_of(step), jnp.zeros(D), jnp.arange(12.0).reshape(4, D)
    last, _ = sj.unroll(cell, (), state, xs, memory=memory)
    jax.effects_barrier()
    np.testing.assert_array_equal(last, xs.sum(0))
    assert said == xs.sum(1).tolist()
    plan = sj.explain(cell, (), state, xs, memory=memory)
    assert plan.engine == "scan"
    assert "the step has effects" in str(plan)


# ---- switches of JAX


def programs():
    cell = sj.stack(sj.zoneout(sj.elman(2, 3), 0.2), sj.gru(3, 3))
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (B,), key=jax.random.key(1))
    mask, xs = jnp.arange(T)[:, None] < jnp.array([T, 3]), normal(2, T, B, 2)
    for engine, memory in [("auto", "all"), ("split", "carries"), ("scan", "sqrt")]:
        options = {"engine": engine, "memory": memory, "mask": mask}
        yield lambda params=params, xs=xs, options=options: loss(sj.unroll(cell, params, state, xs, **options))


@pytest.mark.parametrize("switch", quick(["checking_leaks", "debug_nans", "disable_jit"], "debug_nans"))
def test_switches(switch):
    nans = lambda: jax.debug_nans(True)
    make = {"checking_leaks": jax.checking_leaks, "debug_nans": nans, "disable_jit": jax.disable_jit}
    for program in programs():
        value, gradient = jax.value_and_grad(lambda p, f=program: f(params=p))(program.__defaults__[0])
        with make[switch]():
            again = jax.value_and_grad(lambda p, f=program: f(params=p))(program.__defaults__[0])
        close(again, (value, gradient))


# ---- shapes


@pytest.mark.parametrize("engine", ["scan", "split"])
@pytest.mark.parametrize("memory", all_but(["all", "carries", 2], "carries"))
@pytest.mark.parametrize("reverse", all_but([False, True], True))
def test_a_batch_of_no_sequences(engine, memory, reverse):
    cell = sj.stack(sj.lstm(2, 3), sj.zoneout(sj.gru(3, 4), 0.1))
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (0,), key=jax.random.key(1))
    options = {"engine": engine, "memory": memory, "reverse": reverse}
    flags = {"mask": jnp.zeros((T, 0), bool), "reset": jnp.zeros((T, 0), bool)}
    for more in ({}, flags, {"lengths": jnp.zeros(0, int)}):
        run = lambda p, more=more: sj.unroll(cell, p, state, jnp.zeros((T, 0, 2)), **options, **more)
        assert run(params)[1].shape == (T, 0, 4)
        for g in jax.tree.leaves(jax.jit(jax.grad(lambda p, run=run: loss(run(p))))(params)):
            np.testing.assert_array_equal(g, 0)


def test_a_mask_makes_no_axes():
    def step(params, h, x):
        h = h + x
        return h, {"loss": h.sum()}

    mask = jnp.ones((T, B), bool)
    with pytest.raises(ValueError, match=r"unroll: expected outputs with the mask's batch axes \(2,\), got shape \(\)"):
        sj.unroll(cell_of(step), (), jnp.zeros((B, D)), normal(0, T, B, D), mask=mask)


def test_numbers_and_lists_are_taken():
    """A Python number as state, as `jax.lax.scan` takes it; masks, resets and lengths as lists."""
    total = sj.Cell(lambda key: (), lambda params, batch_shape=(), *, key=None: jnp.zeros(batch_shape), None)
    total = total._replace(step=lambda params, s, x: (s + x, s + x))
    for engine in ("scan", "split"):
        last, ys = sj.unroll(total, (), 0.0, jnp.arange(4.0), mask=[True, False, True, True], engine=engine)
        assert (last, ys.tolist()) == (5.0, [0.0, 0.0, 2.0, 5.0])
    last, _ = sj.unroll(total, (), jnp.zeros(2), jnp.ones((3, 2)), lengths=[1, 3], reset=[[False] * 2] * 3)
    assert last.tolist() == [1.0, 3.0]


WRONG_STATES = {
    "size": (
        lambda s: s._replace(h=jnp.zeros((B, 5)), c=jnp.zeros((B, 5))),
        r"c=\[2, 4\]\), got LSTMState\(h=\[2, 5\]",
    ),
    "two sizes": (lambda s: s._replace(c=jnp.zeros((B, 5))), r"got LSTMState\(h=\[2, 4\], c=\[2, 5\]\)\. Make it"),
    "one array": (lambda s: s.h, r"such as initial_state\(params, \(2,\)\) makes, LSTMState.*, got \[2, 4\]\."),
    "swapped batch": (lambda s: s._replace(h=s.h.T), r"expected a state of lstm"),
}


@pytest.mark.parametrize("name", WRONG_STATES)
def test_a_state_of_another_kind_is_told(name):
    change, text = WRONG_STATES[name]
    cell = sj.lstm(3, 4)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match=text):
        sj.unroll(cell, params, change(cell.initial_state(params, (B,))), normal(0, T, B, 3))


def test_an_input_without_a_batch_beside_a_mask_is_told():
    step = lambda params, h, x: (h + x["x"] * x["t"], h)
    xs = {"x": normal(0, T, B, D), "t": jnp.arange(float(T))}
    run = lambda **options: sj.unroll(cell_of(step), (), jnp.zeros((B, D)), xs, **options)[1].shape
    assert run() == (T, B, D)
    for options in ({"mask": jnp.ones((T, B), bool)}, {"lengths": jnp.array([3, 4])}):
        with pytest.raises(ValueError, match=r"xs\['t'\] with the axes \(6, 2\) of .* got shape \(6,\)\. Broad"):
            run(**options)


def test_scan_does_the_work_of_a_scan():
    """The compiled gradient has the operations of `jax.lax.scan` over the same step, and no more."""
    cell = sj.lstm(3, 4)
    params = cell.init(jax.random.key(0))
    state, xs = cell.initial_state(params, (B,)), normal(0, 50, B, 3)

    def operations(run):
        gradient = jax.jit(jax.value_and_grad(lambda p: (run(p)[1] ** 2).mean()))
        lines = gradient.lower(params).compile().as_text().splitlines()
        return sum(" = " in line for line in lines)

    ours = operations(lambda p: sj.unroll(cell, p, state, xs, engine="scan"))
    assert ours == operations(lambda p: jax.lax.scan(lambda s, x: cell.step(p, s, x), state, xs))
