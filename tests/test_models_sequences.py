"""Classifiers, taggers, encoder-decoders, captioners, frames: against their equations, one example at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from laws import MASKS, RESET, assert_close
from reference import cells as reference

import seqjax as sj
from seqjax import models

pytestmark = pytest.mark.usefixtures("equal_ranks")

T, B, D, H = 7, 3, 3, 4
XS = np.random.default_rng(0).normal(size=(T, B, D))
FRAMES = models.forecaster(D, H)


def start(module, seed=1):
    """Parameters of the module's shapes, drawn in NumPy: biases and gains are not what they are initialised to."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(module.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.6, leaf.dtype), shapes)


def arrays(tree):
    return jax.tree.map(np.asarray, tree)


def zeros(cell, size=H):
    """The state that the reference starts from."""
    return (np.zeros(size), np.zeros(size)) if cell is reference.lstm else np.zeros(size)


def log_softmax(x):
    x = np.asarray(x)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("pool", ["last", "mean", "max"])
def test_classifier_pools_the_ticks_since_the_last_reset(pool):
    """Masks, resets, an empty sequence and two chunks, against single examples without any of them."""
    model = models.classifier(sj.recurrent(sj.gru(D, H)), H, 2, pool=pool)
    params = start(model)
    mask, resets = MASKS["holes"], np.asarray(RESET)

    @jax.jit
    def both(params):
        fresh = model.initial_state(params, (B,))
        middle, _ = model.apply(params, fresh, XS[:3], mask=mask[:3], reset=RESET[:3])
        chunks = model.apply(params, middle, XS[3:], mask=mask[3:], reset=RESET[3:])
        return model.apply(params, fresh, XS, mask=mask, reset=RESET), chunks

    whole, chunks = both(params)
    assert_close(whole, chunks)
    _, ys = whole
    body, answer = arrays((params.body, params.answer))
    for b in range(B):
        begin = max(np.flatnonzero(resets[:, b]), default=0)
        real = XS[begin:, b][np.asarray(mask)[begin:, b]]
        pooled = np.zeros(H)
        if len(real):
            _, hs = reference.trajectory(reference.gru_after, body, np.zeros(H), real)
            pooled = {"last": hs[-1], "mean": hs.mean(0), "max": hs.max(0)}[pool]
        np.testing.assert_allclose(ys[b], pooled @ answer.w + answer.b, rtol=1e-10)


@pytest.mark.parametrize("size", [2 * H, (H, 2)], ids=["halves", "unequal"])
def test_classifier_pools_both_ends(size):
    """The forward reader's last output beside the backward one's at the first tick, of the last segment of a chunk."""
    small = size if isinstance(size, int) else sum(size)
    model = models.classifier(sj.bidirectional(sj.gru(D, H), sj.gru(D, small - H)), size, 2, pool="ends")
    params = start(model)
    mask, resets = MASKS["holes"], np.asarray(RESET)

    @jax.jit
    def both(params):
        fresh = model.initial_state(params, (B,))
        middle, _ = model.apply(params, fresh, XS[:3], mask=mask[:3], reset=RESET[:3])
        late = mask.at[3:, 1].set(False)
        chunks = model.apply(params, middle, XS[3:], mask=late[3:], reset=jnp.zeros_like(RESET[3:]))[1]
        ragged = model.apply(params, fresh, XS, lengths=jnp.array([T, 2, 0]))[1]
        return model.apply(params, fresh, XS, mask=mask, reset=RESET)[1], ragged, chunks

    whole, ragged, chunks = both(params)
    (ahead, back), answer = arrays(params.body), arrays(params.answer)
    read = lambda p, real: reference.trajectory(reference.gru_after, p, np.zeros(p.w_h.shape[0]), real)[1]

    def expected(seen, again=None):
        """Of the ticks of a segment; a backward reader sees those of the last chunk only."""
        if not len(seen):
            return answer.b
        h = np.concatenate([read(ahead, seen)[-1], read(back, (seen if again is None else again)[::-1])[-1]])
        return h @ answer.w + answer.b

    for b in range(B):
        begin, real = max(np.flatnonzero(resets[:, b]), default=0), np.asarray(mask)[:, b]
        np.testing.assert_allclose(whole[b], expected(XS[begin:, b][real[begin:]]), rtol=1e-10)
        np.testing.assert_allclose(ragged[b], expected(XS[: (T, 2, 0)[b], b]), rtol=1e-10)
        begin = max(np.flatnonzero(resets[:3, b]), default=0)
        first, second = XS[begin:3, b][real[begin:3]], XS[3:, b][real[3:] & (b != 1)]
        np.testing.assert_allclose(
            chunks[b], expected(np.concatenate([first, second]), second if len(second) else first), rtol=1e-10
        )


def test_one_to_one_is_a_feed_forward_net():
    """C1: one tick of a recurrent classifier is a net with one hidden layer."""
    model = models.classifier(sj.recurrent(sj.elman(D, H)), H, 2)
    params = start(model)
    _, ys = jax.jit(model.apply)(params, jax.jit(model.initial_state, static_argnums=1)(params, (B,)), XS[:1])
    p = arrays(params)
    hidden = np.tanh(XS[0] @ p.body.w_x + p.body.b)
    np.testing.assert_allclose(ys, hidden @ p.answer.w + p.answer.b, rtol=1e-12)


def test_the_other_shapes_of_problem():
    """C1: aligned many to many, one to many, unaligned many to many, each with a loss to train on."""
    tags = sj.serial(sj.recurrent(sj.elman(D, H)), sj.dense(H, 2))
    params = start(tags)
    batch = sj.Batch(XS, jnp.zeros((T, B), int))
    loss = sj.objective(tags, sj.cross_entropy)
    _, tally = jax.jit(lambda params: loss(params, tags.initial_state(params, (B,)), batch))(params)
    assert tally.count == T * B
    model = models.classifier(sj.recurrent(sj.elman(D, H)), H, 2)
    params = start(model)
    loss = sj.objective(model, models.one_answer(sj.cross_entropy))
    batch = sj.Batch(XS, jnp.array([0, 1, 1]), MASKS["lengths"])

    @jax.jit
    def run(params):
        state = model.initial_state(params, (B,))
        return loss(params, state, batch)[1], model.apply(params, state, XS, mask=batch.mask)[1]

    tally, ys = run(params)
    assert tally.count == 2
    np.testing.assert_allclose(tally.sum, -log_softmax(ys)[[0, 1], [0, 1]].sum(), rtol=1e-10)
    params = start(FRAMES)
    _, frames = sj.free_run(FRAMES, params, FRAMES.initial_state(params), jnp.ones(D), length=4)
    assert frames.shape == (4, D)


def test_tagger_reads_the_spelling_of_every_word():
    """Each word's characters read alone, forwards and backwards, then the words in both directions."""
    model = models.tagger(
        9, 4, embedding_size=3, hidden_size=H, characters=6, character_size=2, character_hidden_size=2
    )
    params = start(model)
    lengths = np.array([[4, 1, 2], [3, 3, 1], [1, 4, 4], [2, 2, 2], [4, 4, 1], [1, 1, 1], [3, 2, 1]])
    rng = np.random.default_rng(4)
    letters = rng.integers(1, 6, (T, B, 4)) * (np.arange(4) < lengths[..., None])
    ids = rng.integers(0, 9, (T, B))
    words = models.Words(jnp.asarray(ids), jnp.asarray(letters))
    run = jax.jit(lambda p: model.apply(p, model.initial_state(p, (B,)), words, mask=MASKS["lengths"]))
    _, ys = run(params)
    spelling, body, readout = arrays(params)
    read = lambda p, xs, size: reference.trajectory(reference.lstm, p, zeros(reference.lstm, size), np.stack(xs))[1]
    for b, n in enumerate((7, 4)):
        vectors = []
        for t in range(n):
            word = letters[t, b][letters[t, b] > 0]
            ends = []
            for p, order in ((spelling.forward, word), (spelling.backward, word[::-1])):
                ends.append(read(p, spelling.characters[order], 2)[-1])
            vectors.append(np.concatenate([spelling.words[ids[t, b]], *ends]))
        forwards, backwards = read(body[0].forward, vectors, H), read(body[0].backward, vectors[::-1], H)[::-1]
        hs = np.concatenate([forwards, backwards], -1)
        np.testing.assert_allclose(ys[:n, b], hs @ readout.w + readout.b, rtol=1e-10)


@pytest.mark.parametrize("both_ways", [False, True])
def test_only_two_directions_see_later_words(both_ways):
    model = models.tagger(9, 4, embedding_size=3, hidden_size=H, both_ways=both_ways, layers=2)
    params = start(model)
    ids = jnp.array([[1, 1], [2, 2], [3, 4]])
    ys = np.asarray(jax.jit(lambda p: model.apply(p, model.initial_state(p, (2,)), ids)[1])(params))
    assert (np.abs(ys[0, 0] - ys[0, 1]).max() > 1e-6) == both_ways
    assert np.abs(ys[2, 0] - ys[2, 1]).max() > 1e-6


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
    """One example, tick by tick, in NumPy from the drawing of the model."""
    one = reference.lstm if cell is sj.lstm else reference.gru_after

    def step(p, state, x):
        new = []
        for layer, s in zip(p, state, strict=True):
            s, x = one(layer, s, x)
            new.append(s)
        return new, x

    def read(p, xs):
        return reference.trajectory(step, p, [zeros(one)] * layers, xs)

    xs = params.embedding.w[symbols]
    if both_ways:
        state, forwards = read(params.encoder.forward, xs)
        _, backwards = read(params.encoder.backward, xs[::-1])
        outputs = np.concatenate([forwards, backwards[::-1]], -1)
        summary = np.concatenate([forwards[-1], backwards[-1]])
    else:
        state, outputs = read(params.encoder, xs[::-1] if reverse_source else xs)
        summary = outputs[-1]
        outputs = outputs[::-1] if reverse_source else outputs
    p, m = params.decoder, H * (1 + both_ways)
    inner, logits = p.cell, []
    if context == "attention":
        inner, looked = p.cell.cell, np.zeros(m)
    for symbol in target:
        x = p.embedding.w[symbol]
        if context == "state":
            state, h = step(inner, state, x)
        elif context == "every_tick":
            state, h = step(inner, state, np.concatenate([x, summary]))
            h = np.concatenate([h, summary])
        else:
            state, h = step(inner, state, np.concatenate([x, looked]))
            scores = np.array([np.tanh(h @ p.cell.w_q + value @ p.cell.w_m) @ p.cell.v for value in outputs])
            weights = np.exp(scores) / np.exp(scores).sum()
            looked = weights @ outputs
            h = np.concatenate([h, looked])
        logits.append(h @ p.readout.w + p.readout.b)
    return np.stack(logits)


@pytest.mark.parametrize("case", OPTIONS)
def test_encoder_decoder_by_hand(case):
    """Padded batches against single examples: context, order of reading, state hand-over; then decoding."""
    options = OPTIONS[case]
    model = models.encoder_decoder(6, 5, H, embedding_size=3, **options)
    params = start(model)

    @jax.jit
    def run(params):
        decoder_params, state = model.encode(params, models.Source(jnp.asarray(SOURCE), SOURCE_MASK))
        return decoder_params, state, model.decoder.apply(decoder_params, state, TARGET)[1]

    decoder_params, state, logits = run(params)
    p, target = arrays(params), np.asarray(TARGET)
    for b, n in enumerate(SOURCE_LENGTHS):
        np.testing.assert_allclose(logits[:, b], by_hand(p, SOURCE[:n, b], target[:, b], **options), rtol=1e-9)
    if case == "attention":
        decoded = sj.sample(model.decoder, decoder_params, state, 0, length=3)
        inputs = jnp.concatenate([jnp.zeros((1, 3), jnp.int32), decoded.symbols[:-1]])
        _, logits = jax.jit(model.decoder.apply)(decoder_params, state, inputs)
        np.testing.assert_array_equal(decoded.symbols, logits.argmax(-1))
        found = sj.beam_search(model.decoder, decoder_params, state, 0, length=3, width=1)
        np.testing.assert_array_equal(found.symbols[0], decoded.symbols)


def test_encoder_and_decoder_learn_separately_and_together():
    """One loss, gradients for every weight of both networks, none shared; masked targets change nothing."""
    model = models.encoder_decoder(6, 5, H, context="attention", cell=sj.gru)
    params = start(model)
    objective = models.conditional_objective(model, sj.cross_entropy)
    mask = jnp.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
    source = models.Source(jnp.asarray(SOURCE), SOURCE_MASK)

    @jax.jit
    @jax.grad
    def gradient(params, targets):
        return objective(params, (), sj.Batch((source, TARGET), targets, mask))[1].sum

    g = gradient(params, TARGET)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(g))
    assert_close(g, gradient(params, jnp.where(mask, TARGET, 4)))


def test_a_captioner_reads_no_pictures_and_many_axes():
    """An empty batch stays empty; two batch axes are one, reshaped."""
    model = models.captioner(5, 6, 7, H, channels=(2,), context="every_tick")
    params = start(model)
    decoder_params, state = model.encode(params, jnp.zeros((0, 5, 6)))
    assert sj.sample(model.decoder, decoder_params, state, 2, length=3).symbols.shape == (3, 0)
    pictures = np.random.default_rng(0).normal(size=(6, 5, 6))
    flat, square = (model.encode(params, p)[0].summary for p in (pictures, pictures.reshape(2, 3, 5, 6)))
    assert_close(flat.reshape(2, 3, H), square)


@pytest.mark.parametrize("context", ["every_tick", "attention"])
def test_a_decoder_asks_for_what_was_read(context):
    decoder = models.encoder_decoder(5, 5, H, context=context).decoder
    params, state = start(models.encoder_decoder(5, 5, H, context=context)).decoder, np.zeros((2, H))
    with pytest.raises(ValueError, match=r"decoder: expected parameters with what was read inside.* encode\("):
        decoder.apply(params, state, jnp.zeros((3, 2), int))


def test_captioner_by_definition():
    """The convolutions by scipy, column by column; then attention over them writes."""
    model = models.captioner(5, 6, 7, H, channels=(2, 3), cell=sj.gru)
    params = start(model)
    pictures = np.random.default_rng(8).normal(size=(B, 5, 6))
    plain = models.captioner(5, 6, 7, H, channels=(2, 3), context="every_tick", cell=sj.gru)

    @jax.jit
    def encode(params, others):
        others = others._replace(kernels=params.kernels, columns=params.columns)
        return *model.encode(params, pictures), plain.encode(others, pictures)[0].summary

    decoder_params, state, summary = encode(params, start(plain))
    p = arrays(params)

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

    values = np.asarray(decoder_params.cell.memory.values)
    assert values.shape == (2, B, H)
    for b in range(B):
        a = pictures[b, ..., None]
        for kernel in p.kernels:
            a = layer(a, kernel)
        for s in range(2):
            expected = np.tanh(a[:, s].ravel() @ p.columns.w + p.columns.b)
            np.testing.assert_allclose(values[s, b], expected, rtol=1e-10)
    assert sj.sample(model.decoder, decoder_params, state, 0, length=4).symbols.shape == (4, B)
    np.testing.assert_allclose(summary, values.mean(0), rtol=1e-10)


@pytest.mark.parametrize("context", ["state", "first"])
@pytest.mark.parametrize("colours", [None, 3])
def test_a_captioner_that_sees_its_picture_once(context, colours):
    """Convolution by scipy over colours, all columns in order; the writer, an LSTM in NumPy, sees nothing later."""
    model = models.captioner(5, 6, 7, H, channels=(2,), context=context, colours=colours)
    params = start(model)
    p, rng = arrays(params), np.random.default_rng(8)
    pictures = rng.normal(size=(B, 5, 6) if colours is None else (B, 5, 6, colours))
    decoder_params, state = model.encode(params, pictures)
    _, logits = model.decoder.apply(decoder_params, state, np.full((2, B), 4))

    def lstm(x, h, c):
        i, f, g, o = np.split(x @ p.decoder.cell.w_x + h @ p.decoder.cell.w_h + p.decoder.cell.b, 4)
        sigmoid = lambda a: 1 / (1 + np.exp(-a))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    (kernel,) = p.kernels
    for b in range(B):
        picture = pictures[b].reshape(5, 6, -1)
        a = np.zeros((5, 6, 2)) + kernel.b
        for c in range(picture.shape[2]):
            for d in range(2):
                a[..., d] += scipy.signal.correlate2d(picture[..., c], kernel.w[:, :, c, d], mode="same")
        a = np.maximum(a, 0)
        columns = [[a[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for i in range(3)] for j in range(3)]
        seen = np.tanh(np.ravel(columns) @ p.columns.w + p.columns.b)
        h, c = np.split(seen, 2) if context == "state" else lstm(seen, np.zeros(H), np.zeros(H))
        for t in range(2):
            h, c = lstm(p.decoder.embedding.w[4], h, c)
            np.testing.assert_allclose(logits[t, b], h @ p.decoder.readout.w + p.decoder.readout.b, rtol=1e-9)
    if colours:
        with pytest.raises(ValueError, match=r"expected pictures \[\*batch, 5, 6, 3\], got shape \(4, 5, 6\)"):
            model.encode(params, np.zeros((4, 5, 6)))


def test_forecaster_adds_to_the_present_value():
    params = start(FRAMES)
    _, ys = jax.jit(lambda p: FRAMES.apply(p, FRAMES.initial_state(p, (B,)), XS))(params)
    body, readout = arrays(params)
    for b in range(B):
        _, hs = reference.trajectory(reference.lstm, body[0], zeros(reference.lstm), XS[:, b])
        np.testing.assert_allclose(ys[:, b], XS[:, b] + hs @ readout.w + readout.b, rtol=1e-12)


def test_drawn_keys_follow_their_logits():
    model = models.next_frame_model(4, H, layers=2)
    params = start(model)
    logits = jax.eval_shape(lambda p: model.apply(p, model.initial_state(p, (B,)), jnp.ones((T, B, 4)))[1], params)
    assert logits.shape == (T, B, 4)
    probs = np.array([0.1, 0.5, 0.8, 0.99])
    logits = jnp.asarray(np.tile(np.log(probs / (1 - probs)), (20_000, 1)))
    drawn = np.asarray(models.draw_keys(jax.random.key(0), logits))
    np.testing.assert_allclose(drawn.mean(0), probs, atol=0.012)
    state, frame = model.initial_state(params, (B,)), jnp.zeros((B, 4))
    _, roll = sj.free_run(model, params, state, frame, length=5, draw=models.draw_keys, key=jax.random.key(0))
    assert set(np.unique(roll)) <= {0.0, 1.0}


def test_scheduled_sampling_between_teacher_forcing_and_free_running():
    model = models.language_model(5, H, cell=sj.gru)
    params = start(model)
    symbols = np.random.default_rng(0).integers(0, 5, (T, B))
    mask = MASKS["lengths"]

    @jax.jit
    def run(rate, key, symbols):
        def scored(params):
            state = model.initial_state(params, (B,))
            end, ys = models.scheduled_sampling(model, params, state, symbols, rate=rate, key=key, mask=mask)
            return ys.sum(), (end, ys, model.apply(params, state, symbols, mask=mask))

        (_, (end, ys, forced)), gradient = jax.value_and_grad(scored, has_aux=True)(params)
        return (end, ys), forced, gradient

    one, two = jax.random.key(0), jax.random.key(1)
    found, forced, _ = run(0.0, one, symbols)
    assert_close(found, forced)
    (_, free), _, _ = run(1.0, one, symbols)
    (_, other), _, _ = run(1.0, one, np.where(np.arange(T)[:, None] > 0, 0, symbols))
    assert_close(free, other)
    (_, redrawn), _, _ = run(1.0, two, symbols)
    assert np.abs(np.asarray(redrawn) - np.asarray(free)).max() > 1e-3
    _, _, gradient = run(0.5, one, symbols)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def successor(params, symbols):
    """Sure that the next symbol is one more than the one just read."""
    return 50.0 * jax.nn.one_hot((symbols + 1) % 50, 50) + params * symbols[..., None].astype(float)


@pytest.mark.slow
def test_rare_draws_are_as_rare_from_bfloat16():
    """Probabilities and rates below 1/128, the step of bfloat16 near 1."""
    rare, n = 0.002, 300_000
    logits = jnp.full(n, np.log(rare / (1 - rare)), jnp.bfloat16)
    expected = n / (1 + np.exp(-float(logits[0])))
    assert abs(int(models.draw_keys(jax.random.key(0), logits).sum()) - expected) < 5 * np.sqrt(expected)

    def narrow(params, xs):
        return 9 * jax.nn.one_hot(xs + 1, 5, dtype=jnp.bfloat16)

    symbols = jnp.zeros((300, 1000), int)
    run = jax.jit(lambda key: models.scheduled_sampling(sj.pointwise(narrow), (), (), symbols, rate=rare, key=key)[1])
    guessed = int((run(jax.random.key(1)).argmax(-1) != 1).sum())  # the truth is always 0
    assert abs(guessed - rare * n) < 5 * np.sqrt(rare * n)


def test_guesses_come_as_often_as_the_rate_says():
    """Each guess is one more than what was read; the truth is always 0, so that reading anything else is a guess."""
    model = sj.pointwise(successor)
    symbols = jnp.zeros((40, 500), int)
    run = jax.jit(lambda key: models.scheduled_sampling(model, jnp.zeros(()), (), symbols, rate=0.3, key=key)[1])
    ys = run(jax.random.key(0))
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
        (lambda: models.classifier(sj.dense(3, 5), 5, 2, pool="ends"), ValueError, "expected an even size with"),
        (lambda: models.classifier(sj.dense(3, 5), (3, 2), 2), ValueError, r"expected size to be a whole number, or"),
        (lambda: models.classifier(sj.dense(3, 5), (5, 0), 2, pool="ends"), ValueError, "expected backward to be a"),
        (lambda: _apply(models.classifier(sj.recurrent(sj.gru(D, 5)), 4, 2)), ValueError, "classifier: expected"),
        (lambda: models.encoder_decoder(5, 5, 4, context="none"), ValueError, "expected context to be one of"),
        (lambda: models.encoder_decoder(5, 5, 4, reverse_source=True, both_ways=True), ValueError, "got both"),
        (lambda: models.captioner(5, 6, 7, 4, context="once"), ValueError, "expected context to be one of"),
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
    return jax.eval_shape(lambda params: model.apply(params, model.initial_state(params, (B,)), XS), start(model))


def _caption(pictures):
    model = models.captioner(5, 6, 7, 4)
    return jax.eval_shape(model.encode, start(model), pictures)
