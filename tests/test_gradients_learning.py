"""Clipping inside time, Hessian-free learning and the small experiments."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import B, T, at, state_of
from zoo import D, H, drawn

import seqjax as sj
from seqjax import gradients

XS = jax.random.normal(jax.random.key(3), (T, B, D))
MASK = sj.masks.from_lengths(jnp.array([7, 4, 0]), T)
LSTM = sj.lstm(D, H)
PARAMS = drawn(LSTM)
STATE = state_of(LSTM, PARAMS)
WEIGHTS = jax.random.normal(jax.random.key(5), (T, B, H))


def by_loop(clip):
    """The clipped gradient of Σ w ⊙ y, tick by tick with jax.vjp; and the sizes before clipping."""
    total = jax.tree.map(jnp.zeros_like, PARAMS)
    sizes = np.zeros((T, B))
    for b, length in enumerate((7, 4)):
        state, pulls = at(STATE, b), []
        for t in range(length):
            (state, _), pull = jax.vjp(lambda p, s, x: LSTM.step(p, s, x), PARAMS, state, XS[t, b])
            pulls.append(pull)
        bar = jax.tree.map(jnp.zeros_like, state)
        for t in reversed(range(length)):
            gradient, bar, _ = pulls[t]((bar, WEIGHTS[t, b]))
            sizes[t, b] = np.linalg.norm(np.concatenate(bar))
            bar = clip(bar)
            total = jax.tree.map(jnp.add, total, gradient)
    return total, sizes


def run(cell, engine):
    def loss(params, z):
        return (sj.unroll(cell, params, STATE, (XS, z), mask=MASK, engine=engine)[1] * WEIGHTS).sum()

    return jax.grad(loss, argnums=(0, 1))(PARAMS, jnp.zeros((T, B)))


def by_norm(bar):
    norm = np.linalg.norm(np.concatenate(bar))
    return jax.tree.map(lambda s: s * min(1.0, 0.7 / norm), bar)


@pytest.mark.parametrize("engine", ["scan", "split"])
def test_clipping_inside_time_equals_the_loop(engine):
    watched = gradients.watch_state_gradient(LSTM)
    found, sizes = run(gradients.clip_state_gradient(watched, 0.7), engine)
    expected, before = by_loop(by_norm)
    chex.assert_trees_all_close(found, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(sizes, before, rtol=1e-11, atol=1e-13)
    statistics = gradients.clip_statistics(sizes, 0.7, MASK)
    real = before[np.asarray(MASK)]
    assert 0 < statistics.rate < 1
    np.testing.assert_allclose(statistics, [(real > 0.7).mean(), real.mean(), real.max()], rtol=1e-11)

    found, sizes = run(gradients.clip_state_gradient(watched, 0.2, by="value"), engine)
    expected, _ = by_loop(lambda bar: jax.tree.map(lambda s: jnp.clip(s, -0.2, 0.2), bar))
    chex.assert_trees_all_close(found, expected, rtol=1e-11, atol=1e-13)


def test_what_is_not_above_the_threshold_is_left_to_the_bit():
    watched = gradients.watch_state_gradient(LSTM)
    plain, _ = run(watched, "scan")
    for by in ("norm", "value"):
        found, _ = run(gradients.clip_state_gradient(watched, 1e3, by=by), "scan")
        chex.assert_trees_all_equal(found, plain)
    sizes = run(gradients.watch_state_gradient(gradients.clip_state_gradient(LSTM, 0.1)), "scan")[1]
    np.testing.assert_allclose(sizes.max(), 0.1, rtol=1e-12)
    sizes = run(
        gradients.watch_state_gradient(gradients.clip_state_gradient(LSTM, 0.1, by="value"), by="value"), "scan"
    )
    np.testing.assert_allclose(sizes[1].max(), 0.1, rtol=1e-12)


def test_both_clippings_compose_in_a_training_step():
    cell = gradients.clip_state_gradient(LSTM, 0.1)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(1.0))
    model = sj.recurrent(cell, engine="split")
    step = sj.train_step(sj.objective(model, sj.mean_squared_error), optimizer, divide_by=1.0)
    train, _, metrics = step(sj.train_state(PARAMS, optimizer), STATE, sj.Batch(XS, WEIGHTS, MASK))
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, train.params, PARAMS))
    np.testing.assert_allclose(moved, 0.5, rtol=1e-9)
    assert metrics.gradient_norm > 0.5


def test_clipping_errors():
    with pytest.raises(ValueError, match="clip_state_gradient: expected a threshold above 0"):
        gradients.clip_state_gradient(LSTM, 0.0)
    with pytest.raises(ValueError, match="clip_state_gradient: expected by to be one of 'norm', 'value'"):
        gradients.clip_state_gradient(LSTM, 1.0, by="l1")
    with pytest.raises(ValueError, match="watch_state_gradient: expected by"):
        gradients.watch_state_gradient(LSTM, by="l1")
    with pytest.raises(ValueError, match="clip_statistics: expected a threshold above 0"):
        gradients.clip_statistics(jnp.ones((T, B)), 0.0)
    with pytest.raises(ValueError, match="clip_statistics: expected mask of shape"):
        gradients.clip_statistics(jnp.ones((T, B)), 1.0, MASK[:, 0])


# ---- Hessian-free


def small(engine="auto", memory="auto"):
    cell = sj.elman(2, 3)
    params = drawn(cell)
    xs = jax.random.normal(jax.random.key(4), (10, 2, 2))

    def outputs(params):
        return sj.unroll(cell, params, cell.initial_state(params, (2,)), xs, engine=engine, memory=memory)[1]

    return params, outputs


def softmax(z):
    return -jax.nn.log_softmax(z)[..., 0].sum()


@pytest.fixture(scope="module")
def explicit():
    """Jᵀ H J, from the Jacobian of the outputs and the Hessian of the loss by them."""
    params, outputs = small("scan")
    flat, restore = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def matrix(flat):
        z = lambda v: outputs(restore(v)).reshape(-1)
        jacobian = jax.jacrev(z)(flat)
        return jacobian.T @ jax.hessian(lambda z: softmax(z.reshape(10, 2, 3)))(z(flat)) @ jacobian

    return np.asarray(matrix(flat))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "memory"),
    [("scan", "all"), ("scan", "sqrt"), ("split", "all"), ("split", "carries"), ("split", "log"), ("split", 4)],
)
def test_the_gauss_newton_product_is_that_of_the_explicit_matrix(explicit, engine, memory):
    params, outputs = small(engine, memory)
    flat, restore = jax.flatten_util.ravel_pytree(params)
    v = jax.random.normal(jax.random.key(9), flat.shape)
    found = gradients.gauss_newton_product(outputs, softmax, params)(restore(v))
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found)[0], explicit @ v, rtol=1e-9)


@pytest.mark.slow
def test_a_hessian_free_step_solves_the_damped_equations():
    params, outputs = small("scan")
    flat, restore = jax.flatten_util.ravel_pytree(params)
    z = lambda v: outputs(restore(v)).reshape(-1)
    loss = lambda v: softmax(z(v).reshape(10, 2, 3))
    jacobian = jax.jacrev(z)(flat)
    hessian = jax.hessian(lambda z: softmax(z.reshape(10, 2, 3)))(z(flat))
    gauss_newton = jacobian.T @ hessian @ jacobian
    matrix = gauss_newton + 2.0 * jnp.eye(flat.size) + 2.0 * 0.3 * jacobian.T @ jacobian
    delta = -jnp.linalg.solve(matrix, jax.grad(loss)(flat))
    new, state, info = gradients.hessian_free_step(
        lambda p: (outputs(p), outputs(p)), softmax, params, gradients.hessian_free(params, damping=2.0),
        structural=0.3, iterations=200, tolerance=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(new)[0], flat + delta, rtol=1e-7)
    promised = jax.grad(loss)(flat) @ delta + delta @ gauss_newton @ delta / 2
    np.testing.assert_allclose(info.reduction_ratio, (loss(flat + delta) - loss(flat)) / promised, rtol=1e-6)
    assert info.accepted
    factor = 2 / 3 if info.reduction_ratio > 0.75 else 1.5 if info.reduction_ratio < 0.25 else 1
    np.testing.assert_allclose(state.damping, 2 * factor)


def test_curvature_of_a_part_bends_the_gradient_of_the_whole_batch():
    """∇L and ρ of six examples, G and S of two others with a loss of their own: beside a dense solve."""
    rng = np.random.default_rng(0)
    params, xs, others = (jnp.array(rng.normal(size=size)) for size in ((3, 2), (6, 3), (2, 3)))
    outputs = lambda xs: lambda w: (2 * jnp.tanh(xs @ w), jnp.sin(xs @ w))
    loss = lambda z: jnp.log(jnp.cosh(z - 0.5)).mean()
    loss_of_part = lambda z: 3 * jnp.log(jnp.cosh(z - 0.1)).mean()
    part = outputs(others), loss_of_part

    @jax.jit
    def step(params, state):
        options = {"curvature": part, "structural": 0.7, "iterations": 50, "tolerance": 1e-12}
        return sj.curvature.hessian_free_step(outputs(xs), loss, params, state, **options)

    @jax.jit
    def solved(flat):
        z, s = (lambda w, i=i: part[0](w.reshape(3, 2))[i].ravel() for i in (0, 1))
        of_z, of_s = jax.jacfwd(z)(flat), jax.jacfwd(s)(flat)
        gauss_newton = of_z.T @ jax.hessian(loss_of_part)(z(flat)) @ of_z
        whole = lambda w: loss(outputs(xs)(w.reshape(3, 2))[0])
        gradient = jax.grad(whole)(flat)
        delta = -jnp.linalg.solve(gauss_newton + 0.4 * jnp.eye(6) + 0.4 * 0.7 * of_s.T @ of_s, gradient)
        promised = gradient @ delta + delta @ gauss_newton @ delta / 2
        return delta, whole(flat), whole(flat + delta), promised

    new, state, info = step(params, sj.curvature.hessian_free(params, damping=0.4))
    delta, before, after, promised = solved(params.ravel())
    np.testing.assert_allclose(new.ravel(), params.ravel() + delta, rtol=1e-9)
    np.testing.assert_allclose(state.direction.ravel(), delta, rtol=1e-8)
    np.testing.assert_allclose((info.loss, info.new_loss), (before, after), rtol=1e-12)
    np.testing.assert_allclose(info.reduction_ratio, (after - before) / promised, rtol=1e-8)


def test_a_step_that_does_not_lower_the_loss_is_refused():
    # The model of z = |w| promises a fall of ½ from w = 1 at a damping near 0; the target -1 is out of reach.
    loss = lambda z: jnp.log(jnp.cosh(50 * (z - 0.9))).sum()
    params = jnp.array([1.0])
    new, state, info = gradients.hessian_free_step(
        lambda w: (w, ()), loss, params, gradients.hessian_free(params, damping=1e-9)
    )
    assert not info.accepted
    np.testing.assert_array_equal(new, params)
    np.testing.assert_array_equal(state.direction, 0)
    np.testing.assert_allclose(state.damping, 1.5e-9)


def test_hessian_free_errors():
    with pytest.raises(ValueError, match="hessian_free: expected damping above 0"):
        gradients.hessian_free((), damping=0)
    with pytest.raises(ValueError, match="hessian_free_step: expected structural of at least 0"):
        gradients.hessian_free_step(
            lambda w: (w, ()), jnp.sum, jnp.ones(1), gradients.hessian_free(jnp.ones(1)), structural=-1
        )


# ---- products, maps, the cliff


@pytest.mark.parametrize(("scale", "moment"), [(0.9, 0.1216), (1.0, 1.0), (1.1, 6.73)])
def test_products_of_random_factors(scale, moment):
    found = gradients.random_products(jax.random.key(0), scale, 10, 100_000)
    np.testing.assert_allclose(found.expected_second_moment, moment, rtol=1e-3)
    np.testing.assert_allclose(found.mean_log, np.log(scale) - 0.635, atol=3e-3)
    np.testing.assert_allclose(np.log(found.typical), 10 * (np.log(scale) - 0.635), atol=0.8)
    few = gradients.random_products(jax.random.key(0), scale, 2, 100_000)
    np.testing.assert_allclose(few.second_moment, scale**4, rtol=0.1)


def test_periods_of_the_logistic_map():
    rates = jnp.array([2.8, 3.2, 3.5, 3.55, 3.9])
    orbit = gradients.bifurcation(rates)
    np.testing.assert_array_equal(gradients.period(orbit), [1, 2, 4, 8, 0])
    np.testing.assert_allclose(orbit[0, 0], 1 - 1 / 2.8, rtol=1e-9)


def test_gradients_are_large_on_the_boundary_of_basins_and_vanish_inside():
    # Two units that hold themselves: fixed points at ±a in each, boundaries on the axes.
    cell = sj.elman(1, 2)
    params = sj.ElmanParams(jnp.zeros((1, 2)), jnp.diag(jnp.array([2.0, 2.0])), jnp.zeros(2))
    states = jnp.array([[0.5, 0.5], [-0.5, 0.5], [1e-6, 0.5], [1e-6, 1e-6]])
    found = gradients.basins(cell, params, states, jnp.zeros(1), 12)
    a = 0.95750402
    np.testing.assert_allclose(found.end[:2], [[a, a], [-a, a]], atol=1e-4)
    end = lambda s: sj.unroll(cell, params, s, jnp.zeros((12, 1)), engine="scan")[0]
    expected = [np.log(np.linalg.norm(jax.jacrev(end)(s), 2)) for s in states]
    np.testing.assert_allclose(found.log_gradient, expected, rtol=1e-9)
    assert found.log_gradient[0] < -10
    assert found.log_gradient[3] > 8


def test_clipping_keeps_the_path_at_the_cliff():
    w, b = np.meshgrid(np.linspace(4, 8, 5), np.linspace(-4, -2, 3))

    def by_hand(w, b):
        h = 0.5
        for _ in range(50):
            h = 1 / (1 + np.exp(-(w * h + b)))
        return (h - 0.7) ** 2

    surface = gradients.cliff_loss(gradients.Point(jnp.asarray(w), jnp.asarray(b)))
    np.testing.assert_allclose(surface, by_hand(w, b), rtol=1e-9)

    # On the wall one plain step leaves the picture, for good: σ is 1 there and has no slope. A clipped step is no
    # longer than rate · η.
    start = gradients.Point(5.0, -2.5)
    plain, losses = gradients.cliff_descent(start, 0.5, 10)
    clipped, clipped_losses = gradients.cliff_descent(start, 0.5, 10, clip=0.1)
    moved = lambda path: np.hypot(np.diff(path.w), np.diff(path.b))
    assert moved(plain)[0] > 1000
    np.testing.assert_allclose(losses, [0.04, *[0.09] * 10], rtol=1e-6)
    assert moved(clipped).max() < 0.05 + 1e-12
    np.testing.assert_allclose(clipped_losses, [by_hand(*point) for point in zip(*clipped)], rtol=1e-6)
    assert clipped_losses.min() < 0.03


@pytest.mark.parametrize("residual", [False, True])
def test_jacobians_through_depth_are_explicit_products(residual):
    first, rest = jax.random.split(jax.random.key(0))
    x = np.asarray(jax.random.normal(first, (4,)))
    product = np.eye(4)
    found = gradients.depth_stretch(jax.random.key(0), 4, 6, scale=0.8, residual=residual)
    for layer, key in zip(found, jax.random.split(rest, 6)):
        w = np.asarray(jax.random.normal(key, (4, 4))) * 0.8 / 2
        y = np.tanh(x @ w)
        product = (residual * np.eye(4) + (w * (1 - y**2)).T) @ product
        x = y + residual * x
        np.testing.assert_allclose(layer, np.log(np.linalg.svd(product, compute_uv=False)), rtol=1e-8)


def test_experiment_errors():
    with pytest.raises(ValueError, match="random_products: expected a scale above 0"):
        gradients.random_products(jax.random.key(0), 0.0, 2, 2)
    with pytest.raises(ValueError, match="depth_stretch: expected a scale above 0"):
        gradients.depth_stretch(jax.random.key(0), 2, 2, scale=0.0)
    with pytest.raises(ValueError, match="period: expected half to be a whole number of at least 1"):
        gradients.period(jnp.ones(1))


@pytest.mark.learning
def test_a_tanh_network_learns_the_latch_less_often_the_longer_it_is_and_an_lstm_more_often():
    adam = optax.adam(0.02)

    def probability(cell, length):
        return gradients.latch_probability(
            cell, 4, jax.random.key(0), length, optimizer=adam, runs=48, steps=500, noise=0.5
        )

    tanh, lstm = sj.elman(1, 4), sj.lstm(1, 4, b_init=sj.initializers.forget_bias(5.0))
    assert probability(tanh, 5) > 0.9
    assert probability(tanh, 60) < 0.35
    assert probability(lstm, 60) > 0.5


@pytest.mark.learning
@pytest.mark.parametrize(
    ("problem", "size", "count", "updates"),
    [(sj.tasks.latch(100), 16, 300, 30), (sj.tasks.temporal_order(40), 24, 800, 30)],
    ids=["latch", "temporal order"],
)
def test_hessian_free_learning_remembers_over_long_gaps(problem, size, count, updates):
    rng = np.random.default_rng(0)

    def questions(count):
        xs, targets, mask, _ = problem.draw(rng, count)
        xs = np.eye(problem.input_size)[xs] if xs.ndim == 2 else xs
        return gradients.Questions(jnp.asarray(xs, float), jnp.asarray(targets), jnp.asarray(mask))

    train, test = questions(count), questions(500)
    cell = sj.elman(problem.input_size, size)
    found = gradients.train_recall(
        cell,
        jax.random.key(0),
        train,
        test,
        output_size=size,
        answers=problem.output_size,
        updates=updates,
        iterations=40,
    )
    assert found.loss[-1] < 1e-2
    assert found.score > 0.95
