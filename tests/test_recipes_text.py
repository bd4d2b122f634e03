"""Scoring, writing and the bigram baseline, against plain loops."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.recipes.language import ngrams, text
from seqjax.tasks.texts import read_text
from seqjax.tasks.vocabulary import Vocabulary

V = 5


@pytest.fixture(scope="module")
def model():
    return sj.serial(sj.embedding(V, 3), sj.recurrent(sj.lstm(3, 4)), sj.dense(4, V))


@pytest.fixture(scope="module")
def params(model):
    return jax.tree.map(lambda p: 3 * p, model.init(jax.random.key(0)))


def log_probabilities(model, params, numbers):
    """Ln p(x_t | x_1 … x_{t-1}) for t = 2 …, one tick a call."""
    state, found = model.initial_state(params), []
    for here, after in itertools.pairwise(numbers):
        state, logits = model.apply(params, state, jnp.array([here]))
        found.append(jax.nn.log_softmax(logits[0])[after].item())
    return np.array(found)


NUMBERS = np.random.default_rng(0).integers(0, V, 41).astype(np.int32)


@pytest.mark.parametrize(("columns", "lead"), [(1, 0), (3, 40), (7, 40)])
def test_log_loss_is_minus_the_log_probability(model, params, columns, lead, monkeypatch):
    # With a lead as long as the text every column has read all before it: then columns are exact too.
    monkeypatch.setattr(text, "TICKS", 16)
    nats, count = text.log_loss(text.scorer(model), model, params, NUMBERS, columns=columns, lead=lead)
    assert count == 40
    np.testing.assert_allclose(nats, -log_probabilities(model, params, NUMBERS).sum(), rtol=1e-12)


def test_columns_without_lead_start_from_the_initial_state(model, params):
    nats, _ = text.log_loss(text.scorer(model), model, params, NUMBERS, columns=2, lead=0)
    halves = [log_probabilities(model, params, NUMBERS[a:b]).sum() for a, b in ((0, 21), (20, 41))]
    np.testing.assert_allclose(nats, -sum(halves), rtol=1e-12)


@pytest.mark.slow
def test_writing_at_temperature_0_takes_the_likeliest_character(model, params):
    written = text.write(model, params, NUMBERS[:6], length=12, temperature=0.0, seed=0)
    read = NUMBERS[:6].tolist()
    for symbol in written:
        _, logits = model.apply(params, model.initial_state(params), jnp.array(read))
        assert int(symbol) == int(logits[-1].argmax())
        read.append(int(symbol))
    assert len(set(written.tolist())) > 1


def test_writing_draws_from_the_tempered_distribution(model, params):
    # A model that ignores what it reads: each character is an independent draw from softmax(b / temperature).
    b = jnp.array([0.0, 1.0, -1.0, 0.5, 2.0])
    flat = (params[0], params[1], sj.DenseParams(jnp.zeros((4, V)), b))
    written = text.write(model, flat, NUMBERS[:1], length=20_000, temperature=0.7, seed=1)
    found = np.bincount(written, minlength=V) / 20_000
    p = np.exp(np.array(b) / 0.7)
    p /= p.sum()
    assert (np.abs(found - p) < 4 * np.sqrt(p * (1 - p) / 20_000)).all()


def test_bigram_model_equals_counting_by_hand():
    train, test = (
        "the cat sat on the mat; a cat ate",
        "that act, e!",
    )  # "," and "!" occur in the test text only
    vocabulary = Vocabulary.build([train + test], specials=())
    single, pairs = Counter(train), Counter(itertools.pairwise(train))
    kinds, size = len(single), len(vocabulary)

    def unigram(c):
        return (single[c] + kinds / size) / (len(train) + kinds)

    def bigram(h, c):
        followers = {b for a, b in pairs if a == h}
        total = sum(n for (a, _), n in pairs.items() if a == h)
        if not followers:
            return unigram(c)
        return (pairs[h, c] + len(followers) * unigram(c)) / (total + len(followers))

    for h in vocabulary.symbols:
        assert sum(bigram(h, c) for c in vocabulary.symbols) == pytest.approx(1)
    expected = -np.mean([np.log(bigram(h, c)) for h, c in itertools.pairwise(test)])
    found = ngrams.ngram_nats(vocabulary.encode(train), vocabulary.encode(test), size, 2)[1]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.shared_data
@pytest.mark.slow
def test_floors_of_tiny_shakespeare(shared_data):
    whole = read_text(shared_data / "tinyshakespeare" / "input.txt")
    vocabulary = Vocabulary.build([whole], specials=())
    train, held_back = np.split(vocabulary.encode(whole), [int(0.9 * len(whole))])
    assert len(vocabulary) == 65
    found = ngrams.ngram_nats(train, held_back, 65, 5)
    assert [found[order - 1] for order in (2, 3, 5)] == pytest.approx([2.486, 2.049, 1.669], abs=1e-3)


def test_the_standard_library_is_text_of_the_asked_size():
    short, long = text.standard_library(10_000), text.standard_library(300_000)
    assert 10_000 <= len(short) < len(long)
    assert long.startswith(short)
    assert "def " in short
    assert 300_000 <= len(long) < 600_000
