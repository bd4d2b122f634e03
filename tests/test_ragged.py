"""Ragged sequences turned round, and outputs held behind their ends, one example at a time in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import LENGTHS, MASKS, RESET, B, T

import seqjax as sj

pytestmark = pytest.mark.usefixtures("equal_ranks")
RNG = np.random.default_rng(0)
XS = {"x": RNG.normal(size=(T, B, 2)), "n": RNG.integers(0, 9, (T, B)), "flag": RNG.random((T, B)) > 0.5}


@pytest.mark.parametrize("name", MASKS)
def test_reverse_turns_the_real_ticks_round(name):
    """Padding stays, NaN in it too; twice is the sequence itself; masks are turned round like what they mask."""
    mask = np.asarray(MASKS[name])
    given = XS | {"x": np.where(mask[..., None], XS["x"], np.nan)}
    ticks = {"lengths": LENGTHS} if name == "lengths" else {"mask": mask}
    found, again = jax.jit(lambda xs: (f := sj.masks.reverse(xs, **ticks), sj.masks.reverse(f, **ticks)))(given)
    expected = jax.tree.map(np.copy, given)
    for leaf in expected.values():
        for b in range(B):
            leaf[mask[:, b], b] = leaf[mask[:, b], b][::-1]
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(np.testing.assert_array_equal, again, given)
    assert {k: v.dtype for k, v in found.items()} == {k: v.dtype for k, v in given.items()}


def test_reverse_equals_flax():
    """`flip_sequences`, which needs the time axis to be the second, and keeps padding as here."""
    theirs = nn.recurrent.flip_sequences(jnp.asarray(XS["x"]), LENGTHS, num_batch_dims=1, time_major=True)
    found = sj.masks.reverse(XS["x"], lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):  # in the padding theirs moves things about
        np.testing.assert_array_equal(found[:length, b], theirs[:length, b])
    np.testing.assert_array_equal(sj.masks.reverse(XS["x"]), XS["x"][::-1])
    one = XS["x"][:, 0]
    np.testing.assert_array_equal(sj.masks.reverse(one, lengths=np.int64(3)), np.concatenate([one[2::-1], one[3:]]))


@pytest.mark.parametrize("resets", [False, True])
def test_hold_repeats_the_last_real_tick(resets):
    """From what came before, through a reset, in two chunks."""
    mask, reset = np.array(MASKS["holes"]), np.asarray(RESET) & resets
    mask[2:5, 0] = [True, False, False]  # a segment that opens with padding
    before = {"x": RNG.normal(size=(B, 2)), "n": RNG.integers(0, 9, B), "flag": np.array([True, False, True])}
    given = XS | {"x": np.where(mask[..., None], XS["x"], np.nan)}

    @jax.jit
    def run(ys, before):
        flags = RESET if resets else None
        halves = [(mask[:3], RESET[:3]), (mask[3:], RESET[3:])]
        parts, last = [], before
        for (m, r), part in zip(halves, [jax.tree.map(lambda y: y[:3], ys), jax.tree.map(lambda y: y[3:], ys)]):
            parts.append(sj.masks.hold(m, part, last, reset=r if resets else None))
            last = jax.tree.map(lambda y: y[-1], parts[-1])
        return sj.masks.hold(mask, ys, before, reset=flags), jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *parts)

    found, chunks = run(given, before)
    for name, ys in given.items():
        for b in range(B):
            last = before[name][b]
            for t in range(T):
                last = np.zeros_like(last) if reset[t, b] else last
                last = ys[t, b] if mask[t, b] else last
                np.testing.assert_array_equal(found[name][t, b], last)
    jax.tree.map(np.testing.assert_array_equal, found, chunks)
    np.testing.assert_array_equal(sj.masks.hold(mask[:, 2], XS["x"][:, 2]), 0)  # nothing was ever said


def test_hold_gives_outputs_that_go_with_the_held_states():
    """A loop in which h stands still: Keras' ``zero_output_for_mask=False`` for cells whose output is h."""
    layer = sj.recurrent(sj.gru(2, 4))
    params, mask = layer.init(jax.random.key(0)), np.asarray(MASKS["holes"])
    _, ys = layer.apply(params, layer.initial_state(params, (B,)), XS["x"], mask=mask)

    def tick(h, tick):
        h = jnp.where(tick[1][:, None], sj.gru(2, 4).step(params, h, tick[0])[0], h)
        return h, h

    states = jax.lax.scan(tick, jnp.zeros((B, 4)), (XS["x"], mask))[1]
    np.testing.assert_allclose(sj.masks.hold(mask, ys), states, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sj.masks.reverse(XS["n"], lengths=LENGTHS, mask=MASKS["holes"]), "expected mask or lengths, got both"),
        (lambda: sj.masks.reverse(XS["n"], lengths=jnp.array([8, 1, 1])), "reverse: expected lengths from 0 to the 7"),
        (lambda: sj.masks.reverse(XS["n"], mask=MASKS["holes"][:3]), r"reverse: expected mask \[T, \*batch\]"),
        (lambda: sj.masks.hold(MASKS["holes"][:3], XS["n"]), r"hold: expected mask \[T, \*batch\]"),
        (lambda: sj.masks.hold(MASKS["holes"], XS["n"], XS["n"]), r"hold: expected before of shape \(3,\) like a tick"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_errors_of_type():
    with pytest.raises(TypeError, match="hold: expected mask of bool, got int64"):
        sj.masks.hold(np.ones((T, B), int), XS["n"])
    with pytest.raises(TypeError, match="reverse: expected lengths of integers, got float64"):
        sj.masks.reverse(XS["n"], lengths=np.ones(B))
