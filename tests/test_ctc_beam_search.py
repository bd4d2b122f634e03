"""Prefix beam search against all paths written out, and against a search with dictionaries."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import no_compiles
from small_language import log_softmax
from test_ctc import collapsed

import seqjax as sj
from seqjax import losses

pytestmark = pytest.mark.usefixtures("equal_ranks")

T, B, V, BLANK = 5, 3, 4, 1
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(T, B, V)) * 2
LOGITS[1, 0, 2] = LOGITS[3, 1, BLANK] = -np.inf
MASK = np.ones((T, B), bool)
MASK[3:, 2] = MASK[1, 1] = False
PADDED = np.where(MASK[..., None], LOGITS, np.nan)
LM = sj.serial(sj.embedding(V, 4), sj.recurrent(sj.gru(4, 6)), sj.dense(6, V))
LM_PARAMS = jax.tree.map(lambda p: 3 * p, LM.init(jax.random.key(0)))
FUSIONS = {"alone": None, "fused": sj.decoding.Fusion(LM, LM_PARAMS, 0.7, 0.4)}
SYMBOLS = [k for k in range(V) if k != BLANK]


def log_q(text):
    """log q of each symbol behind those before it, and of the end."""
    read = jnp.array([BLANK, *text])
    log_probs = log_softmax(LM.apply(LM_PARAMS, LM.initial_state(LM_PARAMS), read)[1])
    return [log_probs[i, k] for i, k in enumerate((*text, BLANK))]


def real(b):
    return log_softmax(LOGITS[MASK[:, b], b])


def by_enumeration(b, fused, length=T):
    """Everything that can be said, best first: score, log p, symbols."""
    log_probs = real(b)
    said = {}
    for path in itertools.product(range(V), repeat=len(log_probs)):
        text = collapsed(path, BLANK)
        said.setdefault(text, []).append(sum(log_probs[t, k] for t, k in enumerate(path)))
    log_p = {text: np.logaddexp.reduce(scores) for text, scores in said.items() if len(text) <= length}
    possible = {text: p for text, p in log_p.items() if p > -np.inf}
    return ranked(possible, fused)


def ranked(log_p, fused):
    more = {text: 0.7 * sum(log_q(text)) + 0.4 * len(text) if fused else 0.0 for text in log_p}
    return sorted(((p + more[text], p, text) for text, p in log_p.items()), reverse=True)


def found(hypotheses, b):
    h = jax.tree.map(lambda leaf: np.asarray(leaf)[..., b], hypotheses)
    assert all((h.symbols[k, n:] == BLANK).all() for k, n in enumerate(h.lengths))
    texts = [tuple(h.symbols[k, :n].tolist()) for k, n in enumerate(h.lengths)]
    alive = np.isfinite(h.scores)
    assert not alive[alive.sum() :].any()
    return [(*row, text) for *row, text, here in zip(h.scores, h.log_probs, texts, alive) if here]


def compare(got, expected):
    assert [text for *_, text in got] == [text for *_, text in expected]
    for i in range(2):
        np.testing.assert_allclose([row[i] for row in got], [row[i] for row in expected], rtol=1e-10)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_wide_beam_equals_the_enumeration_of_all_paths(name):
    """Order, scores, and log p; what is padded is NaN, some symbols are ruled out."""
    hypotheses = sj.decoding.ctc_beam_search(PADDED, MASK, width=150, blank=BLANK, fusion=FUSIONS[name])
    for b in range(B):
        expected = by_enumeration(b, name == "fused")
        assert 10 < len(expected) < 150
        compare(found(hypotheses, b), expected)
        assert np.logaddexp.reduce([p for _, p, _ in expected]) == pytest.approx(0, abs=1e-12)


def with_dictionaries(b, width, fused):
    """The search as it is usually written: beginnings in a dictionary, log b and log n of each."""
    beam = {(): (0.0, -np.inf)}
    for log_p in real(b):
        new = {}

        def add(text, place, value, new=new):
            pair = list(new.get(text, (-np.inf, -np.inf)))
            pair[place] = np.logaddexp(pair[place], value)
            new[text] = tuple(pair)

        for text, (blank, symbol) in beam.items():
            add(text, 0, np.logaddexp(blank, symbol) + log_p[BLANK])
            for k in SYMBOLS:
                if text and text[-1] == k:
                    add(text, 1, symbol + log_p[k])
                    add((*text, k), 1, blank + log_p[k])
                else:
                    add((*text, k), 1, np.logaddexp(blank, symbol) + log_p[k])
        scores = {
            text: np.logaddexp(*pair) + (0.7 * sum(log_q(text)[:-1]) + 0.4 * len(text) if fused else 0.0)
            for text, pair in new.items()
        }
        kept = sorted((text for text in scores if scores[text] > -np.inf), key=lambda text: -scores[text])[:width]
        beam = {text: new[text] for text in kept}
    return ranked({text: np.logaddexp(*pair) for text, pair in beam.items()}, fused)


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_narrow_beams_equal_a_search_with_dictionaries(width, name):
    hypotheses = sj.decoding.ctc_beam_search(LOGITS, MASK, width=width, blank=BLANK, fusion=FUSIONS[name])
    for b in range(B):
        compare(found(hypotheses, b), with_dictionaries(b, width, name == "fused"))


def test_log_p_is_that_of_the_loss():
    """Of every transcript of a wide beam, by the forward algorithm."""
    hypotheses = sj.decoding.ctc_beam_search(LOGITS[:, 2], width=100, blank=BLANK)
    n = int(np.isfinite(hypotheses.scores).sum())
    symbols = hypotheses.symbols[:n].T
    labels = sj.Labels(symbols, symbols != BLANK)
    copies = jnp.broadcast_to(jnp.asarray(LOGITS[:, 2, None]), (T, n, V))
    np.testing.assert_allclose(losses.ctc_losses(copies, labels, blank=BLANK), -hypotheses.log_probs[:n], rtol=1e-9)


def test_at_most_so_many_symbols():
    hypotheses = sj.decoding.ctc_beam_search(LOGITS, MASK, width=60, blank=BLANK, length=2)
    assert hypotheses.symbols.shape == (60, 2, B)
    for b in range(B):
        compare(found(hypotheses, b), by_enumeration(b, False, length=2))


def test_batch_axes_and_a_single_sequence():
    """Each as if it were alone, under jit too."""
    options = {"width": 4, "blank": BLANK, "fusion": FUSIONS["fused"]}
    logits = LOGITS[:, [[0, 1, 2], [2, 1, 0]]]
    together = jax.jit(lambda x: sj.decoding.ctc_beam_search(x, **options))(logits)
    assert together.symbols.shape == (4, T, 2, 3)
    for i, j in itertools.product(range(2), range(3)):
        alone = sj.decoding.ctc_beam_search(logits[:, i, j], **options)
        np.testing.assert_array_equal(together.symbols[..., i, j], alone.symbols)
        np.testing.assert_allclose(together.scores[..., i, j], alone.scores, rtol=1e-12)


def test_a_weight_of_zero_is_no_language_model():
    """Even where it rules symbols out; the weight may be traced, and nothing is compiled for another one."""
    never = sj.pointwise(lambda params, x: jnp.broadcast_to(params, (*x.shape, V)))
    impossible = jnp.full(V, -jnp.inf).at[BLANK].set(0.0)

    def search(weight, bonus):
        fusion = sj.decoding.Fusion(never, impossible, weight, bonus)
        return sj.decoding.ctc_beam_search(LOGITS, width=5, blank=BLANK, fusion=fusion)

    alone = sj.decoding.ctc_beam_search(LOGITS, width=5, blank=BLANK)
    np.testing.assert_array_equal(search(0.0, 0.0).symbols, alone.symbols)
    with no_compiles():
        found = search(1.0, 0.3)
    assert not np.asarray(found.lengths)[0].any()


def test_what_cannot_be_searched_is_refused():
    short = sj.serial(sj.embedding(V, 4), sj.dense(4, V - 1))
    cases = [
        ({"width": 0}, "expected width to be a whole number of at least 1, got 0"),
        ({"width": 2, "length": 0}, "expected length to be a whole number of at least 1, got 0"),
        ({"width": 2, "blank": V}, "expected a blank from 0 to 3, got 4. Give one of the outputs."),
        ({"width": 2, "mask": MASK[:4]}, "expected mask of shape (5, 3) like the logits"),
        ({"width": 2, "fusion": sj.decoding.Fusion(LM, LM_PARAMS, -1.0)}, "expected a weight of at least 0, got -1.0."),
        (
            {"width": 2, "fusion": sj.decoding.Fusion(short, short.init(jax.random.key(0)))},
            "expected the language model's logits of shape (2, 4) like the outputs, got (2, 3).",
        ),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=re.escape(f"ctc_beam_search: {message}")):
            sj.decoding.ctc_beam_search(LOGITS, **({"blank": BLANK} | options))
