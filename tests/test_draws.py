"""Drawing one symbol out of many, and the largest numbers out of many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from marks import quick
from small_language import log_softmax, narrowed

import seqjax as sj
from seqjax.decoding import draws
from seqjax.decoding.ranking import highest, largest


def constant(params, symbols):
    """The same logits after every symbol."""
    return jnp.broadcast_to(params, (*symbols.shape, *params.shape))


OPTIONS = {
    "plain": {},
    "forbidden": {"temperature": 1.7, "forbidden": (0, 1, 2, 3, 4, 5, 24, 600)},
    "top_p": {"top_p": 0.8},
    "top_k": {"top_k": 550, "top_p": 0.95},
    "typical_p": {"typical_p": 0.7, "forbidden": (0, 1)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(OPTIONS, "forbidden", "top_k"))
def test_samples_among_many_symbols_follow_the_distribution(name):
    """More symbols than are drawn in one step, and no square number of them, so that groups are unequal."""
    options, n, size = OPTIONS[name], 20_000, 601
    logits = 1.5 * jax.random.normal(jax.random.key(0), (size,))
    model = sj.pointwise(constant)
    drawn = sj.sample(model, logits, (), jnp.zeros(n, int), length=1, key=jax.random.key(1), **options)
    expected = n * narrowed(log_softmax(logits), **({"top_k": size} | options))
    counts = np.bincount(drawn.symbols[0], minlength=size)
    assert len(counts) == size
    assert not counts[expected == 0].any()
    often = expected >= 5
    assert often.sum() > 100
    few = (expected > 0) & ~often
    observed, wanted = np.append(counts[often], counts[few].sum()), np.append(expected[often], expected[few].sum())
    kept = wanted > 0
    assert scipy.stats.chisquare(observed[kept], wanted[kept]).pvalue > 1e-3


@pytest.mark.parametrize("size", [4, 600])
def test_draws_of_different_ticks_are_independent(size):
    """Noise is drawn for many ticks at once: no draw may come again, at any distance."""
    model, length = sj.pointwise(constant), 150
    state, first = (), jnp.zeros(300, int)
    drawn = sj.sample(model, jnp.zeros(size), state, first, length=length, key=jax.random.key(2))
    halves = np.asarray(drawn.symbols) % 2
    for distance in (1, 2, 63, 64, 65, 128):
        a, b = halves[:-distance].ravel(), halves[distance:].ravel()
        table = np.bincount(2 * a + b, minlength=4).reshape(2, 2)
        assert scipy.stats.chi2_contingency(table, correction=False).pvalue > 1e-4


def test_noise_keeps_its_digits_where_it_is_small():
    """Exponential, never 0, and not in steps of 2^-24 near it: what is improbable needs small noise."""
    noise = np.asarray(draws.noise(jax.random.key(0), (2**14,), 256, jnp.float32)).ravel()
    assert scipy.stats.kstest(noise[::64], "expon").pvalue > 1e-3
    small = noise[noise < 1e-4].astype(np.float64)
    assert 300 < len(small) < 540  # 419 expected
    assert noise.min() > 0
    off_grid = (small * 2**24) % 1
    assert ((off_grid > 0.1) & (off_grid < 0.9)).mean() > 0.6


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("n", [5000, 64 * 100])
def test_the_largest_are_those_of_top_k(n, k):
    """Order and places, with ties, forbidden symbols and fewer allowed than wanted."""
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=n), rng.integers(0, 4, n).astype(float), np.full(n, -np.inf), np.full(n, -np.inf)]
    rows[3][[n - 1, 70]] = 1.0
    x = jnp.array(np.stack(rows).reshape(2, 2, n))
    values, places = jax.jit(largest, static_argnums=1)(x, k)
    expected = jax.lax.top_k(x, k)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(places, expected[1])


def test_the_highest_is_that_of_argmax():
    """Of equals the first; where everything is forbidden, a place that exists."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=70), rng.integers(0, 4, 70).astype(float), np.full(70, -np.inf)])
    np.testing.assert_array_equal(jax.jit(highest)(x), x.argmax(-1))
    assert 0 <= highest(jnp.full(5, jnp.nan)) < 5


def test_noise_is_drawn_at_once_for_as_many_ticks_as_fit():
    """At most 64 ticks, at most a mebibyte of float32, at least one tick, at most what is written."""
    assert draws.ticks((2, 3), 65, 1000) == 64
    assert draws.ticks((), 65, 5) == 5
    assert draws.ticks((4096,), 60, 1000) == 1
    assert draws.ticks((32,), 10_000, 1000) == 2**18 // (32 * 200)
    assert draws.ticks((0,), 65, 1000) == 64
