"""The benchmark of decoding: which of two equally probable symbols is written is nobody's fault, another symbol is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("rich")

import seqjax as sj
from benchmarks import decoding

ROW = decoding.Row(vocabulary_size=8, hidden_size=6, batch=2, length=12, width=0)
BEAM = ROW._replace(width=3)


@pytest.fixture(autouse=True)
def as_other_libraries_expect():
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        yield


@pytest.fixture
def pairs(monkeypatch):
    """A model in which symbols 2j and 2j + 1 are always as likely up to a millionth, and mean different things."""
    layer = sj.models.language_model(8, 6)
    params = jax.tree.map(lambda p: 8 * p, layer.init(jax.random.key(3)))
    below, readout = params
    tied = lambda w: jnp.repeat(w[..., ::2], 2, -1) * (1 + 1e-6 * (jnp.arange(8) % 2))
    params = (below, readout._replace(w=tied(readout.w), b=tied(readout.b)))
    monkeypatch.setattr(decoding, "model", lambda row: (layer, params))
    return layer, params


def written(layer, params, choose):
    """One text, symbol by symbol: ``choose(tick, symbols from the likeliest on)``."""
    cell, state, symbol, text = sj.as_cell(layer), layer.initial_state(params, ()), jnp.int32(0), []
    for tick in range(ROW.length):
        state, logits = cell.step(params, state, symbol)
        symbol = jnp.int32(choose(tick, np.argsort(-np.asarray(logits), kind="stable")))
        text.append(int(symbol))
    return np.array(text)


def both(text, other):
    return np.stack([text, other], 1)


def test_texts_that_part_at_near_ties_are_equally_good(pairs):
    first, second = (written(*pairs, lambda t, order, i=i: order[i]) for i in (0, 1))
    assert (first != second).mean() > 0.5  # symbol by symbol, nothing agrees
    sums = [chosen.sum() for chosen, _ in decoding.log_probs(ROW, both(first, second))]
    assert abs(sums[0] - sums[1]) > 1  # behind the first tie they are other texts, not equally probable ones
    decoding.judge(ROW, {"compiled": both(first, first), "loop": both(first, second)})


def test_a_symbol_that_is_wrong_by_a_clear_margin_is_refused(pairs):
    first = written(*pairs, lambda t, order: order[0])
    wrong = written(*pairs, lambda t, order: order[2 if t == 7 else 0])
    refused = r"loop: expected log-probabilities within 0.001, text 1 is \d.* below the likeliest symbols'\."
    with pytest.raises(SystemExit, match=refused):
        decoding.judge(ROW, {"compiled": both(first, first), "loop": both(first, wrong)})
    with pytest.raises(SystemExit, match="compiled: "):  # ours is judged as the others are
        decoding.judge(ROW, {"compiled": both(wrong, first), "loop": both(first, first)})


def test_a_best_sequence_as_probable_as_ours_is_as_good_and_no_other(pairs):
    """The last symbol's twin is as probable; the sequence without the last choice is not."""
    best = decoding.compiled(BEAM).check()
    twin, wrong = best.copy(), best.copy()
    twin[-1] ^= 1
    wrong[-1] = (wrong[-1] + 2) % 8
    decoding.judge(BEAM, {"compiled": best, "loop": twin})
    with pytest.raises(SystemExit, match=r"loop: expected .* off the compiled loop's"):
        decoding.judge(BEAM, {"compiled": best, "loop": wrong})


def test_the_scorer_is_a_loop_of_the_step_in_float64(pairs):
    layer, params = pairs
    text, symbol, chosen = written(layer, params, lambda t, order: order[t % 3]), 0, []
    found, highest = next(decoding.log_probs(ROW._replace(batch=1), text))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        state = layer.initial_state(params, ())
        for x in text:
            state, logits = sj.as_cell(layer).step(params, state, jnp.int32(symbol))
            chosen.append(logits[x] - np.log(np.exp(np.asarray(logits)).sum()))
            symbol = int(x)
    np.testing.assert_allclose(found, chosen, rtol=1e-12)
    assert (highest > found).sum() == sum(t % 3 > 0 for t in range(ROW.length))


@pytest.mark.parametrize("width", [0, 1, 3])
def test_the_likeliest_the_drawn_and_the_best_are_what_is_timed(pairs, width):
    likeliest, draw, search = "likeliest", "drawn", "best"
    found = decoding.writer(ROW._replace(width=width), search, likeliest, draw)
    expected = {0: (likeliest, draw), 1: (likeliest, likeliest), 3: (search, search)}[width]
    assert (found.check, found.run) == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("row", [ROW, ROW._replace(width=1), BEAM])
def test_all_that_are_installed_are_judged_and_timed(row):
    measured = decoding.measure(row, rounds=2, seconds=0)
    assert {"compiled", "python_loop", "fused_loop", "step_alone"} <= set(measured["symbols_a_second"])
    products = {name.split(",")[0] for name in measured["limit"]}
    assert products == {"x W", "h U", "h V", "gates", "look"}
    assert 0 < measured["limit_s"] < sum(measured["limit"].values())
