"""Language models, their uses, and outputs over large vocabularies."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close
from reference import cells as reference

import seqjax as sj
from seqjax import models
from seqjax.models.language_model import FEW

pytestmark = pytest.mark.usefixtures("equal_ranks")

V, EOS, BOS = 5, 1, 0
MODEL = models.language_model(V, 6, embedding_size=3, cell=sj.gru, layers=2)


def start(module, scale=1.0):
    return jax.jit(lambda key: jax.tree.map(lambda p: scale * p, module.init(key)))(jax.random.key(0))


PARAMS = start(MODEL, 2.0)


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, symbols, **options):
    return model.apply(params, model.initial_state(params, symbols.shape[1:]), symbols, **options)[1]


def log_softmax(x):
    x = np.asarray(x)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_language_model_is_its_parts():
    """Embedding, two cells, output: composed by hand."""
    symbols = np.array([[0, 3], [2, 4], [1, 1]])
    (embedding, one), two, readout = jax.tree.map(np.asarray, PARAMS)
    logits = run(MODEL, PARAMS, symbols)
    for b in range(2):
        hs = embedding.w[symbols[:, b]]
        for p in (one, two):
            _, hs = reference.trajectory(reference.gru_after, p, np.zeros(6), hs)
        np.testing.assert_allclose(logits[:, b], hs @ readout.w + readout.b, rtol=1e-12)
    tied = models.language_model(V, 6, tied=True)
    params = jax.eval_shape(tied.init, jax.random.key(0))
    assert params.w.shape == (V, 6)
    assert jax.eval_shape(lambda p: run(tied, p, symbols), params).shape == (3, 2, V)


@pytest.mark.parametrize("size", [V, FEW + 1])
def test_nothing_is_read_as_the_zero_vector(size):
    """One more row of the matrix where it has few, a case of its own where it has many."""
    layer = models.symbols_or_nothing(size, 3)
    params = start(layer)
    _, ys = layer.apply(params, (), jnp.array([2, -1, 0]))
    np.testing.assert_array_equal(ys, np.stack([params.w[2], np.zeros(3), params.w[0]]))
    assert np.isnan(layer.apply(params, (), jnp.array([size, -2]))[1]).all()
    gradient = jax.jit(jax.grad(lambda p: layer.apply(p, (), jnp.array([-1, 2]))[1].sum()))(params)
    np.testing.assert_array_equal(gradient.w, np.arange(size)[:, None] == 2 * np.ones((1, 3)))


def test_one_hot_times_matrix_is_a_look_up():
    """C5: value and gradient."""
    symbols = jnp.array([[0, 3], [2, 0]])
    layer = sj.embedding(V, 3)
    params = start(layer)

    def looked_up(w):
        return (layer.apply(params._replace(w=w), (), symbols)[1] ** 3).sum()

    def multiplied(w):
        return ((jax.nn.one_hot(symbols, V) @ w) ** 3).sum()

    assert_close(*jax.jit(lambda w: [jax.value_and_grad(f)(w) for f in (looked_up, multiplied)])(params.w))


def test_dropout_between_layers_only_with_a_key():
    model = models.language_model(V, 6, dropout=0.5, layers=2)
    params = start(model)
    symbols = jnp.arange(8).reshape(4, 2) % V
    quiet = run(model, params, symbols)
    assert_close(quiet, run(model, params, symbols))
    assert np.abs(quiet - run(model, params, symbols, key=jax.random.key(1))).max() > 1e-3
    plain = models.language_model(V, 6, layers=2)
    dense = params[2]
    one, two = params[1][1], params[1][3]
    assert_close(quiet, run(plain, ((params[0], one), two, dense), symbols))


def test_fixed_window_model_by_its_equation():
    """Concatenated embeddings of the last n symbols, tanh, softmax; older symbols do not exist for it."""
    n = 3
    model = models.fixed_window_model(V, 6, window=n, embedding_size=4)
    params = start(model, 2.0)
    symbols = np.array([0, 3, 2, 4, 1, 1, 0])
    logits = run(model, params, jnp.asarray(symbols))
    embedding, conv, _, readout = jax.tree.map(np.asarray, params)
    for t in range(len(symbols)):
        window = [embedding.w[symbols[s]] if s >= 0 else np.zeros(4) for s in range(t - n + 1, t + 1)]
        matrix = np.concatenate(conv.w[::-1])
        hidden = np.tanh(np.concatenate(window) @ matrix + conv.b)
        np.testing.assert_allclose(logits[t], hidden @ readout.w + readout.b, rtol=1e-10)
    other = np.array([4, 4, 4, 4, 1, 1, 0])
    np.testing.assert_array_equal(run(model, params, jnp.asarray(other))[6], logits[6])


def test_total_probability_is_one():
    """C4: all strings that end in <eos> within L symbols, and all longer beginnings."""
    length = 4
    body = [w for w in range(V) if w != EOS]
    total = 0.0
    for n in range(length):
        ended = np.array([(*b, EOS) for b in itertools.product(body, repeat=n)]).T
        total += np.exp(models.log_probability(MODEL, PARAMS, ended, first=BOS)).sum()
    assert total < 0.99
    unfinished = np.array(list(itertools.product(body, repeat=length))).T
    total += np.exp(models.log_probability(MODEL, PARAMS, unfinished, first=BOS)).sum()
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_log_probability_perplexity_and_ranking():
    sequences = [[3, 2, EOS], [4, EOS], [2, 2, 4, EOS]]
    expected = []
    for s in sequences:
        logs = log_softmax(run(MODEL, PARAMS, np.array([BOS, *s[:-1]])))
        expected.append(logs[np.arange(len(s)), s].sum())
    order, scores = models.rank(MODEL, PARAMS, sequences, first=BOS)
    assert order.tolist() == np.argsort(expected)[::-1].tolist()
    np.testing.assert_allclose(scores, np.sort(expected)[::-1], rtol=1e-10)
    padded = sj.tasks.pad([np.array(s) for s in sequences])
    got = models.log_probability(MODEL, PARAMS, padded.values, first=BOS, lengths=padded.lengths)
    np.testing.assert_allclose(got, expected, rtol=1e-10)
    inputs = np.concatenate([np.full((1, 3), BOS), padded.values[:-1]])
    mask = sj.masks.from_lengths(padded.lengths.astype(int), 4)
    tally = sj.cross_entropy(run(MODEL, PARAMS, jnp.asarray(inputs)), jnp.asarray(padded.values), mask)
    np.testing.assert_allclose(models.perplexity(tally), np.exp(-sum(expected) / 9), rtol=1e-10)
    decoded = sj.sample(MODEL, PARAMS, MODEL.initial_state(PARAMS), BOS, length=6, eos=EOS, key=jax.random.key(3))
    n = int(decoded.lengths)
    again = models.log_probability(MODEL, PARAMS, decoded.symbols[:n], first=BOS)
    np.testing.assert_allclose(decoded.log_probs, again, rtol=1e-10)


@pytest.mark.slow
def test_the_pear_in_the_salad():
    """C4: what sounds alike is told apart by the words around it, and no probability leaks to what never follows."""
    apart = ["the apple and pear salad", "a pair of shoes", "the pair of socks", "an apple and pear salad"]
    vocabulary = sj.tasks.Vocabulary.build([line.split() for line in apart])
    texts = [vocabulary.encode(line.split(), bos=True, eos=True) for line in apart]
    symbols, lengths = sj.tasks.pad(texts)
    batch = sj.Batch(symbols[:-1], symbols[1:], np.arange(len(symbols) - 1)[:, None] < lengths - 1)
    model, optimizer = models.language_model(len(vocabulary), 12, cell=sj.gru), optax.adam(3e-2)
    train = sj.train_state(start(model), optimizer)
    step = sj.train_step(sj.objective(model, sj.cross_entropy), optimizer)
    for _ in range(60):
        train, _, metrics = step(train, model.initial_state(train.params, (4,)), batch)
    assert models.perplexity(metrics.tally) < 1.6
    candidates = [f"the apple and {word} salad".split() for word in ("pair", "pear")]
    encoded = [vocabulary.encode(c, eos=True) for c in candidates]
    order, scores = models.rank(model, train.params, encoded, first=vocabulary.bos)
    assert order.tolist() == [1, 0]
    assert scores[0] - scores[1] > 2
    read = vocabulary.encode(["the", "apple", "and"], bos=True)
    table = models.next_symbols(model, train.params, read, 3)
    assert vocabulary.symbols[table.symbols[0]] == "pear"
    assert table.probs[0] > 0.9


def test_a_symbol_outside_the_vocabulary_has_no_probability():
    for wrong in (-1, V):
        symbols = np.array([[2, 2], [wrong, 3], [1, 1]])
        found = models.log_probability(MODEL, PARAMS, symbols, first=BOS)
        assert np.isnan(found).tolist() == [True, False]
        masked = models.log_probability(MODEL, PARAMS, symbols, first=BOS, lengths=[1, 3])
        assert np.isfinite(masked).all()


def test_writing_from_nothing_without_the_unknown():
    """C4: zero state, zero first input, <unk> masked, stop at <eos>; scores are those of the model itself."""
    unk = 2
    state = MODEL.initial_state(PARAMS, (50,))
    options = {"length": 8, "eos": EOS, "forbidden": [unk], "key": jax.random.key(0)}
    decoded = sj.sample(MODEL, PARAMS, state, models.NOTHING, **options)
    symbols, lengths = np.asarray(decoded.symbols), np.asarray(decoded.lengths)
    assert not (symbols == unk).any()
    assert len(set(lengths)) > 3
    scores = models.log_probability(MODEL, PARAMS, symbols, first=models.NOTHING, lengths=lengths)
    np.testing.assert_allclose(decoded.log_probs, scores, rtol=1e-10)
    first = log_softmax(run(MODEL, PARAMS, np.array([models.NOTHING])))[0]
    (_, one), two, readout = jax.tree.map(np.asarray, PARAMS)
    _, h = reference.gru_after(one, np.zeros(6), np.zeros(3))
    _, h = reference.gru_after(two, np.zeros(6), h)
    np.testing.assert_allclose(first, log_softmax(h @ readout.w + readout.b), rtol=1e-10)


def test_next_symbols():
    text = jnp.array([[0, 0], [3, 2]])
    found = models.next_symbols(MODEL, PARAMS, text, 3)
    probs = np.exp(log_softmax(run(MODEL, PARAMS, text)[-1]))
    for b in range(2):
        order = np.argsort(-probs[b])[:3]
        assert found.symbols[:, b].tolist() == order.tolist()
        np.testing.assert_allclose(found.probs[:, b], probs[b, order], rtol=1e-10)


D, N = 4, 60
HS = jnp.asarray(np.random.default_rng(7).normal(size=(3, 2, D)))
TARGETS = jnp.array([[0, 59], [17, 5], [31, 40]])
MASK = jnp.array([[True, True], [True, False], [True, True]])


def test_adaptive_softmax_is_a_distribution_that_its_loss_agrees_with():
    for cutoffs in ((10, 30), (1,), ()):
        softmax = models.adaptive_softmax(D, N, cutoffs)
        params = start(softmax)

        @jax.jit
        def both(params, softmax=softmax):
            return softmax.log_probs(params, HS), softmax.loss(params, HS, TARGETS, MASK)

        log_probs, loss = jax.tree.map(np.asarray, both(params))
        assert log_probs.shape == (3, 2, N)
        np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, rtol=1e-12)
        picked = np.take_along_axis(log_probs, np.asarray(TARGETS)[..., None], -1)[..., 0]
        np.testing.assert_allclose(loss.sum, -picked[np.asarray(MASK)].sum(), rtol=1e-12)
        assert loss.count == 5
    full = models.full_softmax(D, N)

    def of(softmax, wrap):
        return jax.jit(jax.value_and_grad(lambda p: softmax.loss(wrap(p), HS, TARGETS, MASK).sum))(params.head)

    assert_close(of(softmax, lambda p: params._replace(head=p)), of(full, lambda p: p))
    softmax = models.adaptive_softmax(D, N, (10, 30))
    clustered = start(softmax)
    p = jax.tree.map(np.asarray, clustered)
    h = np.asarray(HS[2, 1])
    head = log_softmax(h @ p.head.w + p.head.b)
    within = log_softmax((h @ p.tails[1][0].w) @ p.tails[1][1].w + p.tails[1][1].b)
    expected = head[11] + within[40 - 30]
    got = jax.jit(softmax.log_probs)(clustered, HS)[2, 1, 40]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_sampled_softmax_with_all_symbols_is_exact():
    exact, sampled = models.full_softmax(D, N), models.sampled_softmax(D, N, N)
    params = start(exact)

    def of(softmax, key):
        return jax.jit(jax.value_and_grad(lambda p: softmax.loss(p, HS, TARGETS, MASK, key).sum))(params)

    assert_close(of(sampled, jax.random.key(1)), of(exact, None))
    assert_close(of(models.sampled_softmax(D, N, 5), None), of(exact, None))


def test_sampled_softmax_estimates_the_normaliser_without_bias():
    """Over many draws the mean of exp(loss) · p(target) is 1: the denominator's mean is the full one."""
    sampled = models.sampled_softmax(D, N, 8)
    params = start(sampled, 1.5)
    h, target = HS[:1, 0], jnp.array([5])

    def ratio(key):
        return jnp.exp(sampled.loss(params, h, target, None, key).sum + sampled.log_probs(params, h)[0, 5])

    ratios = np.asarray(jax.jit(jax.vmap(ratio))(jax.random.split(jax.random.key(2), 40_000)))
    assert ratios.std() > 0.1
    np.testing.assert_allclose(ratios.mean(), 1, atol=4 * ratios.std() / 200)


def test_samples_are_distinct_and_as_frequent_as_stated():
    from seqjax.models.softmax import _draw, _inclusion

    for samples in (1, 8, 50):
        probs = _inclusion(np.log1p(1 / np.arange(1, N + 1)), samples)
        np.testing.assert_allclose(probs.sum(), samples, rtol=1e-12)
        assert probs.max() <= 1
        assert (np.diff(probs) <= 1e-15).all()
        keys = jax.random.split(jax.random.key(3), 5000)
        draw = jax.jit(jax.vmap(lambda key, probs=probs, n=samples: _draw(key, jnp.asarray(probs), n)[0]))
        drawn = np.asarray(draw(keys))
        assert (np.diff(np.sort(drawn, -1), axis=-1) > 0).all()
        frequency = np.bincount(drawn.ravel(), minlength=N) / 5000
        np.testing.assert_allclose(frequency, probs, atol=0.04)


@pytest.mark.slow
def test_outputs_train_and_decode():
    body = sj.serial(sj.embedding(N, D), sj.recurrent(sj.gru(D, D)))
    for softmax in (models.adaptive_softmax(D, N, (10,)), models.sampled_softmax(D, N, 5)):
        layer = models.output_layer(body, softmax)
        params = start(layer)
        objective = models.output_objective(body, softmax)
        state = layer.initial_state(params, (2,))

        @jax.jit
        def both(params, targets, key=None, layer=layer, objective=objective, state=state, softmax=softmax):
            ys = layer.apply(params, state, TARGETS, mask=MASK)[1]
            tally = objective(params, state, sj.Batch(TARGETS, TARGETS, MASK), key)[1]
            return ys, tally.sum, sj.cross_entropy(ys, TARGETS, MASK).sum, softmax.loss(params[1], HS, targets, MASK)

        ys, exact, expected, loss = both(params, TARGETS)
        assert_close(exact, expected)
        assert np.isfinite(loss.sum)
        assert not np.asarray(ys)[~np.asarray(MASK)].any()
        decoded = sj.sample(layer, params, state, 0, length=3)
        assert decoded.symbols.shape == (3, 2)
        _, noisy, _, _ = both(params, TARGETS, jax.random.key(0))
        assert np.isfinite(noisy)
        for wrong in (-1, N):
            targets = np.array(TARGETS)
            targets[0, 0] = wrong
            assert np.isnan(both(params, targets)[3].sum)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: models.language_model(1, 4), ValueError, "language_model: expected a vocabulary of at"),
        (lambda: models.fixed_window_model(1, 4, window=2), ValueError, "fixed_window_model: expected a vocab"),
        (lambda: models.language_model(5, 4, embedding_size=3, tied=True), ValueError, "embedding_size=4 like"),
        (lambda: models.language_model(5, 4, dropout=1.0), ValueError, "deep: expected a rate of at least 0"),
        (lambda: models.rank(MODEL, PARAMS, [[1], []], first=0), ValueError, "rank: expected sequences of at"),
        (lambda: models.rank(MODEL, PARAMS, [[1], [2, V]], first=0), ValueError, r"known symbols, got \[2, 5\], whose"),
        (lambda: models.rank(MODEL, PARAMS, [[1], [-1, 2]], first=0), ValueError, r"known symbols, got \[-1, 2\]"),
        (lambda: models.next_symbols(MODEL, PARAMS, jnp.zeros((0, 2), int), 2), ValueError, r"got shape \(0, 2\)"),
        (lambda: models.next_symbols(MODEL, PARAMS, jnp.array([0]), 6), ValueError, "most the vocabulary's 5"),
        (lambda: models.log_probability(MODEL, PARAMS, jnp.ones(3), first=0), TypeError, "expected integers"),
        (lambda: models.log_probability(MODEL, PARAMS, [[1, 1]], first=0, lengths=[1]), ValueError, "lengths of"),
        (lambda: models.adaptive_softmax(4, 10, (5, 5)), ValueError, "cutoffs that rise between 0 and 10"),
        (lambda: models.sampled_softmax(4, 10, 11), ValueError, "expected at most 10 samples, the vocabulary's size"),
    ],
)  # fmt: skip
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.slow
def test_symbols_may_be_bytes():
    """A vocabulary of 256 in uint8, where a comparison with its size would wrap round: in and out, value by value."""
    model = models.language_model(256, 6, cell=sj.gru)
    params, wide = start(model), np.array([[3, 255], [150, 0], [200, 128]])
    narrow = wide.astype(np.uint8)
    logits = run(model, params, wide)
    np.testing.assert_array_equal(run(model, params, narrow), logits)
    big = models.language_model(FEW + 1, 6, cell=sj.gru)
    np.testing.assert_array_equal(run(big, start(big), narrow), run(big, start(big), wide))
    losses = {
        "full": sj.cross_entropy,
        "adaptive": lambda _, targets: adaptive.loss(adaptive_params, hs, targets),
        "sampled": lambda _, targets: sampled.loss(sampled_params, hs, targets, None, jax.random.key(1)),
    }
    adaptive, sampled = models.adaptive_softmax(6, 256, [20]), models.sampled_softmax(6, 256, 30)
    adaptive_params, sampled_params = start(adaptive), start(sampled)
    hs = np.random.default_rng(0).normal(size=(3, 2, 6))
    for loss in losses.values():
        assert float(loss(logits, narrow).sum) == float(loss(logits, wide).sum) > 0
    scores = [models.log_probability(model, params, symbols, first=7) for symbols in (narrow, wide)]
    np.testing.assert_array_equal(*scores)


def test_a_sampled_softmax_does_not_take_one_symbol_for_another():
    """What is outside the vocabulary has no probability, in training either."""
    softmax = models.sampled_softmax(4, 9, 5)
    params, hs, key = start(softmax), np.ones((3, 4)), jax.random.key(0)
    for wrong in (-1, 9, 5000):
        targets = np.array([0, wrong, 8])
        assert np.isnan(softmax.loss(params, hs, targets, None, key).sum)
        assert np.isfinite(softmax.loss(params, hs, targets, np.array([True, False, True]), key).sum)
    for output in (softmax, models.adaptive_softmax(4, 9, [3])):
        with pytest.raises(ValueError, match=r"softmax: expected targets of shape \(3,\) like hs .* got \(1,\)"):
            output.loss(start(output), hs, np.array([1]), None, key)
