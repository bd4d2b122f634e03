"""The linear engine: forms of a linear recurrence against a loop, and what it finds in steps that users write."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but, quick

import seqjax as sj
from seqjax.engines.linear.algebra import MAX_PLUS, NUMBERS, Ticks
from seqjax.engines.linear.diagonal import How, recurrence

RNG = np.random.default_rng(0)
B, D, H = 2, 3, 4


def by_hand(algebra, a, b, first, alive, reverse):
    """A loop, written out; the state before is not looked at where it is not alive."""
    ticks = range(len(b))[::-1] if reverse else range(len(b))
    states, h = {}, first
    for t in ticks:
        if algebra is NUMBERS:
            h = b[t] + (a[t] * h if alive is None else jnp.where(alive[t], a[t] * h, 0))
        else:
            h = jnp.maximum(b[t], a[t] + h if alive is None else jnp.where(alive[t], a[t] + h, -jnp.inf))
        states[t] = h
    return jnp.stack([states[t] for t in range(len(b))])


def coefficients(length, *, complex_numbers=False):
    draw = lambda *shape: RNG.normal(size=shape) + (1j * RNG.normal(size=shape) if complex_numbers else 0)
    a = draw(length, B, D) * 0.7
    a[: length // 3], a[length // 2 : length // 2 + 2] = 0, 1
    return jnp.asarray(a), jnp.asarray(draw(length, B, D)), jnp.asarray(draw(B, D))


def weighed(states):
    return jnp.sum(jnp.sin(jnp.real(states) + 0.5 * jnp.imag(states)) * jnp.arange(1.0, 1 + len(states))[:, None, None])


WAYS = {
    f"{kind}{', cut' * cut}{', in reverse' * reverse}": (kind, cut, reverse)
    for kind, cut, reverse in itertools.product(("numbers", "complex", "max-plus"), (False, True), (False, True))
}


@pytest.mark.parametrize("way", quick(WAYS, "numbers", "numbers, cut, in reverse", "complex, cut", "max-plus, cut"))
def test_every_form_is_the_loop(way):
    """States and all gradients; a of 0 and 1; lanes that do not divide time, more lanes than ticks."""
    kind, cut, reverse = WAYS[way]
    algebra = MAX_PLUS if kind == "max-plus" else NUMBERS
    for length in (1, 7):
        a, b, first = coefficients(length, complex_numbers=kind == "complex")
        alive = jnp.asarray(RNG.uniform(size=(length, B, D)) > 0.3) if cut else None
        hows = [How("loop", reverse), How("tree", reverse), How("lanes", reverse, 3), How("lanes", reverse, 64)]

        @jax.jit
        def all_of_them(a, b, first, alive=alive, hows=hows):
            runs = [lambda a, b, h: by_hand(algebra, a, b, h, alive, reverse)]
            runs += [lambda a, b, h, how=how: recurrence(Ticks(a, b, alive), h, how, algebra) for how in hows]
            grad = lambda run: jax.grad(lambda a, b, h: weighed(run(a, b, h)), (0, 1, 2))(a, b, first)
            return [(run(a, b, first), grad(run)) for run in runs]

        expected, *found = all_of_them(a, b, first)
        for each in found:
            for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(each)):
                np.testing.assert_allclose(y, x, rtol=0, atol=1e-11)


def test_second_derivatives_and_vmap():
    """Of a form whose transpose is our own: forward over reverse, reverse over reverse, under vmap."""
    a, b, first = coefficients(5)
    ours = lambda a: weighed(recurrence(Ticks(a, b, None), first, How("lanes", False, 2)))
    hand = lambda a: weighed(by_hand(NUMBERS, a, b, first, None, False))
    both = jnp.stack([a, a + 0.1])

    def derivatives(f):
        v = jnp.cos(a)
        return (
            jax.jvp(jax.grad(f), (a,), (v,))[1],
            jax.grad(lambda a: jnp.vdot(jax.grad(f)(a), v))(a),
            jax.vmap(jax.grad(f))(both),
            jax.jvp(f, (a,), (v,))[1],
        )

    for x, y in zip(*jax.jit(lambda: (derivatives(hand), derivatives(ours)))()):
        np.testing.assert_allclose(y, x, atol=1e-11)


def test_a_gradient_keeps_a_and_h():
    """Two numbers a tick and a state: not what a tree would keep, log T times as much."""
    length = 64
    a, b, first = coefficients(length)
    for form in ("loop", "tree", "lanes"):
        run = lambda a, b, h, form=form: recurrence(Ticks(a, b, None), h, How(form, False, 4))
        kept = jax.tree.leaves(jax.eval_shape(lambda a, b, h, run=run: jax.vjp(run, a, b, h)[1], a, b, first))
        assert sum(leaf.size for leaf in kept) <= (2 * length + 2) * B * D


# ---- steps that users write. Every one is (params, h, x) -> (h, y), x [B, D], h [B, H].

GATE = lambda p, x: jax.nn.sigmoid(x @ p["w"])
NEW = lambda p, x: jnp.tanh(x @ p["v"])
same = lambda h: (h, h)

ACCEPTED = {
    "leaky sum": lambda p, h, x: same(0.9 * h + x @ p["v"]),
    "running sum": lambda p, h, x: same(h + x @ p["v"]),
    "gated": lambda p, h, x: same((1 - GATE(p, x)) * h + GATE(p, x) * NEW(p, x)),
    "towards the new": lambda p, h, x: same(h + GATE(p, x) * (NEW(p, x) - h)),
    "divided": lambda p, h, x: same(h / (1 + GATE(p, x)) + NEW(p, x)),
    "signs": lambda p, h, x: same(-(h * GATE(p, x)) - NEW(p, x)),
    "chosen by the input": lambda p, h, x: same(jnp.where(x[..., :1] > 0, h, NEW(p, x))),
    "held by the input": lambda p, h, x: same(jnp.where(x[..., :1] > 0, GATE(p, x) * h + NEW(p, x), h)),
    "decay by a parameter": lambda p, h, x: same(jnp.exp(-jnp.exp(p["w"][0])) * h + x @ p["v"]),
    "a gate of zero and one": lambda p, h, x: same(jnp.round(GATE(p, x)) * h + NEW(p, x)),
    "nonlinear behind": lambda p, h, x: (GATE(p, x) * h + NEW(p, x), jnp.tanh(h) * jnp.cos(GATE(p, x) * h)),
    "read before": lambda p, h, x: (0.5 * h + NEW(p, x), h * h),
    "always the new": lambda p, h, x: same(jnp.where(True, 0.5 * h, NEW(p, x)) + NEW(p, x)),
    "largest so far": lambda p, h, x: same(jnp.maximum(h, x @ p["v"])),
    "fading maximum": lambda p, h, x: same(jnp.maximum(h - GATE(p, x), x @ p["v"])),
    "maximum by a constant choice": lambda p, h, x: same(jnp.where(jnp.array(True), jnp.maximum(h + 1, x @ p["v"]), h)),
    "maximum of equals": lambda p, h, x: same(jnp.maximum(h, 0.8 + 0.0 * (x @ p["v"]))),  # the state starts at .8
    "maximum, restarted": lambda p, h, x: same(jnp.maximum(jnp.where(x[..., :1] > 1, NEW(p, x), h + 0.1), x @ p["v"])),
}
REFUSED = {
    "tanh": (lambda p, h, x: same(jnp.tanh(h + x @ p["v"])), "tanh float64"),
    "relu": (lambda p, h, x: same(jax.nn.relu(h + x @ p["v"])), "custom_jvp_call"),
    "absolute": (lambda p, h, x: same(jnp.abs(h) + x @ p["v"]), "abs float64"),
    "squared": (lambda p, h, x: same(0.1 * h * h + x @ p["v"]), "a product of two values that depend on the state"),
    "a gate that reads the state": (
        lambda p, h, x: same(jax.nn.sigmoid(h) * h + NEW(p, x)),
        "logistic float64",
    ),
    "by its sign": (lambda p, h, x: same(jnp.where(h > 0, h, NEW(p, x))), "gt bool"),
    "floor": (lambda p, h, x: same(jnp.floor(h) + x @ p["v"]), "floor float64"),
    "through whole numbers": (
        lambda p, h, x: same(h.astype(jnp.int32).astype(h.dtype) + x @ p["v"]),
        "a cast of what depends on the state to int32",
    ),
    "rounded at every tick": (
        lambda p, h, x: same(h.astype(jnp.float32).astype(h.dtype) + x @ p["v"]),
        "a cast of what depends on the state to float32",
    ),
    "one over it": (lambda p, h, x: same(1 / (2 + h) + x @ p["v"]), "a division by what depends on the state"),
    "maximum and product": (lambda p, h, x: same(jnp.maximum(0.5 * h, x @ p["v"])), "max float64"),
    "minimum": (lambda p, h, x: same(jnp.minimum(h, x @ p["v"])), "min float64"),
    "no gradient": (lambda p, h, x: same(jax.lax.stop_gradient(h) * 0.5 + x @ p["v"]), "stop_gradient|custom_jvp"),
    "of three": (
        lambda p, h, x: same(jax.lax.select_n((x[..., :1] > jnp.zeros(H)).astype(jnp.int32), h, 2 * h, NEW(p, x))),
        "a choice among more than two",
    ),
    "mixed": (lambda p, h, x: same((h - h.mean(0)[None]) @ p["u"] + x @ p["v"]), "mixes numbers of the state"),
    "sorted": (lambda p, h, x: same(jnp.sort(h) + x @ p["v"]), "sort float64"),
}


def cell_of(step):
    draw = lambda *shape: jnp.asarray(RNG.normal(size=shape))
    init = lambda key: {"w": draw(D, H), "v": draw(D, H), "u": draw(H, H) / 4}
    return sj.Cell(init, lambda params, batch=(), key=None: jnp.full((*batch, H), 0.3), step)


def value_and_gradients(cell, engine, params, state, xs, **options):
    def loss(params, state, xs):
        last, ys = sj.unroll(cell, params, state, xs, engine=engine, **options)
        return jnp.sum(jnp.sin(3 * ys)) + jnp.sum(last**2), (last, ys)

    return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, state, xs)


def equal_to_scan(cell, params, xs, tolerance=1e-10, **options):
    state = cell.initial_state(params, (B,)) + 0.5
    run = jax.jit(lambda *each: [value_and_gradients(cell, engine, *each, **options) for engine in ("scan", "linear")])
    expected, found = run(params, state, xs)
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
        np.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance)


# Of one kind with another.
SIMILAR = ("leaky sum", "running sum", "signs", "towards the new", "decay by a parameter", "read before")


@pytest.mark.parametrize("name", all_but(ACCEPTED, *SIMILAR))
def test_what_is_linear_is_found_and_equals_scan(name):
    """Value and every gradient, in reverse, with masks over NaN and resets."""
    cell = cell_of(ACCEPTED[name])
    params, xs = cell.init(jax.random.key(0)), RNG.normal(size=(9, B, D))
    mask, reset = RNG.uniform(size=(9, B)) > 0.3, RNG.uniform(size=(9, B)) > 0.6
    hidden = jnp.asarray(np.where(mask[..., None], xs, np.nan))
    equal_to_scan(
        cell, params, hidden, mask=jnp.asarray(mask), reset=jnp.asarray(reset), reverse=True, memory="carries"
    )


@pytest.mark.parametrize("name", quick(ACCEPTED, "gated", "nonlinear behind", "fading maximum"))
def test_what_is_linear_equals_scan_forwards(name):
    """The same with nothing in the way, as the laws of cells have it."""
    cell = cell_of(ACCEPTED[name])
    equal_to_scan(cell, cell.init(jax.random.key(0)), jnp.asarray(RNG.normal(size=(9, B, D))))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linear_is_refused_by_its_equation(name):
    """And run all the same by ``auto``."""
    step, reason = REFUSED[name]
    cell = cell_of(step)
    params, xs = cell.init(jax.random.key(0)), jnp.asarray(RNG.normal(size=(3, B, D)))
    state = cell.initial_state(params, (B,))
    with pytest.raises(ValueError, match=f"unroll: expected recurrences that are linear.*{reason}.*Use engine='auto'"):
        sj.unroll(cell, params, state, xs, engine="linear")
    assert not any(loop.way for loop in sj.explain(cell, params, state, xs).loops)


@pytest.mark.parametrize("length", [1, 2, 31, pytest.param(1031, marks=pytest.mark.slow)])
@pytest.mark.parametrize("memory", ["all", "sqrt"])
def test_lengths(length, memory):
    """Also those that no chunk divides, with gates of exactly 0 and 1."""
    cell = cell_of(ACCEPTED["a gate of zero and one"])
    equal_to_scan(cell, cell.init(jax.random.key(0)), jnp.asarray(RNG.normal(size=(length, B, D))), memory=memory)


def test_ten_thousand_ticks_in_single_precision():
    """By a loop of two equations; scan's own rounding is of this size."""
    cell = sj.cells.mingru(D, H, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    xs = jnp.asarray(RNG.normal(size=(10_000, 1, D)), jnp.float32)
    state = cell.initial_state(params, (1,))
    run = jax.jit(lambda p: [sj.unroll(cell, p, state, xs, engine=engine)[1] for engine in ("scan", "linear")])
    expected, found = run(params)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nan_before_a_reset_does_not_survive_it():
    """Zero times NaN would be NaN: a reset selects."""
    cell = cell_of(ACCEPTED["gated"])
    params = cell.init(jax.random.key(0))
    xs = jnp.asarray(RNG.normal(size=(6, B, D))).at[1].set(jnp.nan)
    reset = jnp.zeros((6, B), bool).at[3].set(True)
    _, ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), xs, reset=reset, engine="linear")
    assert np.isnan(ys).any((1, 2)).tolist() == [False, True, True, False, False, False]


def test_auto_decides_loop_by_loop():
    """A linear layer above an LSTM, and mLSTM: its stabiliser in max and +, then n and C."""
    cell = sj.stack(sj.lstm(D, H), sj.cells.mingru(H, H))
    params = cell.init(jax.random.key(0))
    state, xs = cell.initial_state(params, (B,)), jnp.ones((16, B, D))
    plan = sj.explain(cell, params, state, xs)
    assert [loop.way for loop in plan.loops] == ["", "linear, number by number"]
    assert plan.engine == "split"
    assert any("not linear: " in why for why in plan.why)
    assert "linear, number by number" in str(plan)
    cell = sj.cells.mlstm(D, H, heads=2)
    params = cell.init(jax.random.key(0))
    plan = sj.explain(cell, params, cell.initial_state(params, (B,)), xs)
    assert {loop.state[0]: loop.way for loop in plan.loops} == {
        "float64[2,2]": "linear, number by number, in max and +",
        "float64[2,2,2]": "linear, number by number",
        "float64[2,2,2,2]": "linear, number by number",
    }
    assert any("fewer than 24 rows and columns" in why for why in plan.why)
    how = sj.explain(cell, params, cell.initial_state(params, (B,)), xs, engine="linear")
    assert "linear, a matrix by chunks" in [loop.way for loop in how.loops]
    assert plan.engine == "linear"


SPREAD = {
    "lru": (sj.cells.lru, False),
    "lru, explicit": (sj.cells.lru, True),
    "delta_rule": (sj.cells.delta_rule, False),
    "delta_rule, explicit": (sj.cells.delta_rule, True),
}


@pytest.mark.parametrize("name", quick(SPREAD, "lru, explicit", "delta_rule"))
def test_a_batch_over_two_devices(name):
    """By `jax.shard_map`, and by explicit shardings: types say where values differ, and ours are handed on."""
    make, explicit = SPREAD[name]
    cell = make(D, H)
    params, xs = cell.init(jax.random.key(0)), jnp.asarray(RNG.normal(size=(9, B, D)))
    spec, kind = jax.sharding.PartitionSpec, jax.sharding.AxisType
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind.Explicit if explicit else kind.Auto,))

    def total(params, state, xs, engine="linear"):
        return jnp.sum(jnp.sin(sj.unroll(cell, params, state, xs, engine=engine)[1]))

    state = cell.initial_state(params, (B,))
    expected = jax.jit(jax.value_and_grad(lambda p: total(p, state, xs, "scan")))(params)
    if explicit:
        with jax.set_mesh(mesh):
            placed = [jax.device_put(state, spec("batch")), jax.device_put(xs, spec(None, "batch"))]
            found = jax.jit(jax.value_and_grad(total))(params, *placed)
    else:
        split = lambda params, state, xs: jax.lax.psum(total(params, state, xs), "batch")
        specs = (spec(), spec("batch"), spec(None, "batch"))
        mapped = jax.shard_map(split, mesh=mesh, in_specs=specs, out_specs=spec())
        found = jax.jit(jax.value_and_grad(lambda p: mapped(p, state, xs)))(params)
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-10)
