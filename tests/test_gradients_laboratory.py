"""What the laboratory of gradients says, held against fractions, enumeration, other people's formulas and loops."""

import fractions
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from marks import quick
from test_gradients_experiments import KEY, keeper

import seqjax as sj
from seqjax import gradients, hmm
from seqjax.gradients import figures, lessons
from seqjax.recipes.gradients import capacity, gates, latch, maps, shapes, tagger
from seqjax.recipes.language import textbook


def test_iterates_are_those_of_fractions_and_end_in_a_cycle_of_four():
    x, rate, exact = fractions.Fraction(1, 10), fractions.Fraction(7, 2), []
    for _ in range(9):
        exact.append(float(x))
        x = rate * x * (1 - x)
    np.testing.assert_allclose(maps.orbit(3.5, 0.1, 8), exact, rtol=1e-13)

    settled = lessons.bifurcation(jnp.array([3.5]))[:, 0]
    assert lessons.period(settled) == 4
    cycle = np.asarray(settled[:4])
    for x in cycle:  # a root of f⁴(x) = x that is no root of f²(x) = x
        after = maps.orbit(3.5, x, 4)
        np.testing.assert_allclose(after[4], x, atol=1e-12)
        assert abs(after[2] - x) > 0.04
    slope = jax.grad(lambda x: maps.orbit(3.5, x, 4)[4])(jnp.asarray(cycle[0]))
    np.testing.assert_allclose(slope, np.prod(3.5 * (1 - 2 * cycle)), rtol=1e-9)
    assert abs(slope) < 1  # and attracts


def test_the_bias_of_clipping_is_that_of_all_minibatches():
    each = np.array([[9.0, 0.0], [-1.0, 0.5], [-1.0, -2.0]])
    thresholds = [0.3, 1.0, 2.5, 20.0]
    minibatches = [(each[i] + each[j]) / 2 for i, j in itertools.product(range(3), repeat=2)]
    found = lessons.clipping_bias(jnp.array(minibatches), jnp.array(thresholds))
    mean = each.mean(0)
    for k, threshold in enumerate(thresholds):
        clip = sj.clip_by_global_norm(threshold)
        clipped = [np.asarray(clip.update(jnp.array(g), clip.init(None))[0]) for g in minibatches]
        average, wanted = sum(clipped) / 9, mean * min(1, threshold / np.linalg.norm(mean))
        sizes = np.linalg.norm(average), np.linalg.norm(wanted)
        assert found.mean_of_clipped[k] == pytest.approx(sizes[0], rel=1e-12)
        assert found.clipped_mean[k] == pytest.approx(sizes[1], rel=1e-12)
        assert found.bias[k] == pytest.approx(np.linalg.norm(average - wanted) / sizes[1], rel=1e-9, abs=1e-12)
        assert found.cosine[k] == pytest.approx(average @ wanted / np.prod(sizes), rel=1e-12)
        assert found.rate[k] == pytest.approx(np.mean([np.linalg.norm(g) > threshold for g in minibatches]))
    assert found.cosine[0] < 0.9 < 1 - 1e-12 < found.cosine[3]
    with pytest.raises(ValueError, match="clipping_bias: expected thresholds above 0"):
        lessons.clipping_bias(jnp.ones((2, 2)), jnp.zeros(1))


def test_a_state_is_bounded_and_its_jacobian_is_the_explicit_product():
    run = lessons.bounded_run(KEY, 16, 12, 3.0)
    weights, start = jax.random.split(KEY)
    u = 3.0 * np.asarray(jax.random.normal(weights, (16, 16))) / 4
    h, product = np.asarray(jax.random.uniform(start, (16,), float, -1, 1)), np.eye(16)
    for t in range(13):
        np.testing.assert_allclose(run.norm[t], np.linalg.norm(h), rtol=1e-10)
        np.testing.assert_allclose(run.log_jacobian[t], np.log(np.linalg.norm(product, 2)), atol=1e-9)
        h = np.tanh(h @ u)
        product = np.diag(1 - h**2) @ u.T @ product
    long = lessons.bounded_run(KEY, 64, 200, 3.0)
    assert long.norm.max() < 8
    assert long.log_jacobian[-1] > 40
    with pytest.raises(ValueError, match="bounded_run: expected a gain above 0"):
        lessons.bounded_run(KEY, 2, 2, 0.0)


@pytest.mark.parametrize("right", [0, 3, 17, 20])
def test_error_bars_are_wilsons(right):
    expected = scipy.stats.binomtest(right, 20).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(lessons.wilson(right / 20, 20), (expected.low, expected.high), atol=1e-4)


def test_of_several_lengths_each_is_asked_at_its_own_tick():
    """A cell that keeps its first input for four ticks, and then has noise."""

    def step(params, s, x):
        kept = jnp.where(s[..., 1:] == 0, x, jnp.where(s[..., 1:] < 4, s[..., :1], 0 * x))
        return jnp.concatenate([kept, s[..., 1:] + 1], -1), kept

    short = keeper(True)._replace(step=step)
    found = lessons.latch_probability(short, 1, KEY, (3, 4, 5), optimizer=optax.adam(0.1), runs=3, steps=40, batch=16)
    np.testing.assert_array_equal(found, [1, 1, 0])
    assert latch.reach((3, 4, 5), found.tolist()) == "at least a half learn it up to 4 ticks, at 5 only 0%."
    assert latch.reach((3, 4), [0.5, 1.0]) == "at least a half learn it up to 4 ticks, as far as was tried."
    assert latch.reach((3, 4), [0.4, 1.0]) == "fewer than a half learn even 3 ticks."


def test_bits_are_counted_by_the_entropy_of_a_coin():
    p = np.array([0.3, 0.5, 0.75, 0.9, 1.0])
    expected = [0, 0, *(20 * (1 - scipy.stats.entropy([q, 1 - q], base=2)) for q in p[2:])]
    np.testing.assert_allclose(lessons.known_bits(jnp.array(p), 20), expected, atol=1e-12)


@pytest.mark.slow
def test_a_network_learns_few_bits_by_heart_and_not_many():
    known = lambda count: lessons.memorise(
        sj.elman(3, 3), 3, KEY, length=3, count=count, steps=150, optimizer=optax.adam(0.05)
    )
    few, many = known(4), known(200)
    assert few == (1, 4)
    assert many.right < 0.8
    np.testing.assert_allclose(many.bits, lessons.known_bits(many.right, 200))
    assert [capacity.parameters(sj.elman, n) for n in (1, 3)] == [4 + 1 + 1 + 2, 12 + 9 + 3 + 4]
    assert capacity.fitting(sj.elman, 28) == 3


def test_what_is_told_of_the_remedies_follows_from_their_numbers():
    def trial(error, ratio):
        norms = jnp.array([[ratio], [1.0]])
        return lessons.Trial(jnp.full(4, error), jnp.array([3.0, 7.0]), jnp.array(error), norms, norms)

    trials = {
        "plain": [trial(0.16, 1e-6), trial(0.17, 1e-6), trial(0.001, 1e-6)],
        "layer norm": trial(0.15, 4.7e-5),
        "orthogonal": trial(0.05, 0.5),
        "LSTM": [trial(0.001, 0.02)],
        "identity": trial(0.0, 2.0),
    }
    text = figures.told(trials, 1 / 6)
    assert "Below a tenth of a blind answer's error (0.1667): LSTM; identity. " in text
    assert "Below six tenths of it: orthogonal. No better than that: plain; layer norm. " in text
    assert "less than a thousandth with plain; layer norm - of which 0 of 2 learned something - and " in text
    assert text.endswith("more than a tenth with orthogonal; identity, of which 2 of 2 did.")
    table = figures.table(trials)
    assert "| plain | 0.1600 (0.0010 to 0.1700) | 7 | 1.0e-06 | 1.0e-06 |" in table
    assert "| layer norm | 0.1500 | 7 | 4.7e-05 | 4.7e-05 |" in table


@pytest.mark.parametrize("name", gates.READINGS)
def test_the_exercise_has_an_answer(name):
    """The columns of the table and the memory before it make the memory after it."""
    reading = gates.READINGS[name]
    cell = reading.make(3, 4)
    params = jax.tree.map(lambda p: 2 * p, cell.init(KEY))
    xs = jax.random.normal(KEY, (6, 3))
    look = sj.with_states(gradients.with_gates(cell))
    _, ((_, values), states) = sj.unroll(look, params, cell.initial_state(params), xs)
    memory, columns = np.asarray(reading.memory(states)), [np.asarray(values[gate]) for gate in reading.columns]
    assert np.ptp(memory) > 0.3
    for t in range(1, 6):
        np.testing.assert_allclose(
            reading.update(memory[t - 1], *(column[t] for column in columns)), memory[t], rtol=1e-12
        )


def test_the_unit_that_keeps_the_number_is_found():
    memory = np.zeros((5, 4, 4))
    plural = np.array([True, False, True, False])
    memory[1:, plural, 1] = 0.5  # from the noun on
    memory[2:, plural, 2] = 3.0  # too late
    memory[:, :, 3] = 10 + 0.6 * plural  # further apart, but little of what the unit holds
    assert gates.keeper(memory + 1e-3, plural, 4) == (1, 0.5)


@pytest.mark.slow
def test_learned_from_the_weights_set_by_hand_a_tagger_is_as_sure_as_the_exact_filter():
    model, (cell, params) = textbook.markov_model(), textbook.network()
    tags, words = hmm.sample(model, KEY, 20, (300,))
    exact = tagger.filtered(model, words)
    by_hand = tagger.belief(cell, params, words)
    assert tagger.sure(by_hand) < 0.6 < 0.95 < tagger.sure(exact)
    options = tagger.Options()
    learn, state = tagger.step(cell, model, options), optax.adam(options.learning_rate).init(params)
    params, _ = learn(params, state, jax.random.split(KEY, 1500))
    learned = tagger.belief(cell, params, words)
    assert abs(tagger.sure(learned) - tagger.sure(exact)) < 0.005
    assert tagger.apart(exact, learned) < 0.01 < 0.4 < tagger.apart(exact, by_hand)
    assert tagger.nats(exact, tags) - 1e-3 < tagger.nats(learned, tags) < tagger.nats(exact, tags) + 0.01


def test_beliefs_are_measured_by_hand():
    exact, found = jnp.array([[[0.5, 0.5]], [[1.0 - 1e-9, 1e-9]]]), jnp.array([[[0.25, 0.75]], [[0.9, 0.1]]])
    tags = jnp.array([[0], [0]])
    assert tagger.sure(found) == pytest.approx((0.75 + 0.9) / 2)
    assert tagger.right(found, tags) == 0.5
    assert tagger.nats(found, tags) == pytest.approx(-(np.log(0.25) + np.log(0.9)) / 2)
    expected = [scipy.stats.entropy(p, q) for p, q in zip(exact[:, 0], found[:, 0])]
    assert tagger.apart(exact, found) == pytest.approx(np.mean(expected))
    shifted = np.log(textbook.TRANSITION) + np.array([[1.0], [2.0], [-3.0]])
    assert tagger.distance(jnp.array(shifted), textbook.TRANSITION) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", quick(shapes.SHAPES, "one to one"))
def test_a_model_of_every_shape_is_ten_lines_and_learns(name):
    import inspect

    shape = shapes.SHAPES[name]
    assert len([line for line in inspect.getsource(shape.model).splitlines() if line.strip()]) <= 10
    inputs, states, outputs = shape.graph
    assert set(inputs) | set(outputs) == set(states)
    steps, rate = (1500, 5e-3) if name == "many to many" else (300, 1e-2)
    right, chance, _ = shapes.learn(shape, shapes.Options(steps=steps, learning_rate=rate))
    assert chance < 0.6
    assert right > 0.9


def test_the_digits_of_every_shape_are_the_task_they_are_said_to_be():
    xs = np.array([[3, 7], [1, 9], [4, 0]])
    targets = {name: shape.targets(xs[:1] if shape.inputs == 1 else xs) for name, shape in shapes.SHAPES.items()}
    np.testing.assert_array_equal(targets["one to one"], [[9, 9]])
    np.testing.assert_array_equal(targets["one to many"].T, [[3, 2, 1, 0, 0, 0], [7, 6, 5, 4, 3, 2]])
    np.testing.assert_array_equal(targets["many to one"], [[4, 9]])
    np.testing.assert_array_equal(targets["many to many"], [[4, 0], [1, 9], [3, 7]])
    np.testing.assert_array_equal(targets["many to many, aligned"], [[3, 7], [3, 9], [4, 9]])
