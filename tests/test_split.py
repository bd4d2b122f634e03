"""The split engine equals plain scan, for every kind of step, schedule and transformation."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but, quick
from steps import STEPS, B, D, H, T, gates, normal

import seqjax as sj
from seqjax.engines.equations import jaxprs


def cell_of(step):
    return sj.Cell(lambda key: None, lambda params, batch_shape=(), *, key=None: None, step)


def run(step, params, state, xs, **options):
    return sj.unroll(cell_of(step), params, state, xs, **options)


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def numbers(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def loss(result):
    weigh = lambda x: x * (1 + 0.01 * jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))
    return sum(jnp.sin(weigh(x)).sum() for x in floats(result))


def close(a, b, tolerance=1e-12):
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def problem(name, length=T):
    """The step and its differentiable arguments: ``(f, moving)`` with ``f(moving, **options)``."""
    step, params, state, xs = STEPS[name]
    xs = jax.tree.map(lambda x: x[:length], xs)
    leaves, tree = jax.tree.flatten((params, state, xs))
    where = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def f(moving, **options):
        full = list(leaves)
        for i, value in zip(where, moving):
            full[i] = value
        return run(step, *tree.unflatten(full), **options)

    return f, [leaves[i] for i in where]


def value_and_gradient(f, **options):
    def both(moving):
        result = f(moving, **options)
        return loss(result), result

    return jax.jit(jax.value_and_grad(both, has_aux=True))


@functools.cache
def by_scan(name, reverse=False):
    """What every schedule of a step is compared with."""
    f, moving = problem(name)
    return value_and_gradient(f, engine="scan", reverse=reverse)(moving)


CELLS = "lstm", "gru_after", "gru_before", "layer_norm", "stacked", "heads"  # under the laws of cells too


ALIKE = "zoneout_rbg", "constant_state", "concatenated_right", "literal_state", "rematerialised", "custom_vjp"


@pytest.mark.parametrize("name", all_but(STEPS, *CELLS, *ALIKE))
def test_equals_scan(name):
    """Values, last state and gradients of everything; 13 ticks in chunks of 4 leave a remainder."""
    f, moving = problem(name)
    close(value_and_gradient(f, engine="split", memory=4)(moving), by_scan(name))


@pytest.mark.parametrize("name", quick(STEPS, "masked", "delay", "zoneout", "integers", "custom_jvp"))
def test_equals_scan_where_all_is_kept(name):
    """The same in one chunk, which is what each of several is: a step of each kind."""
    f, moving = problem(name)
    close(value_and_gradient(f, engine="split", memory="all")(moving), by_scan(name))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [4, "carries"])
@pytest.mark.parametrize("name", quick(STEPS, "masked", "delay", "zoneout"))
def test_equals_scan_in_reverse(name, memory):
    f, moving = problem(name)
    close(value_and_gradient(f, engine="split", memory=memory, reverse=True)(moving), by_scan(name, reverse=True))


LENGTHS = (1, 31, 40)  # one tick, a prime number of them, a multiple of every chunk


@functools.cache
def of_lengths(engine, memory):
    """Values and gradients of an LSTM over each length."""
    step, params, state, _ = STEPS["lstm"]
    both = value_and_gradient(lambda moving, **options: run(step, *moving, **options), engine=engine, memory=memory)
    return [both([params, state, normal(6, length, B, D)]) for length in LENGTHS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "memory"),
    [
        *(("split", memory) for memory in ("all", "carries", "sqrt", "log", 5)),
        ("scan", "sqrt"),
        *(pytest.param("scan", memory, marks=pytest.mark.slow) for memory in ("carries", "log", 5, "1MB")),
        pytest.param("split", "1MB", marks=pytest.mark.slow),
    ],
)
def test_every_length_and_memory(engine, memory):
    close(of_lengths(engine, memory), of_lengths("scan", "all"))


@pytest.mark.slow
def test_chunks_of_a_nested_schedule_are_short_enough_to_nest():
    """memory="log" over 5,000 ticks really nests (the other tests are too short for it)."""
    step, params, state, _ = STEPS["lstm"]
    xs = normal(6, 5000, 1, D)
    state = jax.tree.map(lambda s: s[:1], state)
    plan = sj.explain(cell_of(step), params, state, xs, engine="split", memory="log")
    assert len(plan.blocks) >= 1
    f = lambda moving, **options: run(step, moving, state, xs, **options)
    for reverse in (False, True):
        expected = value_and_gradient(f, engine="scan", reverse=reverse)(params)
        close(value_and_gradient(f, engine="split", memory="log", reverse=reverse)(params), expected, 1e-11)


TRANSFORMED = [
    "lstm",
    "gru_before",
    "layer_norm",
    "stacked",
    "masked",
    "tied",
    "inner_scan",
    "custom_jvp",
    "heads",
]


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["all", "carries", 4])
@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations(name, memory):
    """Forward mode, Hessian-vector products both ways, gradient of a gradient, vmap inside and outside of grad."""
    f, moving = problem(name, 7)
    direction = [normal(50 + i, *m.shape) for i, m in enumerate(moving)]

    def transformed(**options):
        value = lambda moving: loss(f(moving, **options))
        gradient = jax.grad(value)
        inner = lambda moving: sum((g * d).sum() for g, d in zip(gradient(moving), direction))
        pair = [jnp.stack([m, 0.5 * m]) for m in moving]
        return jax.jit(
            lambda: (
                jax.jvp(value, (moving,), (direction,)),
                jax.jvp(gradient, (moving,), (direction,))[1],
                jax.grad(inner)(moving),
                jax.vmap(gradient)(pair),
                jax.grad(lambda pair: jax.vmap(value)(pair).sum())(pair),
            )
        )()

    with jax.debug_nans(False):
        close(transformed(engine="split", memory=memory), transformed(engine="scan"), 1e-10)


def test_forward_mode_over_batched_parameters():
    f, moving = problem("lstm")
    directions = [jnp.stack([normal(60 + i, *m.shape), normal(70 + i, *m.shape)]) for i, m in enumerate(moving)]
    push = lambda **options: jax.vmap(lambda d: jax.jvp(lambda m: loss(f(m, **options)), (moving,), (d,))[1])(
        directions
    )
    close(push(engine="split", memory="all"), push(engine="scan"))


def mesh(explicit):
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    return jax.make_mesh((2,), ("batch",), axis_types=(kind,))


@pytest.mark.slow
@pytest.mark.parametrize("memory", quick(["all", "carries", 4], 4))
@pytest.mark.parametrize("name", quick(["lstm", "gru_after", "stacked", "loss_in_step"], "stacked"))
def test_shard_map_and_explicit_sharding(name, memory):
    """A batch over two devices equals the batch on one, gradients of replicated parameters included."""
    step, params, state, xs = STEPS[name]
    state, xs = (
        jax.tree.map(lambda s: jnp.concatenate([s, s[:1]]), state),
        jax.tree.map(lambda x: x[:, jnp.array([0, 1, 2, 0])], xs),
    )

    def value(params, state, xs, **options):
        return loss_of_means(run(step, params, state, xs, **options))

    def loss_of_means(result):
        return sum(jnp.sin(x).sum() for x in floats(result))

    expected = jax.jit(jax.value_and_grad(lambda p: value(p, state, xs, engine="scan")))(params)
    spec = jax.sharding.PartitionSpec
    batch_first = jax.tree.map(lambda s: spec("batch"), state)
    batch_second = jax.tree.map(lambda x: spec(None, "batch"), xs)

    def sharded(params, state, xs):
        return jax.lax.psum(value(params, state, xs, engine="split", memory=memory), "batch")

    mapped = jax.shard_map(sharded, mesh=mesh(False), in_specs=(spec(), batch_first, batch_second), out_specs=spec())
    close(jax.jit(jax.value_and_grad(lambda p: mapped(p, state, xs)))(params), expected, 1e-11)

    with jax.set_mesh(mesh(True)):
        place = lambda tree, s: jax.tree.map(lambda x: jax.device_put(x, s), tree)
        placed = place(params, spec()), place(state, spec("batch")), place(xs, spec(None, "batch"))
        got = jax.jit(jax.value_and_grad(lambda p, s, x: value(p, s, x, engine="split", memory=memory)))(*placed)
        close(got, expected, 1e-11)


def test_donation():
    step, params, state, xs = STEPS["lstm"]
    update = jax.jit(
        lambda p: jax.tree.map(
            lambda a, b: a - 0.1 * b, p, jax.grad(lambda p: loss(run(step, p, state, xs, engine="split")))(p)
        ),
        donate_argnums=0,
    )
    copy = jax.tree.map(jnp.copy, params)
    first = update(copy)
    expected = jax.tree.map(
        lambda a, b: a - 0.1 * b,
        params,
        jax.grad(lambda p: loss(run(step, p, state, xs, engine="scan")))(params),
    )
    close(first, expected)


def test_float32_over_ten_thousand_ticks():
    step, params, state, _ = STEPS["lstm"]
    single = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)
    params, state, xs = single((params, state, normal(6, 10_000, B, D)))

    def value(params, **options):
        _, ys = run(step, params, state, xs, **options)
        return (ys**2).mean(), ys

    expected = jax.jit(jax.value_and_grad(lambda p: value(p, engine="scan"), has_aux=True))(params)
    for memory in ("all", "carries", "sqrt"):
        got = jax.jit(jax.value_and_grad(lambda p, m=memory: value(p, engine="split", memory=m), has_aux=True))(params)
        for a, b in zip(numbers(got), numbers(expected)):
            assert np.abs(a - b).max() <= 1e-5 * max(np.abs(b).max(), 1e-3)


@pytest.mark.slow
def test_bfloat16_weights_lose_no_more_than_in_a_plain_scan():
    """The cast is repeated in each chunk, so that gradients of a chunk are summed in float32."""
    single = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)
    params, state, xs = single((STEPS["lstm"][1], STEPS["lstm"][2], normal(6, 2048, B, D)))

    def step(p, s, x):
        low = lambda a: a.astype(jnp.bfloat16)
        product = lambda a, w: jnp.dot(low(a), low(w), preferred_element_type=jnp.float32)
        h, c = gates(product(x, p[0]) + product(s[0], p[1]) + p[2], s[1])
        return (h, c), h

    exact = jax.grad(lambda p: (run(STEPS["lstm"][0], p, *double((state, xs)), engine="scan")[1] ** 2).mean())(
        double(params)
    )
    gradient = lambda **options: jax.jit(jax.grad(lambda p: (run(step, p, state, xs, **options)[1] ** 2).mean()))(
        params
    )
    error = lambda g: max(
        float(jnp.abs(a.astype(b.dtype) - b).max() / jnp.abs(b).max())
        for a, b in zip(jax.tree.leaves(g), jax.tree.leaves(exact))
    )
    plain = error(gradient(engine="scan"))
    for memory in ("all", "carries", "sqrt", 64):
        assert error(gradient(engine="split", memory=memory)) <= 1.2 * plain + 1e-4


def double(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float64), tree)


def scans(jaxpr):
    """Every innermost scan of a jaxpr, in order."""
    for e in jaxpr.eqns:
        subs = [jaxprs.opened(sub) for sub in jaxprs.core.jaxprs_in_params(e.params)]
        if e.primitive.name == "scan" and not any(jaxprs.count(sub, "scan") for sub in subs):
            yield e
        else:
            for sub in subs:
                yield from scans(sub)


def gradient_scans(cell, length=24, batch=2):
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (batch,))
    xs = normal(6, length, batch, D)
    f = lambda p, x: (sj.unroll(cell, p, state, x, engine="split", memory="all")[1] ** 2).sum()
    closed = jax.make_jaxpr(jax.grad(f, (0, 1)))(params, xs)
    return params, list(scans(jaxprs.inlined(closed).jaxpr))


@pytest.mark.parametrize("make", [sj.elman, sj.lstm, sj.gru], ids=["elman", "lstm", "gru"])
def test_one_product_in_each_loop_and_no_weight_carried(make):
    params, found = gradient_scans(make(D, H))
    forward, backward = found
    weight_shapes = {w.shape for w in jax.tree.leaves(params) if w.ndim == 2}
    for e, reverse in ((forward, False), (backward, True)):
        assert e.params["reverse"] is reverse
        assert jaxprs.count(jaxprs.opened(e.params["jaxpr"]), "dot_general") == 1
        carried, _ = carried_and_stacked(e)
        assert not any(v.aval.shape in weight_shapes for v in carried)


def carried_and_stacked(e):
    """A scan's outputs: those with the type of the body's, and those with one more axis."""
    inside = jaxprs.opened(e.params["jaxpr"]).outvars
    carried = [v for v, inner in zip(e.outvars, inside, strict=True) if v.aval.shape == inner.aval.shape]
    return carried, [v for v in e.outvars if v not in carried]


def stacked_units(e, batch=2):
    """Numbers a scan stacks per tick, example and hidden unit."""
    _, stacked = carried_and_stacked(e)
    return sum(v.aval.size for v in stacked if type(v) is not jaxprs.core.DropVar) / (e.params["length"] * batch * H)


def test_lstm_keeps_seven_numbers_a_unit_and_returns_four():
    _, (forward, backward) = gradient_scans(sj.lstm(D, H))
    assert stacked_units(forward) <= 7
    assert stacked_units(backward) <= 4


def test_gru_shares_its_roots():
    """One ε for x̂ and h U of both gates, one for the candidate: 4 numbers a unit, not 7."""
    _, (_, backward) = gradient_scans(sj.gru(D, H))
    assert stacked_units(backward) <= 4


@pytest.mark.parametrize("make", [sj.lstm, sj.peephole_lstm], ids=["lstm", "peephole"])
def test_a_loop_reads_its_gates_one_by_one(make):
    """What comes per tick is one array [T, B, h] a gate: no loop cuts up what it read for all gates at once."""
    _, (forward, _) = gradient_scans(make(D, H))
    (body,) = [e for e in jaxprs.opened(forward.params["jaxpr"]).eqns if e.primitive.name == "split"]
    product = next(e for e in jaxprs.opened(forward.params["jaxpr"]).eqns if e.primitive.name == "dot_general")
    assert body.invars[0] is product.outvars[0]
    assert [v.aval.shape[-1] for v in forward.invars if v.aval.ndim == 3] == [H] * 4


@pytest.mark.slow
def test_summands_of_unequal_shape_keep_their_gradients():
    """A bias [1, 2h] and a column [B, 1] enter pieces of a product: their tangents are sums over what they span."""

    def step(params, state, x):
        u, bias, column = params
        left, right = jnp.split(x[:, :1] + state @ u + bias + column, 2, -1)
        state = jnp.tanh(left) * jax.nn.sigmoid(right + x[:, :H])
        return state, state

    cell = sj.Cell(init=lambda key: None, initial_state=lambda params, batch=(): jnp.zeros((*batch, H)), step=step)
    params = (0.3 * normal(1, H, 2 * H), normal(2, 2 * H), normal(3, 2, 1))
    xs = normal(4, 9, 2, D + H)

    def value(params, engine):
        return (sj.unroll(cell, params, jnp.zeros((2, H)), xs, engine=engine, memory=4)[1] ** 2).sum()

    for moving in ([0, 1, 2], [1], [2]):

        def of(some, engine, moving=moving):
            merged = dict(zip(moving, some))
            return value(tuple(merged.get(i, p) for i, p in enumerate(params)), engine)

        some = [params[i] for i in moving]
        chex.assert_trees_all_close(jax.grad(of)(some, "split"), jax.grad(of)(some, "scan"), rtol=1e-12, atol=1e-13)


def test_a_stack_is_two_loops():
    _, found = gradient_scans(sj.stack(sj.lstm(D, H), sj.lstm(H, H)))
    assert [e.params["reverse"] for e in found] == [False, False, True, True]
    plan = sj.explain(
        sj.stack(sj.lstm(D, H), sj.lstm(H, H)),
        *(lambda c: (lambda p: (p, c.initial_state(p, (2,))))(c.init(jax.random.key(0))))(
            sj.stack(sj.lstm(D, H), sj.lstm(H, H))
        ),
        normal(6, 24, 2, D),
        engine="split",
    )
    assert [loop.products for loop in plan.loops] == [1, 1]


@pytest.mark.parametrize("make", all_but([sj.elman, sj.lstm, sj.gru], sj.elman), ids=["elman", "lstm", "gru"])
@pytest.mark.parametrize("memory", ["all", "carries"])
@pytest.mark.parametrize("engine", ["scan", "split"])
def test_predicted_bytes_are_the_slope_of_the_compilers(engine, memory, make):
    """Within 10 %, from two compiled lengths, both so long that chunks are equal, with one scalar loss a tick."""
    batch, hidden = 4, 32
    inner = make(hidden, hidden, dtype=jnp.float32)
    cell = inner._replace(step=lambda p, s, x: (lambda s, y: (s, (y**2).mean()))(*inner.step(p, s, x)))
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (batch,))

    def temporaries(length):
        xs = jax.ShapeDtypeStruct((length, batch, hidden), jnp.float32)
        f = jax.grad(lambda p, x: sj.unroll(cell, p, state, x, engine=engine, memory=memory)[1].mean())
        return jax.jit(f).lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    slope = (temporaries(65536) - temporaries(32768)) / 32768
    plan = sj.explain(cell, params, state, jnp.zeros((32768, batch, hidden), jnp.float32), engine=engine, memory=memory)
    assert plan.bytes_a_tick[memory] == pytest.approx(slope, rel=0.1)


@pytest.mark.parametrize("memory", quick(["all", "carries", "sqrt", "log", 64], "all", "sqrt"))
@pytest.mark.parametrize("engine", ["scan", "split"])
@pytest.mark.parametrize(
    "make", quick([sj.lstm, sj.gru, sj.elman, sj.layer_norm_lstm], sj.lstm), ids=lambda m: m.__name__
)
def test_predicted_totals_are_the_compilers(engine, memory, make):
    """Value and gradient, outputs and their cotangents included: most of it where little is kept."""
    cell = make(32, 64, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    state, xs = cell.initial_state(params, (16,)), jax.ShapeDtypeStruct((1024, 16, 32), jnp.float32)

    def f(p, x):
        return (sj.unroll(cell, p, state, x, engine=engine, memory=memory)[1] ** 2).sum()

    taken = jax.jit(jax.value_and_grad(f)).lower(params, xs).compile().memory_analysis().temp_size_in_bytes
    plan = sj.explain(cell, params, state, xs, engine=engine, memory=memory)
    assert plan.total_bytes == pytest.approx(taken, rel=0.15)
    assert plan.predicted["outputs"] >= 2 * 1024 * 16 * 64 * 4


@pytest.mark.parametrize("engine", ["scan", "split"])
def test_ticks_that_chunks_leave_over_are_counted(engine):
    """1,000 ticks in chunks of 64 and 40 more: inputs and outputs are copied, most of all that is taken."""
    cell = sj.lstm(256, 64, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    state, xs = cell.initial_state(params, (16,)), jax.ShapeDtypeStruct((1000, 16, 256), jnp.float32)

    def f(p, x):
        return (sj.unroll(cell, p, state, x, engine=engine, memory=64)[1] ** 2).sum()

    taken = jax.jit(jax.value_and_grad(f)).lower(params, xs).compile().memory_analysis().temp_size_in_bytes
    assert sj.explain(cell, params, state, xs, engine=engine, memory=64).total_bytes == pytest.approx(taken, rel=0.15)


def test_sqrt_keeps_little():
    """16,384 ticks of 8 × 128 units fit in 10 MB of temporaries; plain scan takes more than 800."""
    inner = sj.lstm(128, 128, dtype=jnp.float32)
    cell = inner._replace(step=lambda p, s, x: (lambda s, y: (s, (y**2).mean()))(*inner.step(p, s, x)))
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (8,))
    xs = jax.ShapeDtypeStruct((16_384, 8, 128), jnp.float32)

    def temporaries(**options):
        f = jax.grad(lambda p, x: sj.unroll(cell, p, state, x, **options)[1].mean())
        return jax.jit(f).lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    plain = temporaries(engine="scan", memory="all")
    assert temporaries(engine="split", memory="sqrt") <= 10e6
    assert temporaries(engine="split", memory="carries") <= plain / 5
    assert temporaries(engine="split", memory="log") <= 20e6
    plan = sj.explain(cell, params, state, jnp.zeros(xs.shape, xs.dtype), engine="split", memory="150MB")
    assert plan.keep == "carries"


def test_the_program_does_not_grow_with_time():
    """Compile time cannot depend on T: the jaxpr has as many equations for 1,024 ticks as for 65,536."""
    step, params, state, _ = STEPS["lstm"]
    for memory in ("all", "carries", "sqrt"):
        sizes = []
        for length in (8192, 65_536):
            f = lambda p, x, m=memory: (run(step, p, state, x, engine="split", memory=m)[1] ** 2).sum()
            closed = jax.make_jaxpr(jax.grad(f))(params, jax.ShapeDtypeStruct((length, B, D), jnp.float64))
            sizes.append(equations(closed.jaxpr))
        assert sizes[0] == sizes[1]


def test_no_loop_copies_a_whole_stack():
    """A copy of a [T, ...] array inside a loop makes the cost of a tick grow with T."""
    step, params, state, _ = STEPS["lstm"]
    length = 8192
    for memory in ("all", "carries", "sqrt"):
        f = lambda p, x, m=memory: (run(step, p, state, x, engine="split", memory=m)[1] ** 2).sum()
        text = jax.jit(jax.grad(f)).lower(params, jax.ShapeDtypeStruct((length, B, D), jnp.float64)).compile().as_text()
        bodies = re.findall(r"body=%?([\w.\-]+)", text)
        computations = dict(re.findall(r"^%?([\w.\-]+) \([^\n]*\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
        assert bodies
        for body in bodies:
            for shape in re.findall(r"= \w+\[([\d,]+)\]\S* copy\(", computations[body]):
                assert np.prod([int(n) for n in shape.split(",")]) < length * B * H, shape


def equations(jaxpr):
    return sum(1 + sum(equations(jaxprs.opened(s)) for s in jaxprs.core.jaxprs_in_params(e.params)) for e in jaxpr.eqns)


def test_a_step_with_effects_runs_as_plain_scan():
    seen = []

    def step(params, h, x):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        h = jnp.tanh(h + x)
        return h, h

    cell = sj.Cell(lambda key: None, lambda params, batch_shape=(), *, key=None: jnp.zeros(()), step)
    xs = jnp.arange(10.0)
    sj.unroll(cell, None, jnp.zeros(()), xs, engine="split")
    jax.effects_barrier()
    assert seen == list(range(10))
    assert sj.explain(cell, None, jnp.zeros(()), xs, engine="split").engine == "scan"


def test_unknown_engines_and_memories_are_named():
    step, params, state, xs = STEPS["lstm"]
    with pytest.raises(ValueError, match=r"expected engine to be one of 'auto', 'scan', 'split', .*got 'fast'"):
        run(step, params, state, xs, engine="fast")
    with pytest.raises(ValueError, match=r"expected memory to be one of .*'256MB', got 'little'"):
        run(step, params, state, xs, memory="little")
    with pytest.raises(ValueError, match="expected memory to be a whole number of at least 1, got -3"):
        run(step, params, state, xs, memory=-3)


@pytest.mark.parametrize("length", [64, 6400], ids=["one chunk", "many"])
def test_a_step_is_traced_once_and_each_loop_twice(monkeypatch, length):
    """The types of inputs, the step, the rewritten step; a loop's tick and its linear map."""
    cell, steps, traces = sj.stack(sj.lstm(D, H), sj.lstm(H, H)), [], []
    make_jaxpr = jax.make_jaxpr
    monkeypatch.setattr(jax, "make_jaxpr", lambda *a, **k: traces.append(1) or make_jaxpr(*a, **k))
    counted = cell._replace(step=lambda *a: steps.append(1) or cell.step(*a))
    params = cell.init(jax.random.key(0))
    state, xs = cell.initial_state(params, (B,)), jax.ShapeDtypeStruct((length, B, D), jnp.float64)
    loss = lambda params, xs: sj.unroll(counted, params, state, xs, engine="split")[1].sum()
    jax.jit(jax.value_and_grad(loss)).lower(params, xs)
    assert len(steps) == 1
    assert len(traces) == 3 + 2 * 2
