"""Training features: presets, averaging, accumulation, early stopping, and no compilation after the first "
"epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.early_stopping import EarlyStopping
from laws import assert_close, no_compiles

import seqjax as sj
from seqjax import models, tasks

PUBLISHED = {
    # units, window, scale, dropout, clip, epochs, and the learning rate in some epochs (counted from 0)
    "small": (200, 20, 0.1, 0.0, 5.0, 13, {0: 1, 3: 1, 4: 1 / 2, 5: 1 / 4, 12: 2**-9}),
    "medium": (650, 35, 0.05, 0.5, 5.0, 39, {5: 1, 6: 1 / 1.2, 8: 1.2**-3}),
    "large": (1500, 35, 0.04, 0.65, 10.0, 55, {13: 1, 14: 1 / 1.15, 54: 1.15**-41}),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_presets_are_the_published_ones(size):
    units, window, scale, dropout, clip, epochs, rates = PUBLISHED[size]
    preset = models.zaremba(size, 30, updates_per_epoch=7)
    assert (preset.window, preset.batch_size, preset.epochs, preset.divide_by) == (window, 20, epochs, 20.0)
    one = jnp.ones(())
    norm = optax.tree.norm(preset.clip.update({"a": 100 * one, "b": 100 * one}, preset.clip.init(one))[0])
    np.testing.assert_allclose(norm, clip, rtol=1e-6)
    shapes = jax.eval_shape(preset.model.init, jax.random.key(0))
    cells = [
        leaf
        for leaf in jax.tree.leaves(shapes, is_leaf=lambda x: isinstance(x, sj.LSTMParams))
        if isinstance(leaf, sj.LSTMParams)
    ]
    assert [cell.w_h.shape for cell in cells] == [(units, 4 * units)] * 2
    state = preset.optimizer.init(one)
    for epoch in range(max(rates) + 1):
        for _ in range(7):
            update, state = preset.optimizer.update(one, state)
            if epoch in rates:
                np.testing.assert_allclose(-update, rates[epoch], rtol=1e-5)
    if size == "small":
        params = preset.model.init(jax.random.key(0))
        drawn = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
        assert abs(drawn).max() <= scale
        np.testing.assert_allclose(drawn.std(), scale / np.sqrt(3), rtol=0.01)
        assert all(leaf.std() > 0 for leaf in jax.tree.leaves(params))
    drops = sum(not jax.tree.leaves(part) for part in shapes[1])
    assert drops == (3 if dropout else 0)


def test_a_preset_trains():
    """The small preset's loss scale: the gradient of the sum over time, averaged over sequences."""
    preset = models.zaremba("small", 6, updates_per_epoch=50, batch_size=4)
    model = models.language_model(6, 8, layers=2)
    params = model.init(jax.random.key(0))
    loss = sj.objective(model, sj.cross_entropy)
    step = sj.train_step(loss, preset.optimizer, clip=preset.clip, divide_by=preset.divide_by)
    symbols = jnp.asarray(np.arange(21)[:, None] + np.arange(4)) % 6
    batch = sj.Batch(symbols[:-1], symbols[1:])
    train, state = sj.train_state(params, preset.optimizer), model.initial_state(params, (4,))
    losses = []
    for _ in range(30):
        train, state, metrics = step(train, state, batch)
        losses.append(float(metrics.tally.mean))
    assert losses[0] == pytest.approx(np.log(6), rel=0.3)
    assert losses[-1] < 0.2 * losses[0]


def quadratic():
    """A linear layer and a batch of eight sequences."""
    layer = sj.dense(3, 2)
    xs, ys = (jax.random.normal(jax.random.key(i), (5, 8, n)) for i, n in ((1, 3), (2, 2)))
    return layer, layer.init(jax.random.key(0)), xs, ys


@pytest.mark.parametrize("decay", [None, 0.8])
def test_averaging_keeps_the_mean_of_the_parameters(decay):
    layer, params, xs, ys = quadratic()
    optimizer = sj.averaging(optax.sgd(0.1), decay=decay)
    step = sj.train_step(sj.objective(layer, sj.mean_squared_error), optimizer)
    plain = sj.train_step(sj.objective(layer, sj.mean_squared_error), optax.sgd(0.1))
    train, control = sj.train_state(params, optimizer), sj.train_state(params, optax.sgd(0.1))
    seen = []
    for _ in range(5):
        train, _, _ = step(train, (), sj.Batch(xs, ys))
        control, _, _ = plain(control, (), sj.Batch(xs, ys))
        seen.append(np.asarray(train.params.w))
    assert_close(train.params, control.params)
    weights = np.ones(5) if decay is None else decay ** np.arange(4, -1, -1)
    expected = np.tensordot(weights / weights.sum(), np.stack(seen), 1)
    np.testing.assert_allclose(sj.averaged(train.opt_state).w, expected, rtol=1e-10)


def test_accumulated_gradients_equal_one_large_batch():
    """Optax's MultiSteps in the same train step: two halves of a batch, then one update."""
    layer, params, xs, ys = quadratic()
    loss = sj.objective(layer, sj.mean_squared_error)
    whole = sj.train_step(loss, optax.sgd(0.1, 0.9))
    optimizer = optax.MultiSteps(optax.sgd(0.1, 0.9), 2)
    halves = sj.train_step(loss, optimizer)
    one, two = sj.train_state(params, optax.sgd(0.1, 0.9)), sj.train_state(params, optimizer)
    for _ in range(3):
        one, _, _ = whole(one, (), sj.Batch(xs, ys))
        for part in (slice(0, 4), slice(4, 8)):
            before = np.asarray(two.params.w)
            two, _, _ = halves(two, (), sj.Batch(xs[:, part], ys[:, part]))
            assert (before == np.asarray(two.params.w)).all() == (part.start == 0)
    assert_close(one.params, two.params, rtol=1e-6)  # the library accumulates in float32


def test_early_stopping_by_flax():
    """The validation loss of a layer that can't learn stops training after its patience."""
    stop, epochs = EarlyStopping(min_delta=1e-3, patience=2), 0
    for loss in (3.0, 2.0, 1.9999, 2.5, 2.1, 2.2, 0.1):
        epochs += 1
        stop = stop.update(loss)
        if stop.should_stop:
            break
    assert epochs == 5
    assert stop.best_metric == 2.0


def test_nothing_is_compiled_after_the_first_epoch():
    """Ragged pairs in buckets, through an encoder-decoder: as many compilations as shapes, then none."""
    problem = tasks.addition(3)
    source = tasks.Vocabulary.build([problem.source_symbols])
    target = tasks.Vocabulary.build([problem.target_symbols])
    pairs = problem.draw(np.random.default_rng(0), 45)
    fields = [[source.encode(p.source) for p in pairs], [target.encode(p.target, bos=True, eos=True) for p in pairs]]
    plan = tasks.buckets(np.array([[len(s) for s in field] for field in fields]).T, 3)
    model = models.encoder_decoder(len(source), len(target), 8, reverse_source=True)
    params = model.init(jax.random.key(0))
    step = sj.train_step(models.conditional_objective(model, sj.cross_entropy), optax.adam(3e-2))
    train = sj.train_state(params, optax.adam(3e-2))
    losses = []

    def epoch(train, number):
        start = tasks.Position(number, 0)
        total = 0
        for drawn in tasks.batches(fields, plan, 8, seed=0, position=start, epochs=number + 1):
            (symbols, lengths), (written, written_lengths) = drawn.fields
            mask = np.arange(len(symbols))[:, None] < lengths
            kept = np.arange(len(written) - 1)[:, None] < written_lengths - 1
            batch = sj.Batch((models.Source(symbols, mask), written[:-1]), written[1:], kept)
            train, _, metrics = step(train, (), batch)
            total += metrics.tally.count
            losses.append(metrics.tally.mean)
        assert total == sum(len(s) - 1 for s in fields[1])
        return train

    train = epoch(train, 0)
    with no_compiles():
        for number in (1, 2):
            train = epoch(train, number)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-6:]) < 0.85 * np.mean(losses[:6])


@pytest.mark.slow
def test_two_directions_solve_what_one_cannot():
    """C10: entities whose kind shows in a later word; one direction stays at chance on the names."""
    problem = tasks.entity_sentences()
    words, tags = tasks.Vocabulary(["<pad>", *problem.source_symbols]), tasks.Vocabulary(problem.target_symbols)
    rng = np.random.default_rng(0)

    def draw(count):
        pairs = problem.draw(rng, count)
        xs = tasks.pad([words.encode(p.source) for p in pairs], length=24)
        ys = tasks.pad([tags.encode(p.target) for p in pairs], length=24)
        return sj.Batch(xs.values, ys.values, np.arange(24)[:, None] < xs.lengths)

    accuracy = {}
    for both_ways in (False, True):
        model = models.tagger(len(words), len(tags), embedding_size=16, hidden_size=16, both_ways=both_ways)
        params = model.init(jax.random.key(0))
        step = sj.train_step(sj.objective(model, sj.cross_entropy), optax.adam(1e-2))
        train = sj.train_state(params, optax.adam(1e-2))
        for _ in range(500):
            train, _, _ = step(train, model.initial_state(train.params, (32,)), draw(32))
        test = draw(300)
        _, logits = model.apply(train.params, model.initial_state(train.params, (300,)), test.xs, mask=test.mask)
        named = test.mask & (test.targets != tags.encode(["O"])[0])
        accuracy[both_ways] = (np.asarray(logits).argmax(-1) == test.targets)[named].mean()
    assert accuracy[True] > 0.99
    assert accuracy[False] < problem.chance + 0.1


def test_errors():
    with pytest.raises(ValueError, match="zaremba: expected size to be one of 'small', 'medium', 'large', got 'tiny'"):
        models.zaremba("tiny", 10, updates_per_epoch=5)
    with pytest.raises(ValueError, match="averaging: expected a rate of at least 0 and below 1, got 1"):
        sj.averaging(optax.sgd(1.0), decay=1)
    with pytest.raises(TypeError, match="averaged: expected a AveragingState, got"):
        sj.averaged(optax.sgd(1.0).init(jnp.ones(())))
