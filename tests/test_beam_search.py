"""Beam search against the enumeration of all sequences, and against a search with lists."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_language import (
    BIG,
    BIG_PARAMS,
    EOS,
    FIRST,
    LAYER,
    PARAMS,
    TABLE,
    H,
    V,
    in_language,
    log_softmax,
    states,
    step,
)

import seqjax as sj

pytestmark = pytest.mark.usefixtures("equal_ranks")

SYMBOLS = (EOS, 2, 3, 5)
OTHERS = tuple(w for w in range(30) if w not in SYMBOLS)


def all_sequences(length):
    """Every sequence that ends in <eos>, and every unfinished one of full length."""
    body = [w for w in SYMBOLS if w != EOS]
    ended = [(*b, EOS) for n in range(length) for b in itertools.product(body, repeat=n)]
    return ended + list(itertools.product(body, repeat=length))


def big_scores(first, sequences):
    """Σ log p of many sequences, by the model in one chunk."""
    length = max(map(len, sequences))
    padded = np.array([(*s, *[0] * (length - len(s))) for s in sequences]).T
    inputs = np.concatenate([np.full((1, len(sequences)), first), padded[:-1]])
    _, ys = BIG.apply(BIG_PARAMS, BIG.initial_state(BIG_PARAMS, (len(sequences),)), jnp.asarray(inputs))
    log_probs = np.take_along_axis(log_softmax(ys), padded[..., None], -1)[..., 0]
    return (log_probs * (np.arange(length)[:, None] < [len(s) for s in sequences])).sum(0)


def brute_force(first, length, alpha, legal):
    sequences = [s for s in all_sequences(length) if legal(s)]
    log_probs = big_scores(first, sequences)
    scores = log_probs / ((5 + np.array([len(s) for s in sequences])) / 6) ** alpha
    return sorted(zip(scores, log_probs, sequences), reverse=True)


BIG_TABLE = np.full((3, 30), -1)
BIG_TABLE[:, :V] = TABLE
CASES = {
    "plain": (4, {"forbidden": OTHERS}, lambda s: True),
    "penalty": (4, {"forbidden": OTHERS, "length_penalty": 0.9}, lambda s: True),
    "heavy_penalty": (4, {"forbidden": OTHERS, "length_penalty": 3.0}, lambda s: True),
    "prefix": (4, {"forbidden": OTHERS, "prefix": jnp.array([5, 2])}, lambda s: s[:2] == (5, 2)),
    "machine": (6, {"rules": [sj.state_machine(BIG_TABLE)]}, in_language),
    "no_repeat": (3, {"forbidden": OTHERS, "no_repeat_ngram": 1}, lambda s: len({3, *s}) == len(s) + 1),
}


@pytest.mark.parametrize("case", CASES)
def test_beam_search_equals_brute_force(case):
    """Wide enough to hold all beginnings, the beam finds the K best of all sequences, in order."""
    length, options, legal = CASES[case]
    expected = brute_force(3, length, options.get("length_penalty", 0.0), legal)[:30]
    state = BIG.initial_state(BIG_PARAMS)
    found = sj.beam_search(BIG, BIG_PARAMS, state, 3, length=length, width=30, eos=EOS, **options)
    found = jax.tree.map(np.asarray, found)
    n = len(expected)
    lengths = found.lengths.tolist()
    assert [tuple(found.symbols[k, : lengths[k]].tolist()) for k in range(n)] == [s for *_, s in expected]
    np.testing.assert_allclose(found.scores[:n], [score for score, *_ in expected], rtol=1e-10)
    np.testing.assert_allclose(found.log_probs[:n], [log_prob for _, log_prob, _ in expected], rtol=1e-10)
    assert np.isneginf(found.scores[n:]).all()
    for k in range(n):
        assert (found.symbols[k, lengths[k] :] == EOS).all()


def reference_beam(first, length, width, eos, alpha):
    """The same search with lists and one example."""

    def total(log_prob, n):
        return log_prob / ((5 + n) / 6) ** alpha

    alive = [(0.0, (), LAYER.initial_state(PARAMS), first)]
    finished = []
    for t in range(length):
        grown = []
        for log_prob, symbols, state, last in alive:
            state, log_probs = step(state, last)
            for w in range(V):
                item = (log_prob + log_probs[w], (*symbols, w), state, w)
                if w == eos:
                    finished.append((total(item[0], t + 1), item[1]))
                else:
                    grown.append(item)
        alive = sorted(grown, key=lambda item: -item[0])[:width]
        finished = sorted(finished, reverse=True)[:width]
    return sorted([*finished, *((total(a[0], length), a[1]) for a in alive)], reverse=True)[:width]


@pytest.mark.parametrize(("width", "alpha"), [(1, 0.0), (2, 0.0), (3, 0.7)])
def test_narrow_beams_equal_a_search_with_lists(width, alpha):
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=8, width=width, eos=EOS, length_penalty=alpha)
    found = jax.tree.map(np.asarray, found)
    for b, f in enumerate(FIRST):
        expected = reference_beam(int(f), 8, width, EOS, alpha)
        got = [tuple(found.symbols[k, : found.lengths[k, b], b].tolist()) for k in range(width)]
        assert got == [symbols for _, symbols in expected]
        np.testing.assert_allclose(found.scores[:, b], [total for total, _ in expected], rtol=1e-10)


def test_the_length_penalty_may_be_traced():
    """One program for all penalties, which are those given as numbers."""

    def search(alpha):
        return sj.beam_search(LAYER, PARAMS, states(), FIRST, length=6, width=3, eos=EOS, length_penalty=alpha)

    alphas = jnp.array([0.0, 0.6, 2.0])
    together = jax.vmap(search)(alphas)
    for i, alpha in enumerate(alphas.tolist()):
        alone = search(alpha)
        np.testing.assert_array_equal(together.symbols[i], alone.symbols)
        np.testing.assert_allclose(together.scores[i], alone.scores, rtol=1e-12)


def test_what_was_not_found_is_empty():
    """A prefix leaves one sequence of its length: the other places hold nothing."""
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=2, width=3, eos=EOS, prefix=jnp.array([2, 4]))
    np.testing.assert_array_equal(found.lengths[0], 2)
    np.testing.assert_array_equal(found.symbols[0].T, [[2, 4]] * 4)
    assert not found.lengths[1:].any()
    assert np.isneginf(found.scores[1:]).all()
    np.testing.assert_array_equal(found.symbols[1:], EOS)


def test_a_beam_of_one_is_greedy():
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=9, width=1)
    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=9)
    np.testing.assert_array_equal(found.symbols[0], decoded.symbols)
    np.testing.assert_allclose(found.log_probs[0], decoded.log_probs, rtol=1e-12)


@pytest.mark.slow
def test_any_state_is_reordered():
    """A state with keys, two batch axes, a context in the parameters: each row as if it were alone."""
    cell = sj.stack(sj.zoneout(sj.gru(4, H), 0.4), sj.lstm(H, V))

    def read(params, state, x):
        table, context, inner = params
        state, h = cell.step(inner, state, table[x])
        return state, 4 * h + context

    model = sj.Cell(
        init=lambda key: (jax.random.normal(key, (V, 4)), jnp.zeros(()), cell.init(key)),
        initial_state=lambda p, batch=(), *, key=None: cell.initial_state(p[2], batch, key=key),
        step=read,
    )
    table, _, inner = model.init(jax.random.key(1))
    context = jax.random.normal(jax.random.key(2), (2, 3, V))
    state = model.initial_state((table, context, inner), (2, 3), key=jax.random.key(3))
    first = jnp.arange(6).reshape(2, 3)
    options = {"length": 5, "width": 3, "eos": EOS}
    found = sj.beam_search(model, (table, context, inner), state, first, **options)
    for i, j in itertools.product(range(2), range(3)):
        row = jax.tree.map(lambda s, i=i, j=j: s[i, j], state)
        alone = sj.beam_search(model, (table, context[i, j], inner), row, first[i, j], **options)
        np.testing.assert_array_equal(found.symbols[:, :, i, j], alone.symbols)
        np.testing.assert_allclose(found.scores[:, i, j], alone.scores, rtol=1e-10)
