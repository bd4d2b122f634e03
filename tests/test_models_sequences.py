"""Classifiers, taggers, encoder-decoders, captioners, frames: against their equations, one example at a "
"time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from laws import MASKS, RESET, assert_close
from zoo import perturbed

import seqjax as sj
from seqjax import models

T, B, D, H = 7, 3, 3, 4
XS = jax.random.normal(jax.random.key(0), (T, B, D))
FRAMES = models.forecaster(D, H)


def start(module, key=1):
    return jax.jit(lambda one, two: perturbed(module.init(one), two))(jax.random.key(key), jax.random.key(key + 1))


def log_softmax(x):
    x = np.asarray(x)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("pool", ["last", "mean", "max"])
def test_classifier_pools_the_ticks_since_the_last_reset(pool):
    """Masks, resets, an empty sequence and two chunks, against single examples without any of them."""
    model = models.classifier(sj.recurrent(sj.gru(D, H)), H, 2, pool=pool)
    params = start(model)
    mask = MASKS["holes"]
    state, ys = model.apply(params, model.initial_state(params, (B,)), XS, mask=mask, reset=RESET)
    middle, _ = model.apply(params, model.initial_state(params, (B,)), XS[:3], mask=mask[:3], reset=RESET[:3])
    after, zs = model.apply(params, middle, XS[3:], mask=mask[3:], reset=RESET[3:])
    assert_close((state, ys), (after, zs))
    answer = jax.tree.map(np.asarray, params.answer)
    for b in range(B):
        begin = max(np.flatnonzero(RESET[:, b]), default=0)
        real = XS[begin:, b][np.asarray(mask[begin:, b])]
        pooled = np.zeros(H)
        if len(real):
            cell = sj.gru(D, H)
            hs = np.asarray(sj.unroll(cell, params.body, cell.initial_state(params.body), real)[1])
            pooled = {"last": hs[-1], "mean": hs.mean(0), "max": hs.max(0)}[pool]
        np.testing.assert_allclose(ys[b], pooled @ answer.w + answer.b, rtol=1e-10)


def test_one_to_one_is_a_feed_forward_net():
    """C1: one tick of a recurrent classifier is a net with one hidden layer."""
    model = models.classifier(sj.recurrent(sj.elman(D, H)), H, 2)
    params = start(model)
    _, ys = model.apply(params, model.initial_state(params, (B,)), XS[:1])
    hidden = np.tanh(XS[0] @ params.body.w_x + params.body.b)
    np.testing.assert_allclose(ys, hidden @ params.answer.w + params.answer.b, rtol=1e-12)


def test_the_other_shapes_of_problem():
    """C1: aligned many to many, one to many, unaligned many to many, each with a loss to train on."""
    tags = sj.serial(sj.recurrent(sj.elman(D, H)), sj.dense(H, 2))
    params = start(tags)
    batch = sj.Batch(XS, jnp.zeros((T, B), int))
    _, tally = sj.objective(tags, sj.cross_entropy)(params, tags.initial_state(params, (B,)), batch)
    assert tally.count == T * B
    model = models.classifier(sj.recurrent(sj.elman(D, H)), H, 2)
    params = start(model)
    loss = sj.objective(model, models.one_answer(sj.cross_entropy))
    state = model.initial_state(params, (B,))
    _, tally = loss(params, state, sj.Batch(XS, jnp.array([0, 1, 1]), MASKS["lengths"]))
    _, ys = model.apply(params, state, XS, mask=MASKS["lengths"])
    assert tally.count == 2
    np.testing.assert_allclose(tally.sum, -log_softmax(ys)[[0, 1], [0, 1]].sum(), rtol=1e-10)
    params = start(FRAMES)
    state, frames = sj.free_run(FRAMES, params, FRAMES.initial_state(params), jnp.ones(D), length=4)
    assert frames.shape == (4, D)


def test_tagger_reads_the_spelling_of_every_word():
    """Each word's characters read alone, forwards and backwards, then the words in both directions."""
    model = models.tagger(
        9, 4, embedding_size=3, hidden_size=H, characters=6, character_size=2, character_hidden_size=2
    )
    params = start(model)
    lengths = np.array([[4, 1, 2], [3, 3, 1], [1, 4, 4], [2, 2, 2], [4, 4, 1], [1, 1, 1], [3, 2, 1]])
    letters = np.asarray(jax.random.randint(jax.random.key(4), (T, B, 4), 1, 6)) * (np.arange(4) < lengths[..., None])
    ids = np.asarray(jax.random.randint(jax.random.key(5), (T, B), 0, 9))
    mask = MASKS["lengths"]
    state = model.initial_state(params, (B,))
    _, ys = model.apply(params, state, models.Words(jnp.asarray(ids), jnp.asarray(letters)), mask=mask)
    spelling, body, readout = params
    reader = sj.lstm(2, 2)
    for b, n in enumerate((7, 4)):
        vectors = []
        for t in range(n):
            word = letters[t, b][letters[t, b] > 0]
            ends = []
            for p, order in ((spelling.forward, word), (spelling.backward, word[::-1])):
                s, _ = sj.unroll(reader, p, reader.initial_state(p), spelling.characters[order])
                ends.append(s.h)
            vectors.append(jnp.concatenate([spelling.words[ids[t, b]], *ends]))
        both = sj.bidirectional(sj.lstm(7, H), sj.lstm(7, H))
        _, hs = both.apply(body[0], both.initial_state(body[0]), jnp.stack(vectors))
        np.testing.assert_allclose(ys[:n, b], hs @ readout.w + readout.b, rtol=1e-10)


@pytest.mark.parametrize("both_ways", [False, True])
def test_only_two_directions_see_later_words(both_ways):
    model = models.tagger(9, 4, embedding_size=3, hidden_size=H, both_ways=both_ways, layers=2)
    params = start(model)
    ids = jnp.array([[1], [2], [3]])
    one, other = (model.apply(params, model.initial_state(params, (1,)), ids.at[2, 0].set(last))[1] for last in (3, 4))
    assert (np.abs(one[0] - other[0]).max() > 1e-6) == both_ways


SOURCE = np.array([[1, 4, 2], [3, 4, 0], [2, 5, 0], [5, 0, 0]])
SOURCE_LENGTHS = (4, 3, 1)
SOURCE_MASK = jnp.asarray(np.arange(4)[:, None] < np.array(SOURCE_LENGTHS))
TARGET = jnp.array([[0, 0, 0], [3, 2, 1], [4, 4, 2]])
OPTIONS = {
    "state_reversed": {"reverse_source": True, "layers": 2},
    "state_both_ways": {"both_ways": True},
    "every_tick_reversed": {"context": "every_tick", "reverse_source": True, "cell": sj.gru},
    "every_tick_both_ways": {"context": "every_tick", "both_ways": True},
    "attention": {"context": "attention"},
    "attention_both_ways": {"context": "attention", "both_ways": True, "cell": sj.gru, "layers": 2},
}


def by_hand(params, symbols, target, context="state", cell=sj.lstm, layers=1, reverse_source=False, both_ways=False):
    """One example, tick by tick, from the drawing of the model."""

    def cells(size):
        return sj.stack(*(cell(d, H) for d in [size] + [H] * (layers - 1)))

    def read(p, xs):
        encoder = cells(3)
        state, hs = encoder.initial_state(p), []
        for x in xs:
            state, h = encoder.step(p, state, x)
            hs.append(h)
        return state, hs

    xs = [params.embedding.w[s] for s in symbols]
    if both_ways:
        state, forwards = read(params.encoder.forward, xs)
        _, backwards = read(params.encoder.backward, xs[::-1])
        outputs = [jnp.concatenate(pair) for pair in zip(forwards, backwards[::-1])]
        summary = jnp.concatenate([forwards[-1], backwards[-1]])
    else:
        state, outputs = read(params.encoder, xs[::-1] if reverse_source else xs)
        summary = outputs[-1]
        outputs = outputs[::-1] if reverse_source else outputs
    p, m = params.decoder, H * (1 + both_ways)
    inner, logits = p.cell, []
    if context == "attention":
        inner, looked = p.cell.cell, jnp.zeros(m)
    decoder = cells(3 + (m if context != "state" else 0))
    for symbol in target:
        x = p.embedding.w[symbol]
        if context == "state":
            state, h = decoder.step(inner, state, x)
        elif context == "every_tick":
            state, h = decoder.step(inner, state, jnp.concatenate([x, summary]))
            h = jnp.concatenate([h, summary])
        else:
            state, h = decoder.step(inner, state, jnp.concatenate([x, looked]))
            scores = [jnp.tanh(h @ p.cell.w_q + value @ p.cell.w_m) @ p.cell.v for value in outputs]
            weights = jax.nn.softmax(jnp.stack(scores))
            looked = sum(w * value for w, value in zip(weights, outputs))
            h = jnp.concatenate([h, looked])
        logits.append(h @ p.readout.w + p.readout.b)
    return jnp.stack(logits)


@pytest.mark.parametrize("case", OPTIONS)
def test_encoder_decoder_by_hand(case):
    """Padded batches against single examples: context, order of reading, state hand-over; then decoding."""
    options = OPTIONS[case]
    model = models.encoder_decoder(6, 5, H, embedding_size=3, **options)
    params = start(model)
    encode = jax.jit(lambda params: model.encode(params, models.Source(jnp.asarray(SOURCE), SOURCE_MASK)))
    decoder_params, state = encode(params)
    _, logits = jax.jit(model.decoder.apply)(decoder_params, state, TARGET)
    reference = jax.jit(lambda s, t: by_hand(params, s, t, **options))
    for b, n in enumerate(SOURCE_LENGTHS[:2]):
        np.testing.assert_allclose(logits[:, b], reference(jnp.asarray(SOURCE[:n, b]), TARGET[:, b]), rtol=1e-9)
    if case == "attention":
        decoded = sj.sample(model.decoder, decoder_params, state, 0, length=3)
        inputs = jnp.concatenate([jnp.zeros((1, 3), jnp.int32), decoded.symbols[:-1]])
        _, logits = model.decoder.apply(decoder_params, state, inputs)
        np.testing.assert_array_equal(decoded.symbols, logits.argmax(-1))
        found = sj.beam_search(model.decoder, decoder_params, state, 0, length=3, width=1)
        np.testing.assert_array_equal(found.symbols[0], decoded.symbols)


def test_encoder_and_decoder_learn_separately_and_together():
    """One loss, gradients for every weight of both networks, none shared; masked targets change nothing."""
    model = models.encoder_decoder(6, 5, H, context="attention")
    params = start(model)
    objective = models.conditional_objective(model, sj.cross_entropy)
    mask = jnp.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
    source = models.Source(jnp.asarray(SOURCE), SOURCE_MASK)

    @jax.jit
    @jax.grad
    def gradient(params, targets):
        return objective(params, (), sj.Batch((source, TARGET), targets, mask))[1].sum

    g = gradient(params, TARGET)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(g))
    assert_close(g, gradient(params, jnp.where(mask, TARGET, 4)))


def test_captioner_by_definition():
    """The convolutions by scipy, column by column; then attention over them writes."""
    model = models.captioner(5, 6, 7, H, channels=(2, 3), cell=sj.gru)
    params = start(model)
    pictures = jax.random.normal(jax.random.key(8), (B, 5, 6))
    decoder_params, state = jax.jit(model.encode)(params, pictures)
    p = jax.tree.map(np.asarray, params)

    def layer(a, kernel):
        out = np.zeros((*a.shape[:2], kernel.b.size)) + kernel.b
        for c in range(a.shape[2]):
            for d in range(kernel.b.size):
                out[..., d] += scipy.signal.correlate2d(a[..., c], kernel.w[:, :, c, d], mode="same")
        out = np.maximum(out, 0)
        rows, columns = -(-a.shape[0] // 2), -(-a.shape[1] // 2)
        return np.array(
            [[out[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(columns)] for i in range(rows)]
        )

    values = decoder_params.cell.memory.values
    assert values.shape == (2, B, H)
    for b in range(B):
        a = np.asarray(pictures[b])[..., None]
        for kernel in p.kernels:
            a = layer(a, kernel)
        for s in range(2):
            expected = np.tanh(a[:, s].ravel() @ p.columns.w + p.columns.b)
            np.testing.assert_allclose(values[s, b], expected, rtol=1e-10)
    assert sj.sample(model.decoder, decoder_params, state, 0, length=4).symbols.shape == (4, B)
    plain = models.captioner(5, 6, 7, H, channels=(2, 3), context="every_tick", cell=sj.gru)
    q, _ = plain.encode(
        plain.init(jax.random.key(0))._replace(kernels=params.kernels, columns=params.columns), pictures
    )
    np.testing.assert_allclose(q.summary, values.mean(0), rtol=1e-10)


def test_forecaster_adds_to_the_present_value():
    params = start(FRAMES)
    body, readout = params
    cell = sj.lstm(D, H)
    _, hs = sj.unroll(cell, body[0], cell.initial_state(body[0], (B,)), XS)
    _, ys = FRAMES.apply(params, FRAMES.initial_state(params, (B,)), XS)
    np.testing.assert_allclose(ys, XS + hs @ readout.w + readout.b, rtol=1e-12)


def test_drawn_keys_follow_their_logits():
    model = models.next_frame_model(4, H, layers=2)
    params = model.init(jax.random.key(0))
    _, logits = model.apply(params, model.initial_state(params, (B,)), jnp.ones((T, B, 4)))
    assert logits.shape == (T, B, 4)
    probs = jnp.array([0.1, 0.5, 0.8, 0.99])
    drawn = models.draw_keys(jax.random.key(0), jnp.broadcast_to(jnp.log(probs / (1 - probs)), (20_000, 4)))
    np.testing.assert_allclose(drawn.mean(0), probs, atol=0.012)
    state, frame = model.initial_state(params, (B,)), jnp.zeros((B, 4))
    _, roll = sj.free_run(model, params, state, frame, length=5, draw=models.draw_keys, key=jax.random.key(0))
    assert set(np.unique(roll)) <= {0.0, 1.0}


def test_scheduled_sampling_between_teacher_forcing_and_free_running():
    model = models.language_model(5, H, cell=sj.gru)
    params = jax.tree.map(lambda p: 3 * p, model.init(jax.random.key(0)))
    symbols = jnp.asarray(np.random.default_rng(0).integers(0, 5, (T, B)))
    mask = MASKS["lengths"]
    state = model.initial_state(params, (B,))

    def run(rate, key=0, symbols=symbols, params=params):
        return models.scheduled_sampling(model, params, state, symbols, rate=rate, key=jax.random.key(key), mask=mask)

    assert_close(run(0.0), model.apply(params, state, symbols, mask=mask))
    _, free = run(1.0)
    _, other = run(1.0, symbols=symbols.at[1:].set(0))
    assert_close(free, other)
    assert np.abs(run(1.0, key=1)[1] - free).max() > 1e-3
    gradient = jax.grad(lambda p: run(0.5, params=p)[1].sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def successor(params, symbols):
    """Sure that the next symbol is one more than the one just read."""
    return 50.0 * jax.nn.one_hot((symbols + 1) % 50, 50) + params * symbols[..., None].astype(float)


def test_guesses_come_as_often_as_the_rate_says():
    """Each guess is one more than what was read; the truth is always 0, so that reading anything else is a"
    " guess."""
    model = sj.pointwise(successor)
    symbols = jnp.zeros((40, 500), int)
    _, ys = models.scheduled_sampling(model, jnp.zeros(()), (), symbols, rate=0.3, key=jax.random.key(0))
    seen = (np.asarray(ys).argmax(-1) - 1) % 50
    assert not seen[0].any()
    np.testing.assert_allclose((seen[1:] > 0).mean(), 0.3, atol=0.01)
    followed = seen[1:][seen[1:] > 0]
    np.testing.assert_array_equal(followed, seen[:-1][seen[1:] > 0] + 1)
    runs = np.bincount(followed)[1:5]
    np.testing.assert_allclose(runs[1:] / runs[:-1], 0.3, atol=0.05)
    assert models.inverse_sigmoid_decay(10.0)(0) == pytest.approx(1 / 11)
    assert models.inverse_sigmoid_decay(10.0)(30) == pytest.approx(1 - 10 / (10 + np.exp(3)))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: models.classifier(sj.gru(3, 4), 4, 2), TypeError, "classifier: expected a Layer, got Cell"),
        (lambda: models.classifier(sj.dense(3, 4), 4, 2, pool="sum"), ValueError, "expected pool to be one of"),
        (lambda: _apply(models.classifier(sj.recurrent(sj.gru(D, 5)), 4, 2)), ValueError, "classifier: expected"),
        (lambda: models.encoder_decoder(5, 5, 4, context="none"), ValueError, "expected context to be one of"),
        (lambda: models.encoder_decoder(5, 5, 4, reverse_source=True, both_ways=True), ValueError, "got both"),
        (lambda: models.captioner(5, 6, 7, 4, context="state"), ValueError, "expected context to be one of"),
        (lambda: _caption(jnp.zeros((2, 5, 7))), ValueError, r"pictures \[\*batch, 5, 6\], got shape \(2, 5, 7\)"),
        (lambda: models.conditional_objective(FRAMES, sj.cross_entropy), TypeError, "expected a Conditional"),
        (lambda: models.inverse_sigmoid_decay(0.5), ValueError, "a speed of at least 1, got 0.5"),
        (lambda: models.tagger(5, 0), ValueError, "tagger: expected tags to be a whole"),
    ],
)  # fmt: skip
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def _apply(model):
    params = model.init(jax.random.key(0))
    return model.apply(params, model.initial_state(params, (B,)), XS)


def _caption(pictures):
    model = models.captioner(5, 6, 7, 4)
    return model.encode(model.init(jax.random.key(0)), pictures)
