"""Reservoirs: the equation, the ridge solution, free runs, memory and forgetting, each against NumPy or theory."""

import itertools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import seqjax as sj
from seqjax import reservoir, tasks

RNG = np.random.default_rng(0)
T, B = 60, 3
TIGHT = {"rtol": 1e-9, "atol": 1e-12}
CELLS = {
    "dense": lambda **kw: sj.echo_state(2, 12, leak=0.3, radius=1.1, **kw),
    "sparse": lambda **kw: sj.sparse_echo_state(2, 12, connections=4, leak=0.3, radius=1.1, **kw),
}


@pytest.fixture(scope="module", params=CELLS)
def make(request):
    return CELLS[request.param]


@pytest.fixture(scope="module")
def params(make):
    return make().init(jax.random.key(0))


def recurrent_matrix(params):
    """U as a dense matrix, read off the cell: the derivative of one undamped step at rest."""
    if isinstance(params, sj.EchoStateParams):
        return np.asarray(params.w_h)
    cell = sj.sparse_echo_state(2, 12, connections=4, trainable=True)
    rest = params._replace(b=jnp.zeros(12))
    return np.asarray(jax.jacobian(lambda h: cell.step(rest, h, jnp.zeros(2))[0])(jnp.zeros(12))).T


def states(params, xs, leak=0.3):
    u, h, out = recurrent_matrix(params), np.zeros((*xs.shape[1:-1], 12)), []
    for x in xs:
        h = (1 - leak) * h + leak * np.tanh(x @ np.asarray(params.w_x) + h @ u + np.asarray(params.b))
        out.append(h)
    return np.array(out)


def test_equation(make, params):
    xs = RNG.normal(size=(T, B, 2))
    cell = make()
    _, hs = sj.unroll(cell, params, cell.initial_state(params, (B,)), xs)
    np.testing.assert_allclose(hs, states(params, xs), **TIGHT)


def test_weights_as_asked(make, params):
    u = recurrent_matrix(params)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(u)).max(), 1.1, rtol=1e-9)
    if isinstance(params, sj.SparseEchoStateParams):
        assert ((u != 0).sum(0) == 4).all()
        assert ((u != 0).sum(1) == 4).all()
    scaled = make(input_scale=(3.0, 0.1), bias_scale=0.0).init(jax.random.key(1))
    assert 2 < np.abs(scaled.w_x[0]).max() <= 3
    assert 0.05 < np.abs(scaled.w_x[1]).max() <= 0.1
    assert not scaled.b.any()


def test_gradients_stop_at_fixed_weights_only(make, params):
    """Fixed: none reach the weights, all reach the inputs. Trainable: those of finite differences."""
    xs = jnp.array(RNG.normal(size=(6, 2)))

    def loss(cell, params, xs):
        return (sj.unroll(cell, params, cell.initial_state(params), xs)[1] ** 3).sum()

    fixed, free = make(), make(trainable=True)
    for leaf in jax.tree.leaves(jax.grad(loss, 1)(fixed, params, xs)):
        assert not leaf.any()
    to_inputs = jax.grad(loss, 2)(fixed, params, xs)
    np.testing.assert_allclose(to_inputs, jax.grad(loss, 2)(free, params, xs), **TIGHT)
    assert to_inputs.any()
    check_grads(lambda p, x: loss(free, p, x), (params, xs), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_sparse_and_dense_are_the_same_reservoir():
    params = CELLS["sparse"]().init(jax.random.key(0))
    same, xs = reservoir.dense(params), RNG.normal(size=(T, B, 2))
    np.testing.assert_array_equal(same.w_h, recurrent_matrix(params))
    runs = []
    for cell, p in ((CELLS["sparse"](), params), (CELLS["dense"](), same)):
        runs.append(sj.unroll(cell, p, cell.initial_state(p, (B,)), xs)[1])
    np.testing.assert_allclose(*runs, **TIGHT)
    np.testing.assert_allclose(reservoir.bounds(same.w_h).radius, 1.1, rtol=1e-9)


def test_fine_tuning(make):
    """From a fitted readout on, steps on all weights halve the error; steps on the readout alone do not lower it."""
    xs = jax.random.normal(jax.random.key(3), (120, 2))
    targets = xs[:, :1] * jnp.roll(xs[:, 1:], 1, 0)
    errors = []
    for cell in (make(), make(trainable=True)):
        params = cell.init(jax.random.key(0))
        fitted = reservoir.fit(cell, params, xs, targets, washout=10)

        def error(both, cell=cell):
            _, hs = sj.unroll(cell, both[0], cell.initial_state(both[0]), xs)
            return ((reservoir.read(both[1], hs, xs) - targets)[10:] ** 2).mean()

        np.testing.assert_allclose(error((params, fitted.readout)), fitted.error[0], rtol=1e-6)
        both, optimiser = (params, fitted.readout), optax.adam(2e-2)

        @jax.jit
        def train(both, error=error, optimiser=optimiser):
            def step(carry, _):
                both, state = carry
                updates, state = optimiser.update(jax.grad(error)(both), state)
                return (optax.apply_updates(both, updates), state), None

            return jax.lax.scan(step, (both, optimiser.init(both)), length=200)[0][0]

        with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in integers
            both = train(both)
        errors.append(float(error(both) / fitted.error[0]))
    assert errors[0] > 0.999  # the ridge readout was the best
    assert errors[1] < 0.5


def test_fixed_weights_cost_nothing_in_the_backward_pass():
    """With only the readout to train, the gradient's program holds no product with the recurrent weights but one."""
    cell = sj.echo_state(2, 12)
    params = cell.init(jax.random.key(0))
    xs = jnp.ones((5, 2))

    def loss(both, cell):
        params, v = both
        return (sj.unroll(cell, params, cell.initial_state(params), xs)[1] @ v).sum()

    def products(cell):
        text = str(jax.make_jaxpr(lambda both: jax.grad(loss)(both, cell))((params, jnp.ones(12))))
        return text.count("dot_general")

    assert products(cell) < products(sj.echo_state(2, 12, trainable=True))
    assert products(cell) == 4  # x W, h U, h V forwards; hᵀ ȳ backwards


def ridge_solution(features, targets, ridge):
    penalty = ridge * np.eye(features.shape[1])
    penalty[-1, -1] = 0
    return np.linalg.solve(features.T @ features + penalty, features.T @ targets)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_ridge_readout(make, params, chunk):
    """The normal equations by hand over a batch with masks and a washout, whatever the chunks."""
    xs, targets = RNG.normal(size=(T, B, 2)), RNG.normal(size=(T, B, 2))
    mask = np.arange(T)[:, None] < np.array([60, 41, 23])
    fitted = reservoir.fit(make(), params, xs, targets, mask=jnp.array(mask), washout=9, ridge=0.3, chunk=chunk)
    keep = mask.copy()
    keep[:9] = False
    hs = states(params, xs)
    features = np.concatenate([hs, xs, np.ones((T, B, 1))], -1)[keep]
    weights = ridge_solution(features, targets[keep], 0.3)
    found = np.concatenate([fitted.readout.w_h, fitted.readout.w_x, fitted.readout.b[None]])
    np.testing.assert_allclose(found, weights, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fitted.error, ((features @ weights - targets[keep]) ** 2).mean(0), rtol=1e-9)
    np.testing.assert_allclose(fitted.state[1], hs[40, 1], **TIGHT)


def test_a_stream_without_an_end_in_memory():
    """Chunks come from a generator, of uneven lengths; while one is read, none before it is alive."""
    cell = sj.echo_state(1, 12)
    params = cell.init(jax.random.key(0))
    xs, targets, alive = RNG.normal(size=(500, 1)), RNG.normal(size=(500, 1)), []

    class Chunk(np.ndarray):
        pass

    def chunks():
        for a, b in itertools.pairwise([0, 3, 203, 403, 500]):
            assert sum(ref() is not None for ref in alive[:-1]) == 0
            piece = targets[a:b].copy().view(Chunk)
            alive.append(weakref.ref(piece))
            yield xs[a:b], piece, None

    streamed = reservoir.fit_stream(cell, params, chunks(), washout=5)
    whole = reservoir.fit(cell, params, xs, targets, washout=5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), streamed, whole)


def test_readout_keeps_its_digits_where_squaring_loses_them():
    """Features whose normal equations are singular in float64, two chunks of a stream, float32 reservoir."""
    tiny = 1e-9
    base = RNG.normal(size=(400, 1))
    hs = np.concatenate([base, base + tiny * RNG.normal(size=(400, 1))], -1)
    targets = (hs[:, :1] - hs[:, 1:]) / tiny
    copy = sj.Cell(lambda key: (), lambda p, s=(), *, key=None: jnp.zeros((*s, 1)), lambda p, s, x: (s, x))
    chunks = [(hs[:150], targets[:150], None), (hs[150:], targets[150:], None)]
    fitted = reservoir.fit_stream(copy, (), chunks, washout=0, ridge=1e-24)
    recalled = hs @ np.asarray(fitted.readout.w_h + fitted.readout.w_x) + np.asarray(fitted.readout.b)
    np.testing.assert_allclose(recalled, targets, atol=1e-4)


def test_free_run(make, params):
    """Equal to a loop that feeds the readout back, with and without a driving input; differentiable."""
    cell = make()
    readout = reservoir.Readout(jnp.array(RNG.normal(size=(12, 1))), jnp.array(RNG.normal(size=(2, 1))), jnp.ones(1))
    drive = RNG.normal(size=(8, B, 1))
    start, y = cell.initial_state(params, (B,)), RNG.normal(size=(B, 1))
    state, ys = reservoir.free_run(cell, params, readout, start, y, 8, drive=drive)
    h, out = start, y
    for u, found in zip(drive, ys):
        x = np.concatenate([u, out], -1)
        h, _ = cell.step(params, h, x)
        out = np.asarray(h) @ np.asarray(readout.w_h) + x @ np.asarray(readout.w_x) + 1
        np.testing.assert_allclose(found, out, **TIGHT)
    np.testing.assert_allclose(state, h, **TIGHT)
    alone = readout._replace(w_h=jnp.array(RNG.normal(size=(12, 2))), w_x=jnp.eye(2), b=jnp.zeros(2))
    run = lambda r: reservoir.free_run(cell, params, r, start[0], jnp.ones(2), 5)[1].sum()
    check_grads(run, (alone,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_feedback_under_a_teacher_then_alone():
    """A driven oscillator, y_t = 1.6 y_{t-1} - .8 y_{t-2} + .3 u_t, learned from u and its own past, then free."""
    u = RNG.uniform(-0.5, 0.5, size=(900, 1))
    y = np.zeros((900, 1))
    for t in range(2, 900):
        y[t] = 1.6 * y[t - 1] - 0.8 * y[t - 2] + 0.3 * u[t]
    cell = sj.echo_state(2, 60, input_scale=0.2, radius=0.5)
    params = cell.init(jax.random.key(0))
    xs = np.concatenate([u[1:], y[:-1]], 1)
    fitted = reservoir.fit(cell, params, jnp.array(xs[:700]), y[1:701], washout=50)
    _, ys = reservoir.free_run(cell, params, fitted.readout, fitted.state, y[700], 199, drive=u[701:])
    assert np.mean((np.asarray(ys) - y[701:]) ** 2) < 1e-3 * y.var()


def linear_cell(w_x, w_h):
    """h' = x W + h U, whose memory is known."""
    zero = lambda params, shape=(), *, key=None: jnp.zeros((*shape, len(w_h)))
    step = lambda params, h, x: (x @ params[0] + h @ params[1],) * 2
    return sj.Cell(lambda key: (), zero, step), (jnp.array(w_x), jnp.array(w_h))


def test_memory_capacity_of_known_memories():
    """A delay line of 5 recalls delays 1 to 4 wholly and none beyond; a linear reservoir of 8 sums to 8."""
    cell, params = linear_cell(np.eye(1, 5), np.eye(5, k=1))
    capacity = reservoir.memory_capacity(cell, params, jax.random.key(0), delays=7, length=500, washout=50)
    np.testing.assert_allclose(capacity[:4], 1, atol=1e-6)
    assert (capacity[4:] < 0.03).all()
    u = RNG.normal(size=(8, 8))
    cell, params = linear_cell(RNG.normal(size=(1, 8)), 0.9 * u / np.abs(np.linalg.eigvals(u)).max())
    capacity = reservoir.memory_capacity(
        cell, params, jax.random.key(1), delays=200, length=3000, washout=200, ridge=1e-14
    )
    # the readout sees the input of delay 0 by itself, which is one of the eight
    assert 6.9 < capacity.sum() < 8.2


@pytest.mark.slow
def test_forgetting():
    """A cell that halves its state forgets ln 2 a tick; a reservoir with a bound on its norm at least that fast."""
    cell, params = linear_cell(np.ones((1, 3)), 0.5 * np.eye(3))
    found = reservoir.forgetting(cell, params, RNG.normal(size=(30, 2, 1)), jax.random.key(0))
    halves = 0.5 ** np.arange(1, 31)[:, None] * np.ones(2)
    np.testing.assert_allclose(found.distance, halves, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.rate, np.log(0.5), rtol=1e-9)
    cell = sj.echo_state(1, 20, leak=0.5, radius=0.4)
    params = cell.init(jax.random.key(0))
    norm = reservoir.bounds(params.w_h, 0.5).norm
    assert norm < 1
    found = reservoir.forgetting(cell, params, RNG.normal(size=(80, 1)), jax.random.key(1))
    assert found.rate.shape == ()
    assert found.rate < np.log(norm)
    wild = sj.echo_state(1, 20, radius=3.0, bias_scale=0.0)
    chaos = reservoir.forgetting(wild, wild.init(jax.random.key(0)), np.zeros((300, 1)), jax.random.key(1))
    assert chaos.distance[-1] > 0.01
    assert chaos.rate > -0.02


def test_bounds():
    u = RNG.normal(size=(6, 6))
    leaky = 0.7 * np.eye(6) + 0.3 * u
    found = reservoir.bounds(jnp.array(u), 0.3)
    np.testing.assert_allclose(found.norm, np.linalg.svd(leaky)[1].max(), **TIGHT)
    np.testing.assert_allclose(found.radius, np.abs(np.linalg.eigvals(leaky)).max(), **TIGHT)


def mackey_glass_error(series, make, seed, units):
    """Mean squared error over 500 free steps after 2,000 of training, in float32 as users run it."""
    cell = make(1, units, leak=0.3, radius=1.25, dtype=jnp.float32)
    params = cell.init(jax.random.key(seed))
    xs = jnp.array(series[:2501, None], jnp.float32)
    fitted = reservoir.fit(cell, params, xs[:2000], xs[1:2001], ridge=1e-8)
    _, ys = reservoir.free_run(cell, params, fitted.readout, fitted.state, xs[2000], 500)
    return float(np.mean((np.asarray(ys[:, 0]) - series[2001:2501]) ** 2))


@pytest.mark.parametrize("make", [sj.echo_state, sj.sparse_echo_state], ids=["dense", "sparse"])
@pytest.mark.shared_data
@pytest.mark.learning
def test_mackey_glass(shared_data, make):
    """1,000 units, leak .3, radius 1.25, ridge 1e-8: median over five seeds of at most 2e-5."""
    series = tasks.read_series(shared_data / "mackey_glass" / "MackeyGlass_t17.txt")[:, 0]
    errors = [mackey_glass_error(series, make, seed, 1000) for seed in range(5)]
    print(f"mean squared errors {errors}, median {np.median(errors):.2e}")
    assert np.median(errors) <= 2e-5


@pytest.mark.slow
def test_mackey_glass_generated():
    """300 units on the series generated here, whose variance of .05 is what guessing its mean would cost."""
    series = np.tanh(tasks.mackey_glass(2600) - 1)
    assert mackey_glass_error(series, sj.sparse_echo_state, 1, 300) < 1e-3


def test_no_compilation_on_a_second_call():
    cell = sj.echo_state(1, 10)
    params = cell.init(jax.random.key(0))
    xs = jnp.ones((20, 1))
    readout = reservoir.fit(cell, params, xs, xs, washout=3, ridge=1.0).readout
    first = reservoir.free_run(cell, params, readout, cell.initial_state(params), xs[0], 5)
    count = []
    jax.monitoring.register_event_duration_secs_listener(
        listener := lambda event, *_, **__: count.append(event) if "backend_compile" in event else None
    )
    again = reservoir.free_run(cell, params, readout, cell.initial_state(params), xs[0], 5)
    jax.monitoring.unregister_event_duration_listener(listener)
    assert not count
    np.testing.assert_array_equal(first[1], again[1])


CELL = sj.echo_state(1, 5)
ERRORS = {
    "leak": (lambda: sj.echo_state(1, 5, leak=0), "echo_state: expected a leak above 0 and up to 1, got 0"),
    "radius": (
        lambda: sj.sparse_echo_state(1, 50, radius=-1),
        "sparse_echo_state: expected a positive spectral radius",
    ),
    "scales": (lambda: sj.echo_state(3, 5, input_scale=(1.0, 2.0)), "expected one input scale or 3 of them, got 2"),
    "connections": (
        lambda: sj.sparse_echo_state(1, 5, connections=6),
        "sparse_echo_state: expected at most 5 connections a unit, got 6",
    ),
    "density": (lambda: sj.echo_state(1, 5, density=0.0), r"expected a density in \(0, 1\]"),
    "targets": (
        lambda: reservoir.fit(CELL, CELL.init(jax.random.key(0)), np.ones((9, 1)), np.ones((8, 1))),
        r"fit: expected targets \[9, k\] like the inputs, got shape \(8, 1\)",
    ),
    "washout": (
        lambda: reservoir.fit(CELL, CELL.init(jax.random.key(0)), np.ones((9, 1)), np.ones((9, 1))),
        "fit: expected data after the washout of 100 ticks, got 9 ticks with 0 rows left",
    ),
    "ridge": (
        lambda: reservoir.fit(CELL, CELL.init(jax.random.key(0)), np.ones((9, 1)), np.ones((9, 1)), ridge=-1.0),
        "fit: expected washout and ridge of at least 0",
    ),
    "dependent": (
        lambda: reservoir.fit(
            CELL, CELL.init(jax.random.key(0)), np.ones((9, 1)), np.ones((9, 1)), washout=0, ridge=0.0
        ),
        "fit: expected more ridge or more data, got features that depend on each other in 9 rows",
    ),
    "not finite": (
        lambda: reservoir.fit(
            CELL, CELL.init(jax.random.key(0)), np.ones((9, 1)), np.array([[1.0]] * 8 + [[np.nan]]), washout=0, chunk=4
        ),
        "fit: expected finite states, inputs and targets, got NaN or infinity in the 1 ticks from tick 8 on. Mask",
    ),
    "stream": (
        lambda: reservoir.fit_stream(
            CELL, CELL.init(jax.random.key(0)), [(np.ones((9, 1)), np.ones((4, 1)), None)], washout=0
        ),
        r"fit: expected targets \[9, k\] like the inputs, got shape \(4, 1\)",
    ),
    "bounds": (
        lambda: reservoir.bounds(sj.sparse_echo_state(1, 50).init(jax.random.key(0)).w_h),
        r"bounds: expected square weights \[h, h\], got shape \(10, 50\). Of a sparse reservoir pass dense",
    ),
    "drive": (
        lambda: reservoir.free_run(CELL, (), None, jnp.zeros(5), jnp.zeros(1), 3, drive=np.ones((2, 1))),
        "free_run: expected drive of 3 ticks",
    ),
    "delays": (
        lambda: reservoir.memory_capacity(CELL, (), jax.random.key(0), delays=300),
        "memory_capacity: expected a washout of at least 300 ticks",
    ),
    "inputs": (
        lambda: sj.unroll(CELL, CELL.init(jax.random.key(0)), jnp.zeros(5), jnp.ones((3, 2))),
        "echo_state: expected inputs of size 1, got 2",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_init_says_that_it_cannot_be_traced():
    with pytest.raises(TypeError, match="echo_state: expected init to run outside jit and vmap"):
        jax.jit(CELL.init)(jax.random.key(0))
