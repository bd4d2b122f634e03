"""The experiments that learn, and figures: against loops by hand, perfect and absent memories, their own data."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import cells as reference

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

KEY = jax.random.key(7)


def arrays(tree):
    return jax.tree.map(np.asarray, tree)


def start(module, key=KEY):
    """Initial parameters, from one compiled program."""
    return jax.jit(module.init)(key)


def test_jacobians_of_the_step_are_those_of_finite_differences():
    cell = sj.lstm(2, 3)
    params = jax.tree.map(lambda p: jnp.asarray(2 * np.asarray(p)), start(cell))
    xs = np.random.default_rng(1).normal(size=(5, 2))
    mask, reset = jnp.array([1, 1, 0, 1, 1], bool), jnp.array([0, 0, 0, 0, 1], bool)
    found = gradients.step_jacobians(
        cell, params, cell.initial_state(params), xs, range(5), mask=mask, reset=reset, length=5
    )
    p, state = arrays(params), (np.zeros(3), np.zeros(3))
    for t in (0, 1, 3):
        columns = []
        for e in 1e-6 * np.eye(6):
            moved = [(state[0] + s * e[:3], state[1] + s * e[3:]) for s in (1, -1)]
            up, down = (np.concatenate(reference.lstm(p, s, xs[t])[0]) for s in moved)
            columns.append((up - down) / 2e-6)
        np.testing.assert_allclose(found[t], np.stack(columns, 1), atol=1e-8)
        state, _ = reference.lstm(p, state, xs[t])
    np.testing.assert_array_equal(found[2], np.eye(6))
    np.testing.assert_array_equal(found[4], np.zeros((6, 6)))


def test_a_descent_is_the_loop_over_its_updates():
    optimizer = optax.chain(sj.clip_by_global_norm(0.5), optax.adam(0.1))
    data = np.random.default_rng(0).normal(size=(4, 3))
    loss = lambda w, x: (((w - x) ** 2).sum(), x[0])
    run = gradients.descend(loss, jnp.zeros(3), optimizer, jnp.asarray(data))
    w, state = jnp.zeros(3), optimizer.init(jnp.zeros(3))

    @jax.jit
    def update(w, state, gradient):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state)
            return optax.apply_updates(w, updates), state

    for t, x in enumerate(data):
        w, gradient = np.asarray(w), 2 * (np.asarray(w) - x)
        np.testing.assert_allclose(run.loss[t], ((w - x) ** 2).sum(), rtol=1e-12)
        np.testing.assert_allclose(run.gradient_norm[t], np.linalg.norm(gradient), rtol=1e-12)
        w, state = update(w, state, gradient)
    np.testing.assert_allclose(run.params, w, rtol=1e-12)
    np.testing.assert_array_equal(run.report, data[:, 0])


def keeper(keeps):
    """A cell without parameters that keeps its first input for ever, or nothing at all."""

    def initial_state(params, batch_shape=(), *, key=None):
        return jnp.zeros((*batch_shape, 2))

    def step(params, s, x):
        kept = jnp.where(s[..., 1:] == 0, x, s[..., :1]) if keeps else x
        return jnp.concatenate([kept, jnp.ones_like(kept)], -1), kept

    return sj.Cell(lambda key: (), initial_state, step)


@pytest.mark.parametrize("keeps", [True, False])
def test_who_keeps_the_bit_learns_the_latch_and_who_does_not_cannot(keeps):
    found = gradients.latch_probability(
        keeper(keeps), 1, KEY, 6, optimizer=optax.adam(0.1), runs=4, steps=60, batch=16, noise=0.5
    )
    assert found == float(keeps)
    if keeps:
        latch = gradients.train_latch(keeper(True), 1, KEY, 6, optimizer=optax.sgd(0.0), steps=1, batch=1000)
        w, c = latch.params[1]
        expected = np.mean([np.logaddexp(0, -s * (s * w[0, 0] + c[0])) for s in (1.0, -1.0)])
        np.testing.assert_allclose(latch.loss, expected, rtol=0.1)  # classes are drawn, about half and half


def test_attractors_are_counted_and_named():
    ends = jnp.array([[[0.0, 1.0], [5.0, 5.0]], [[5.001, 5.0], [5.0, 4.999]], [[0.002, 1.0], [9.0, 0.0]]])
    found = gradients.attractors(ends, tolerance=0.01)
    np.testing.assert_allclose(found.points, [[5, 5], [0, 1], [9, 0]], atol=0.01)
    np.testing.assert_array_equal(found.index, [[1, 0], [0, 0], [1, 2]])


def elman_by_hand(params, one_hot):
    params = arrays(params)
    h, hs = np.zeros((one_hot.shape[1], params.w_h.shape[0])), []
    for x in one_hot:
        h = np.tanh(x @ params.w_x + h @ params.w_h + params.b)
        hs.append(h)
    return np.stack(hs)


def test_norms_beyond_are_those_of_a_loop_and_the_penalty_is_descended():
    v, cell = 4, sj.elman(4, 5)
    rng = np.random.default_rng(0)
    train, longer = jnp.asarray(rng.integers(0, v, (1, 7, 3))), jnp.asarray(rng.integers(0, v, (20, 2)))
    own, other = jax.random.split(KEY)
    readout = sj.dense(5, v)
    params = start(cell, own), start(readout, other)

    def nats(logits, symbols):
        logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return -np.take_along_axis(logits, np.asarray(symbols)[..., None], -1)[..., 0]

    found = gradients.norms_beyond(cell, 5, KEY, train, longer, symbols=v, beta=3.0, optimizer=optax.sgd(0.5))
    symbols, later = np.asarray(train[0]), np.asarray(longer)
    readout_by_hand = lambda hs, p: hs @ np.asarray(p.w) + np.asarray(p.b)
    hs = elman_by_hand(params[0], np.eye(v)[symbols[:-1]])
    expected = nats(readout_by_hand(hs, params[1]), symbols[1:]).mean()
    np.testing.assert_allclose(found.training_loss, [expected], rtol=1e-9)

    def whole(params):
        h, total, before = jnp.zeros((3, 5)), 0.0, jnp.zeros(3)
        for t in range(6):
            h = jnp.tanh(params[0].w_x[train[0, t]] + h @ params[0].w_h + params[0].b)
            logits = jax.nn.log_softmax(h @ params[1].w + params[1].b)
            norm = jnp.sqrt((h**2).sum(-1))
            total += (3.0 * (norm - before) ** 2 - logits[jnp.arange(3), train[0, t + 1]]).sum()
            before = norm
        return total / 18

    moved = jax.tree.map(lambda p, g: p - 0.5 * g, *arrays((params, jax.jit(jax.grad(whole))(params))))
    hs = elman_by_hand(moved[0], np.eye(v)[later[:-1]])
    np.testing.assert_allclose(found.norm, np.linalg.norm(hs, axis=-1), rtol=1e-9)
    np.testing.assert_allclose(found.loss, nats(readout_by_hand(hs, moved[1]), later[1:]), rtol=1e-9)


@pytest.mark.slow
def test_a_remedy_is_tried_on_the_loss_and_gradients_of_a_loop():
    cell = sj.elman(2, 4)
    rng = np.random.default_rng(0)
    train = rng.normal(size=(1, 5, 3, 2)), rng.normal(size=(1, 3, 1))
    test = rng.normal(size=(5, 2, 2)), rng.normal(size=(2, 1))
    own, other = jax.random.split(KEY)
    params = arrays((start(cell, own), start(sj.dense(4, 1), other)))
    trial = gradients.try_remedy(gradients.Remedy(cell, 4, None, 2.0), KEY, train, test, optax.sgd(0.0))

    # The penalty is descended but not reported.
    answers = elman_by_hand(params[0], train[0][0])[-1] @ params[1].w + params[1].b
    np.testing.assert_allclose(trial.loss, [((answers - train[1][0]) ** 2).mean()], rtol=1e-9)
    hs = elman_by_hand(params[0], test[0])
    error = hs[-1] @ params[1].w + params[1].b - test[1]
    np.testing.assert_allclose(trial.test_error, (error**2).mean(), rtol=1e-9)
    bar = 2 * error @ params[1].w.T
    for t in reversed(range(5)):
        np.testing.assert_allclose(trial.first_gradient[t], np.linalg.norm(bar, axis=-1), rtol=1e-9)
        bar = (bar * (1 - hs[t] ** 2)) @ params[0].w_h.T
    np.testing.assert_array_equal(trial.first_gradient, trial.last_gradient)

    # Without it the loss falls by rate · ‖g‖² an update, and by rate · η ‖g‖ where g is clipped to η.
    twice = tuple(np.concatenate([leaf, leaf]) for leaf in train)
    plain, clipped = (
        gradients.try_remedy(gradients.Remedy(cell, 4, clip), KEY, twice, test, optax.sgd(1e-4))
        for clip in (None, 1e-3)
    )
    norm = plain.gradient_norm[0]
    assert trial.gradient_norm[0] != norm
    np.testing.assert_allclose(plain.loss[0] - plain.loss[1], 1e-4 * norm**2, rtol=1e-2)
    np.testing.assert_allclose(clipped.loss[0] - clipped.loss[1], 1e-4 * 1e-3 * norm, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [True, False])
def test_recall_reads_each_sequence_to_its_end_and_learns_by_the_step_it_is_told(classes):
    cell, rng = sj.elman(2, 3), np.random.default_rng(0)
    lengths = np.array([3, 1, 2, 3])
    mask = np.arange(3)[:, None] < lengths
    xs = np.where(mask[..., None], rng.normal(size=(3, 4, 2)), np.nan)
    targets = np.array([0, 1, 1, 0], np.int32) if classes else rng.normal(size=(4, 2))
    asked = gradients.Questions(*map(jnp.asarray, (xs, targets, mask)))
    own, other = jax.random.split(KEY)
    params = start(cell, own), start(sj.dense(3, 2), other)

    def answers(params):
        params = arrays(params)
        hs = elman_by_hand(params[0], np.nan_to_num(xs))
        return hs[lengths - 1, np.arange(4)] @ params[1].w + params[1].b

    def loss(z):
        if classes:
            return jnp.mean(jax.nn.logsumexp(z, -1) - z[jnp.arange(4), targets.astype(int)])
        return ((z - targets) ** 2).mean()

    def outputs(params):
        h, hs = jnp.zeros((4, 3)), []
        for x in np.nan_to_num(xs):
            h = jnp.tanh(x @ params[0].w_x + h @ params[0].w_h + params[0].b)
            hs.append(h)
        # Of padding, outputs are zero: structural damping does not see it.
        hs = jnp.where(mask[..., None], jnp.stack(hs), 0)
        return hs[lengths - 1, jnp.arange(4)] @ params[1].w + params[1].b, hs

    options = {"output_size": 3, "answers": 2, "updates": 1}
    still = gradients.train_recall(cell, KEY, asked, asked, **options, optimizer=optax.sgd(0.0))
    z = answers(params)
    np.testing.assert_allclose(still.loss, [loss(z)], rtol=1e-9)
    expected = (np.asarray(z).argmax(1) == targets).mean() if classes else ((z - targets) ** 2).mean()
    np.testing.assert_allclose(still.score, expected, rtol=1e-9)

    if not classes:
        return
    state = gradients.hessian_free(params, damping=0.7)
    new, _, info = jax.jit(
        lambda: gradients.hessian_free_step(outputs, loss, params, state, structural=0.2, iterations=4)
    )()
    found = gradients.train_recall(
        cell, KEY, asked, asked, **options, damping=0.7, structural=0.2, iterations=4, engine="scan"
    )
    assert info.accepted
    chex.assert_trees_all_close(found.params, new, rtol=1e-6, atol=1e-9)


def test_remedies_are_what_they_are_called():
    found = gradients.remedies(2, 6, reservoir_size=9)
    first, *others = found
    assert found[first].clip is None
    assert all(found[name].clip == 1.0 for name in others)
    irnn = start(found["identity weights, relu"].cell)
    np.testing.assert_array_equal(irnn.w_h, np.eye(6))
    orthogonal = np.asarray(start(found["orthogonal weights"].cell).w_h)
    np.testing.assert_allclose(orthogonal @ orthogonal.T, np.eye(6), atol=1e-12)
    assert found["norm-stabiliser"].stabiliser > 0
    for remedy in found.values():
        params = remedy.cell.init(KEY)
        step = lambda p, cell=remedy.cell: cell.step(p, cell.initial_state(p), jnp.ones(2))
        _, y = jax.eval_shape(step, params)
        assert y.shape == (remedy.output_size,)


def test_experiment_errors():
    remedy = gradients.Remedy(sj.elman(2, 3), 3)
    xs, targets = jnp.zeros((4, 5, 3, 2)), jnp.zeros((4, 2, 1))
    asked = gradients.Questions(xs[0], targets[0])
    with pytest.raises(ValueError, match="train_recall: expected training targets of shape \\(3,\\) like the inputs"):
        gradients.train_recall(sj.elman(2, 3), KEY, asked, asked, output_size=3, answers=1, updates=1)
    with pytest.raises(ValueError, match="try_remedy: expected training targets of shape \\(4, 3\\) like inputs"):
        gradients.try_remedy(remedy, KEY, (xs, targets), (xs[0], targets[0]), optax.sgd(0.1))
    with pytest.raises(ValueError, match="try_remedy: expected test targets of shape \\(3,\\) like inputs"):
        gradients.try_remedy(remedy, KEY, (xs, jnp.zeros((4, 3, 1))), (xs[0], targets[0]), optax.sgd(0.1))
    with pytest.raises(TypeError, match="norms_beyond: expected integers"):
        gradients.norms_beyond(
            sj.elman(2, 3), 3, KEY, xs, xs, symbols=2, beta=0.0, optimizer=optax.sgd(0.1)
        )  # fmt: skip


# ---- figures


def lines(panel):
    return [(line.get_label(), np.asarray(line.get_ydata(), float)) for line in panel.lines]


def reports():
    cell = sj.elman(1, 2)
    params = start(cell)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 1)))
    state = cell.initial_state(params, (3,))
    return {"Elman": gradients.flow(cell, params, state, xs, lambda ys: ys[-1].sum(), probes=2)}


def test_lines_are_the_numbers_given():
    factors = {"w = 2": gradients.scalar_chain(2.0, 5), "w = -1/2": gradients.scalar_chain(-0.5, 5)}
    panel = figures.chains(factors).axes[0]
    np.testing.assert_allclose(lines(panel)[1][1], 0.5 ** np.arange(6.0))

    norms = np.arange(1.0, 13.0).reshape(4, 3)
    panel = figures.distance({"a": norms}).axes[0]
    np.testing.assert_allclose(lines(panel)[0][1], [11, 8, 5, 2])

    report = reports()
    left, right = figures.flow(report).axes
    medians = np.median(np.asarray(report["Elman"].loss_gradient)[::-1], 1)
    np.testing.assert_allclose(lines(left)[0][1], medians, rtol=1e-12)
    assert lines(right)[0][1][0] == 1

    logs = np.log([[4.0, 2.0, 1.0], [8.0, 4.0, 0.1]])
    panel = figures.depth({"plain": logs, "residual": logs}).axes[1]
    np.testing.assert_allclose([line for _, line in lines(panel)[:3]], np.log10([[4, 8], [2, 4], [1, 0.1]]))

    panel = figures.latch([5, 50], {"tanh": [1.0, 0.1]}).axes[0]
    np.testing.assert_array_equal(lines(panel)[0][1], [1, 0.1])

    found = {1.0: [gradients.random_products(KEY, 1.0, t, 100) for t in (1, 10)]}
    _, right = figures.products([1, 10], found).axes
    np.testing.assert_allclose(lines(right)[0][1], np.exp(-0.635 * np.array([1, 10])), rtol=2e-3)
    np.testing.assert_allclose(lines(right)[1][1], [float(p.typical) for p in found[1.0]])


def test_learning_curves_and_norms_are_averaged():
    trial = lambda level: gradients.Trial(
        level * jnp.arange(1.0, 7.0), jnp.ones(6), jnp.array(0.5), jnp.array([[1e-3], [1.0]]), jnp.array([[0.1], [1.0]])
    )
    trials = {"plain": trial(1.0), "better": trial(0.5)}
    panel = figures.remedies(trials, 1 / 6, smooth=3).axes[0]
    np.testing.assert_allclose([line for _, line in lines(panel)[:2]], [[2, 5], [1, 2.5]])
    assert panel.get_title(loc="left") == "better: 0.5000"
    assert figures.table(trials).splitlines()[2] == "| plain | 0.5000 | 1 | 1.0e-03 | 1.0e-01 |"

    run = gradients.Recall((), jnp.array([1.0, 0.1, 0.01]), jnp.array(1.0))
    panel = figures.recall({"order": {"Hessian-free": (run, 40)}}).axes[0]
    np.testing.assert_allclose(panel.lines[0].get_xydata(), [[0, 1], [40, 0.1], [80, 0.01]])

    run = gradients.Norms(jnp.array([[1.0, 3.0], [2.0, 6.0]]), jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.zeros(1))
    left, right = figures.norms({"β = 0": run}, 1).axes
    np.testing.assert_allclose(lines(left)[0][1], [2, 4])
    np.testing.assert_allclose(lines(right)[0][1], [1.5, 4])


def test_planes_show_what_they_are_given():
    rates = jnp.linspace(3.0, 4.0, 5)
    orbit = gradients.bifurcation(rates, skip=10, keep=4)
    upper, lower = figures.bifurcation(rates, orbit, jnp.array([-1.0, -0.5, 0.1, -0.2, 0.6])).axes
    np.testing.assert_allclose(upper.collections[0].get_offsets()[:, 1], np.asarray(orbit).ravel())
    np.testing.assert_allclose(lines(lower)[2][1], [np.nan, np.nan, 0.1, np.nan, 0.6])

    cell = sj.elman(1, 2)
    params = sj.ElmanParams(jnp.zeros((1, 2)), jnp.diag(jnp.array([2.0, 2.0])), jnp.zeros(2))
    grid = jnp.array([-0.5, 0.4, 0.6])
    found = gradients.basins(cell, params, jnp.stack(jnp.meshgrid(grid, grid), -1), jnp.zeros(1), 40)
    ends = gradients.attractors(found.end)
    figure = figures.basins(grid, grid, {40: found}, ends)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), ends.index)
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), found.log_gradient / np.log(10))
    points = [line.get_xydata()[0] for line in figure.axes[0].lines]
    np.testing.assert_allclose(points, 0.9575 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]), atol=1e-3)

    grid = gradients.Point(*jnp.meshgrid(jnp.linspace(4, 5, 5), jnp.linspace(-3, -2, 4)))
    surface = gradients.cliff_loss(grid, length=5)
    out = gradients.Point(jnp.array([4.5, 4.6, 40.0]), jnp.array([-2.5, -2.4, 3.0]))
    plane = figures.cliff(grid, surface, {"plain": (out, jnp.zeros(3))}).axes[1]
    np.testing.assert_allclose([plane.get_xlim(), plane.get_ylim()], [(4, 5), (-3, -2)])
    np.testing.assert_allclose(lines(plane)[0][1], [-2.5, -2.4])  # the rest is an arrow
    assert len(plane.texts) == 1

    values = {"f": np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]), "c": np.array([[-1.0], [0.0], [1.0]])}
    upper, lower = figures.gates(values, ["The", "cats", "were"], {"f": [1, 0]}).axes[:2]
    np.testing.assert_array_equal(upper.images[0].get_array(), values["f"].T[::-1])
    assert [tick.get_text() for tick in lower.get_xticklabels()] == ["The", "cats", "were"]
    assert [tick.get_text() for tick in upper.get_yticklabels()] == ["1", "0"]
    assert lower.images[0].get_clim() == (-1, 1)
    with pytest.raises(ValueError, match="gates: expected 'f' of shape \\(2,\\) like the symbols, got \\(3,\\)"):
        figures.gates(values, ["The", "cats"])
