"""Diverse beams against a search with lists, coverage against the enumeration of all translations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from small_language import EOS, FIRST, LAYER, PARAMS, V, log_softmax, states, step

import seqjax as sj
from seqjax.decoding import Coverage, Diversity

pytestmark = pytest.mark.usefixtures("equal_ranks")


def in_groups(first, length, width, groups, strength, alpha):
    """The search of Vijayakumar et al. with lists and one example: scores and symbols of all groups, best first."""

    def total(log_prob, n):
        return log_prob / ((5 + n) / 6) ** alpha

    each = width // groups
    alive = [[(0.0, (), LAYER.initial_state(PARAMS), first)] for _ in range(groups)]
    finished = [[] for _ in range(groups)]
    for t in range(length):
        written = np.zeros(V)
        for g in range(groups):
            grown = []
            for log_prob, symbols, state, last in alive[g]:
                state, log_probs = step(state, last)
                for w in range(V):
                    item = (log_prob + log_probs[w], (*symbols, w), state, w)
                    if w == EOS:
                        finished[g].append((total(item[0], t + 1), item[1]))
                    else:
                        grown.append((item[0] - strength * written[w], item))
            alive[g] = [item for _, item in sorted(grown, key=lambda pair: -pair[0])[:each]]
            finished[g] = sorted(finished[g], reverse=True)[:each]
            for *_, w in alive[g]:
                written[w] += 1
    ends = [
        sorted([*f, *((total(a[0], length), a[1]) for a in group)], reverse=True) for f, group in zip(finished, alive)
    ]
    return sorted((end for group in ends for end in group[:each]), reverse=True)


CASES = {"two": (4, 2, 0.7, 0.0), "three": (6, 3, 2.5, 0.8), "one_place_each": (3, 3, 1.5, 0.0)}


@pytest.mark.parametrize("name", quick(CASES, "three"))
def test_diverse_beams_equal_a_search_with_lists(name):
    width, groups, strength, alpha = CASES[name]
    options = {"length": 7, "width": width, "eos": EOS, "length_penalty": alpha}
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, diversity=Diversity(groups, strength), **options)
    plain = sj.beam_search(LAYER, PARAMS, states(), FIRST, **options)
    assert (np.asarray(found.symbols) != np.asarray(plain.symbols)).any()
    for b, f in enumerate(FIRST):
        expected = in_groups(int(f), 7, width, groups, strength, alpha)
        got = [tuple(np.asarray(found.symbols)[k, : found.lengths[k, b], b].tolist()) for k in range(width)]
        np.testing.assert_allclose(found.scores[:, b], [total for total, _ in expected], rtol=1e-10)
        assert sorted(got) == sorted(symbols for _, symbols in expected)


def test_no_penalty_makes_groups_alike_and_a_large_one_keeps_them_apart():
    """Of as many groups as there are symbols, each writes another one at every tick; the penalty may be traced."""

    @jax.jit
    def search(strength):
        return sj.beam_search(LAYER, PARAMS, states(), FIRST, length=4, width=V, diversity=Diversity(V, strength))

    alone = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=4, width=1)
    np.testing.assert_allclose(search(0.0).scores, np.repeat(alone.scores, V, 0), rtol=1e-12)
    np.testing.assert_array_equal(np.sort(search(100.0).symbols, 0), np.arange(V)[:, None, None] + np.zeros((4, 4)))


SIZE, TARGET, BOS, END = 5, 4, 0, 1
READ = np.array([[1, 2, 3], [4, 1, 2], [2, 2, 0], [3, 0, 0]])
REAL = np.arange(4)[:, None] < [4, 3, 2]


@functools.cache
def translator():
    model = sj.models.encoder_decoder(SIZE, TARGET, 5, context="attention")
    params = jax.tree.map(lambda p: 2.5 * p, model.init(jax.random.key(2)))
    return model.decoder, *model.encode(params, sj.models.Source(jnp.asarray(READ), jnp.asarray(REAL)))


def attention(state):
    return state.weights


def by_enumeration(length, alpha, beta):
    """All translations of each source: score and symbols, best first."""
    decoder, params, state = translator()
    cell = sj.as_cell(decoder)
    bodies = [w for w in range(TARGET) if w != END]
    texts = [(*b, END) for n in range(length) for b in itertools.product(bodies, repeat=n)]
    texts += itertools.product(bodies, repeat=length)
    step = jax.jit(cell.step)

    @functools.cache
    def after(text):
        """Σ log p and Σ attention of a beginning, and the state behind it."""
        if not text:
            return 0.0, 0.0, state
        log_p, seen, before = after(text[:-1])
        last = text[-2] if len(text) > 1 else BOS
        new, logits = step(params, before, jnp.full(3, last))
        return log_p + log_softmax(logits)[:, text[-1]], seen + np.asarray(new.weights), new

    rows = [[] for _ in range(3)]
    for text in texts:
        log_p, seen, _ = after(text)
        for b in range(3):
            cover = np.log(np.minimum(seen[b][REAL[:, b]], 1)).sum()
            rows[b].append((log_p[b] / ((5 + len(text)) / 6) ** alpha + beta * cover, text))
    return [sorted(row, reverse=True) for row in rows]


def test_coverage_equals_brute_force():
    """Wide enough to hold all beginnings, the beam finds the K best by score; the winner is not that without."""
    decoder, params, state = translator()
    options = {"length": 3, "width": 27, "eos": END, "length_penalty": 0.2}
    found = sj.beam_search(decoder, params, state, BOS, coverage=Coverage(attention, 1.5, jnp.asarray(REAL)), **options)
    expected = by_enumeration(3, 0.2, 1.5)
    for b in range(3):
        got = [tuple(np.asarray(found.symbols)[k, : found.lengths[k, b], b].tolist()) for k in range(27)]
        assert got == [text for _, text in expected[b][:27]]
        np.testing.assert_allclose(found.scores[:, b], [score for score, _ in expected[b][:27]], rtol=1e-8)
    plain = sj.beam_search(decoder, params, state, BOS, **options)
    assert (plain.symbols[0] != found.symbols[0]).any()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"diversity": Diversity(3)}, r"expected groups that divide the width of 4, got 3. Change one of them\."),
        ({"diversity": Diversity(0)}, "expected groups to be a whole number of at least 1, got 0"),
        ({"diversity": Diversity(2, -1.0)}, r"expected a diversity penalty of at least 0, got -1.0. Use 0 for none\."),
        ({"coverage": Coverage(lambda state: state, -1.0)}, "expected a coverage penalty of at least 0, got -1.0"),
        (
            {"coverage": Coverage(lambda state: jnp.ones((3, 2)))},
            r"expected attention weights \[\*batch, S\] with batch \(4,\), got shape \(3, 2\)",
        ),
    ],
)
def test_what_cannot_be_preferred_is_refused(options, match):
    with pytest.raises(ValueError, match=f"beam_search: {match}"):
        sj.beam_search(LAYER, PARAMS, states(), FIRST, length=3, width=4, **options)
