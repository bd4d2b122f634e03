"""Initialisers against what they promise, gate by gate."""

import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import initializers

KEY = jax.random.key(0)


@pytest.mark.parametrize("make", [sj.lstm, sj.gru, sj.elman, sj.reset_lstm, sj.multiplicative_lstm])
def test_every_gate_block_is_orthogonal(make):
    w = make(3, 8).init(KEY).w_h
    blocks = np.split(np.asarray(w), w.shape[1] // 8, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(8), atol=1e-12)
    for a, b in itertools.pairwise(blocks):
        assert np.abs(a - b).max() > 0.1


def test_projected_blocks_have_orthonormal_rows():
    w = sj.projected_lstm(3, 8, 5).init(KEY).w_h
    for block in np.split(np.asarray(w), 4, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(5), atol=1e-12)


def test_gate_blocks_can_be_half_precision():
    """QR knows no bfloat16: the draw is made in float32 and rounded."""
    w = sj.lstm(3, 8, dtype=jnp.bfloat16).init(KEY).w_h
    assert w.dtype == jnp.bfloat16
    block = np.asarray(w[:, :8], np.float32)
    np.testing.assert_allclose(block @ block.T, np.eye(8), atol=0.02)


def test_identity():
    w = sj.lstm(3, 4, w_h_init=initializers.identity(0.1)).init(KEY).w_h
    np.testing.assert_array_equal(w, np.tile(0.1 * np.eye(4), 4))


def test_uniform():
    w = initializers.uniform(25)(KEY, (100, 100), jnp.float64)
    assert -0.2 <= w.min() < -0.199
    assert 0.199 < w.max() <= 0.2
    assert abs(w.mean()) < 0.005


def test_forget_bias_sits_in_the_forget_gate():
    cells = [
        (sj.lstm, "ifgo"),
        (sj.peephole_lstm, "ifgo"),
        (sj.coupled_lstm, "fgo"),
        (sj.reset_lstm, "rufog"),
        (sj.multiplicative_lstm, "ifgo"),
        (sj.layer_norm_lstm, "ifgo"),
        (lambda d, h: sj.projected_lstm(d, h, 2), "ifgo"),
    ]
    for make, gates in cells:
        b = make(3, 2).init(KEY).b
        np.testing.assert_array_equal(b, np.repeat([1.0 if gate == "f" else 0.0 for gate in gates], 2))


def test_chrono():
    """b_f = ln u, u uniform on [1, T-1]; the input gate has the opposite sign, the rest zero."""
    longest, h = 100.0, 20_000
    draw = initializers.chrono(longest)
    i, f, g, o = np.split(np.asarray(draw(KEY, ("i", "f", "g", "o"), h, jnp.float64)), 4)
    u = np.sort(np.exp(f))
    np.testing.assert_array_equal(i, -f)
    np.testing.assert_array_equal(np.concatenate([g, o]), np.zeros(2 * h))
    assert u[0] >= 1
    assert u[-1] <= longest - 1
    quantiles = 1 + (longest - 2) * (np.arange(h) + 0.5) / h
    assert np.abs(u - quantiles).max() < 1.6 / np.sqrt(h) * (longest - 2)  # Kolmogorov-Smirnov, p < 1e-2
    # the mean time until a unit at its bias has forgotten, 1/(1-σ(b_f)) = 1 + u, is spread evenly over 2 … T
    np.testing.assert_allclose(1 / (1 - 1 / (1 + np.exp(-f))), 1 + np.exp(f), rtol=1e-12)


@pytest.mark.parametrize(
    ("gates", "signs"), [("rzn", (0, 1, 0)), ("nz", (0, 1)), ("rufog", (0, -1, 1, 0, 0)), ("fgo", (1, 0, 0))]
)
def test_chrono_knows_what_keeps(gates, signs):
    """The gate that copies has a positive bias, the one that writes beside it a negative."""
    b = np.asarray(initializers.chrono(50.0)(KEY, tuple(gates), 30, jnp.float64))
    for block, sign in zip(np.split(b, len(gates)), signs):
        assert np.all(np.sign(block) == sign)


def test_spectral_radius():
    w = np.asarray(initializers.spectral_radius(1.25, density=0.1)(KEY, (200, 200), jnp.float64))
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(w)).max(), 1.25, rtol=1e-10)
    assert 0.08 < np.mean(w != 0) < 0.12
    assert np.mean(initializers.spectral_radius(0.5)(KEY, (50, 50), jnp.float64) != 0) == 1


def test_only_keeps_what_it_names():
    bias = initializers.only("f", "o", init=initializers.chrono(20.0))
    b = sj.lstm(3, 5, b_init=bias).init(KEY).b
    assert [block is None for block in b] == [True, False, True, False]
    assert np.all(b[1] > 0)
    np.testing.assert_array_equal(b[3], np.zeros(5))


def test_two_keys_two_draws():
    one, two = (sj.lstm(3, 4).init(jax.random.key(k)) for k in (0, 1))
    assert np.abs(one.w_x - two.w_x).min() > 0
    assert np.abs(one.w_h - two.w_h).max() > 0.1


@pytest.mark.parametrize(
    "make",
    [
        initializers.glorot_uniform,
        lambda: initializers.orthogonal(0.5),
        lambda: initializers.identity(0.1),
        lambda: initializers.uniform(9),
        lambda: initializers.spectral_radius(0.9, density=0.5),
        lambda: initializers.forget_bias(2.0),
        lambda: initializers.chrono(100.0),
        lambda: initializers.only("i", "f", init=initializers.chrono(100.0)),
    ],
)
def test_initialisers_know_their_maker(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert pickle.loads(pickle.dumps(make())) == make()
    assert eval(repr(make()), vars(initializers)) == make()


def test_errors():
    with pytest.raises(ValueError, match=r"chrono: expected a longest memory of more than 2 ticks, got 2. Raise it"):
        initializers.chrono(2)
    with pytest.raises(ValueError, match=r"spectral_radius: expected a density in \(0, 1\], got 0. Use 1"):
        initializers.spectral_radius(1.0, density=0)
    with pytest.raises(ValueError, match=r"spectral_radius: expected a radius of at least 0, got -1"):
        initializers.spectral_radius(-1)
    with pytest.raises(ValueError, match=r"expected a matrix with an eigenvalue other than 0, got none at shape"):
        initializers.spectral_radius(1.0, density=1e-9)(KEY, (3, 3), jnp.float64)
    with pytest.raises(ValueError, match=r"only: expected the gate with a bias to be one of 'r', 'z', 'n', got 'f'"):
        sj.gru(3, 4, b_init=initializers.only("f")).init(KEY)
