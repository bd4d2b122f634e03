"""Training features: presets, no compilation after the first epoch, and models that learn what others cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close, no_compiles
from marks import quick

import seqjax as sj
from seqjax import models, tasks

pytestmark = pytest.mark.usefixtures("equal_ranks")

PUBLISHED = {
    # units, window, scale, dropout, clip, epochs, and the learning rate in some epochs (counted from 0)
    "small": (200, 20, 0.1, 0.0, 5.0, 13, {0: 1, 3: 1, 4: 1 / 2, 5: 1 / 4, 12: 2**-9}),
    "medium": (650, 35, 0.05, 0.5, 5.0, 39, {5: 1, 6: 1 / 1.2, 8: 1.2**-3}),
    "large": (1500, 35, 0.04, 0.65, 10.0, 55, {13: 1, 14: 1 / 1.15, 54: 1.15**-41}),
}


def start(module):
    """Initial parameters, from one compiled program."""
    return jax.jit(module.init)(jax.random.key(0))


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
    state, update_by = preset.optimizer.init(one), jax.jit(preset.optimizer.update)
    for epoch in range(max(rates) + 1):
        for _ in range(7):
            update, state = update_by(one, state)
            if epoch in rates:
                np.testing.assert_allclose(-update, rates[epoch], rtol=1e-5)
    if size == "small":
        params = jax.tree.map(np.asarray, start(preset.model))
        drawn = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
        assert abs(drawn).max() <= scale
        np.testing.assert_allclose(drawn.std(), scale / np.sqrt(3), rtol=0.01)
        assert all(leaf.std() > 0 for leaf in jax.tree.leaves(params))
    drops = sum(not jax.tree.leaves(part) for part in shapes[1])
    assert drops == (3 if dropout else 0)


def test_a_preset_trains():
    """The small preset's loss scale: the gradient of the sum over time, averaged over sequences."""
    preset = models.zaremba("small", 6, updates_per_epoch=50, batch_size=4)
    model = models.language_model(6, 8, layers=2)
    params = start(model)
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


def test_the_presets_loss_is_summed_over_time_and_averaged_over_sequences():
    """One update by hand: θ - 1 · clip(∂ (Σ over all ticks) / 4), at the rate of the first epoch."""
    preset = models.zaremba("small", 6, updates_per_epoch=50, batch_size=4)
    model = models.language_model(6, 8, layers=2)
    params = jax.tree.map(lambda p: jnp.asarray(3 * np.asarray(p)), start(model))
    symbols = jnp.asarray(np.random.default_rng(1).integers(0, 6, (21, 4)))
    state = model.initial_state(params, (4,))

    @jax.jit
    @jax.value_and_grad
    def total(params):
        log_probs = jax.nn.log_softmax(model.apply(params, state, symbols[:-1])[1])
        return -jnp.take_along_axis(log_probs, symbols[1:, :, None], -1).sum()

    value, gradient = jax.tree.map(np.asarray, total(params))
    gradient = jax.tree.map(lambda g: g / 4, gradient)
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    assert norm > 5
    expected = jax.tree.map(lambda p, g: np.asarray(p) - 5 * g / norm, params, gradient)
    step = sj.train_step(
        sj.objective(model, sj.cross_entropy), preset.optimizer, clip=preset.clip, divide_by=preset.divide_by
    )
    batch = sj.Batch(symbols[:-1], symbols[1:])
    train, _, metrics = step(sj.train_state(params, preset.optimizer), state, batch)
    assert_close(train.params, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics.gradient_norm, norm, rtol=1e-10)
    np.testing.assert_allclose(metrics.loss, value / 4, rtol=1e-10)


def texts(rng, count, symbols=9):
    """Ragged sequences of symbols from 1 upwards: the shorter half of equal length, so that there are two shapes."""
    return [rng.integers(1, symbols, n).astype(np.int32) for n in [3] * (count // 2) + [6] * (count - count // 2)]


def shifted(fields, examples):
    ((symbols, lengths),) = fields
    return sj.Batch(symbols[:-1], symbols[1:], np.arange(len(symbols) - 1)[:, None] < lengths - 1)


def labelled(fields, examples):
    ((symbols, lengths),) = fields
    return sj.Batch(symbols, (examples % 2).astype(np.int32), np.arange(len(symbols))[:, None] < lengths)


def tagged(fields, examples):
    ((symbols, lengths),) = fields
    words = models.Words(symbols, np.repeat(symbols[..., None], 3, -1))
    return sj.Batch(words, symbols % 3, np.arange(len(symbols))[:, None] < lengths)


def tagged_words(fields, examples):
    batch = tagged(fields, examples)
    return batch._replace(xs=batch.xs.ids)


def played(fields, examples):
    ((symbols, lengths),) = fields
    frames = np.eye(9, dtype=np.float32)[symbols]
    return sj.Batch(frames[:-1], frames[1:], np.arange(len(symbols) - 1)[:, None] < lengths - 1)


def written(fields, examples):
    batch = shifted(fields, examples)
    source = models.Source(batch.xs, batch.mask)
    return sj.Batch((source, batch.xs), batch.targets, batch.mask)


def captioned(fields, examples):
    batch = shifted(fields, examples)
    return sj.Batch((np.zeros((4, 5, 6), np.float32), batch.xs), batch.targets, batch.mask)


def case(model, loss, make):
    return model, sj.objective(model, loss), make


TAGS = models.tagger(9, 3, embedding_size=3, hidden_size=3, characters=9, character_size=2, character_hidden_size=2)
FEW_TAGS = models.tagger(9, 3, embedding_size=3, hidden_size=3, both_ways=False)
CONVOLUTIONS = sj.serial(sj.embedding(9, 4), models.temporal_convolution(4, [4, 4], width=2))
MODELS = {
    "language_model": lambda: case(models.language_model(9, 4, dropout=0.2), sj.cross_entropy, shifted),
    "fixed_window_model": lambda: case(models.fixed_window_model(9, 4, window=2), sj.cross_entropy, shifted),
    "classifier": lambda: case(
        models.classifier(sj.serial(sj.embedding(9, 4), sj.recurrent(sj.gru(4, 4))), 4, 2),
        models.one_answer(sj.cross_entropy),
        labelled,
    ),
    "tagger": lambda: case(TAGS, sj.cross_entropy, tagged),
    "crf_tagger": lambda: (models.crf_tagger(FEW_TAGS, 3), models.crf_objective(FEW_TAGS), tagged_words),
    "temporal_convolution": lambda: case(sj.serial(CONVOLUTIONS, sj.dense(4, 9)), sj.cross_entropy, shifted),
    "next_frame_model": lambda: case(models.next_frame_model(9, 4), sj.multi_label_cross_entropy, played),
    "forecaster": lambda: case(models.forecaster(9, 4), sj.mean_squared_error, played),
    "encoder_decoder": lambda: conditional(models.encoder_decoder(9, 9, 4, context="attention"), written),
    "captioner": lambda: conditional(models.captioner(5, 6, 9, 4, channels=(2,)), captioned),
}


def conditional(model, make):
    return model, models.conditional_objective(model, sj.cross_entropy), make


def types(tree):
    """What a compiled program is chosen by."""
    abstract = jax.eval_shape(lambda tree: tree, tree)
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), abstract)


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(MODELS, "language_model", "classifier", "crf_tagger", "encoder_decoder"))
def test_no_model_is_compiled_after_its_first_epoch(name):
    """Ragged examples in buckets: as many programs as shapes in the first epoch, none in the next two.

    Two shapes are compiled for one model with a large optimizer, and in the test of pairs; for the others, what a step
    of another length returns is of the types that it was given, so that a loop goes on with the programs it has.
    """
    model, objective, make = MODELS[name]()
    shapes = 2 if name == "language_model" else 1
    field = texts(np.random.default_rng(0), 14)
    plan = tasks.buckets(np.array([len(s) for s in field]), shapes, size=4)
    assert len(plan.shapes) == shapes
    optimizer = optax.adam(1e-2) if shapes == 2 else optax.sgd(1e-2)
    step = sj.train_step(objective, optimizer)
    drawn = jax.eval_shape(model.init, jax.random.key(0))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(drawn))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), drawn)
    state = () if isinstance(model, models.Conditional) else jax.jit(lambda p: model.initial_state(p, (4,)))(params)
    train = jax.jit(lambda p: sj.train_state(p, optimizer, key=jax.random.key(1)))(params)

    def epoch(train, number):
        for drawn in tasks.batches([field], plan, 4, seed=0, position=tasks.Position(number, 0), epochs=number + 1):
            train, _, metrics = step(train, state, make(drawn.fields, drawn.examples))
        return train, metrics

    train, _ = epoch(train, 0)
    assert step._cache_size() == shapes
    with no_compiles():
        for number in (1, 2):
            train, metrics = epoch(train, number)
    assert np.isfinite(metrics.loss)
    if shapes == 1:
        longer = make([(np.ones((9, 4), np.int32), np.array([9, 2, 8, 1]))], np.arange(4))
        after, new, _ = jax.eval_shape(step, train, state, longer)
        assert (types(after), types(new)) == (types(train), types(state))


@pytest.mark.slow
def test_pairs_in_buckets_train_an_encoder_decoder():
    """Every target symbol once an epoch, the loss falls, and nothing is compiled after the first epoch."""
    problem = tasks.addition(3)
    source = tasks.Vocabulary.build([problem.source_symbols])
    target = tasks.Vocabulary.build([problem.target_symbols])
    pairs = problem.draw(np.random.default_rng(0), 45)
    fields = [[source.encode(p.source) for p in pairs], [target.encode(p.target, bos=True, eos=True) for p in pairs]]
    plan = tasks.buckets(np.array([[len(s) for s in field] for field in fields]).T, 2)
    model = models.encoder_decoder(len(source), len(target), 8, reverse_source=True)
    params = start(model)
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


@pytest.mark.learning
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
        params = start(model)
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
    with pytest.raises(
        ValueError, match=r"accumulated: expected leaves \[batches, ...\] with the same number of batches"
    ):
        models.accumulated(len)((), jnp.zeros((2, 3)), sj.Batch(jnp.zeros((4, 3)), None))
    with pytest.raises(TypeError, match="scheduled_objective: expected a Layer or a Conditional, got Cell"):
        models.scheduled_objective(sj.gru(2, 2), sj.cross_entropy)
    with pytest.raises(ValueError, match="averaging: expected a decay of at least 0 and below 1, got 1"):
        sj.averaging(optax.sgd(1.0), decay=1)
    with pytest.raises(TypeError, match="averaged: expected an AveragingState, got"):
        sj.averaged(optax.sgd(1.0).init(jnp.ones(())))
