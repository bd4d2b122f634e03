"""Symbols from frames without an alignment: the loss by enumeration, the best path, the command."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.__main__ import main
from seqjax.recipes.speech import best_paths, edits, error_rate


def collapsed(path):
    """Repetitions merged, then blanks dropped."""
    return tuple(x for x, _ in itertools.groupby(path) if x)


def test_the_loss_sums_over_all_paths():
    """Ragged ticks and symbols, NaN in the padding, a symbol said twice; the gradient is finite there."""
    rng = np.random.default_rng(0)
    lengths, texts = np.array([5, 3, 4]), [(1, 1), (2,), (2, 1, 2)]
    logits = rng.normal(size=(5, 3, 3))
    total = 0.0
    for b, (length, text) in enumerate(zip(lengths, texts)):
        log_probs = logits[:, b] - np.log(np.exp(logits[:, b]).sum(-1, keepdims=True))
        paths = [p for p in itertools.product(range(3), repeat=length) if collapsed(p) == text]
        total -= np.log(sum(np.exp(sum(log_probs[t, k] for t, k in enumerate(path))) for path in paths))
    mask = np.arange(5)[:, None] < lengths
    symbols, said = np.full((3, 3), 9), np.arange(3)[:, None] < [len(text) for text in texts]
    for b, text in enumerate(texts):
        symbols[: len(text), b] = text
    bad = jnp.asarray(np.where(mask[..., None], logits, np.nan))
    found = jax.jit(lambda ys: sj.ctc(ys, sj.Labels(jnp.asarray(symbols), jnp.asarray(said)), jnp.asarray(mask)))
    np.testing.assert_allclose(found(bad).sum, total, rtol=1e-10)
    assert found(bad).count == 6
    gradient = np.asarray(jax.jit(jax.grad(lambda ys: found(ys).sum))(bad))
    assert np.isfinite(gradient).all()
    assert not gradient[~mask].any()
    wide = found(bad.reshape(5, 3, 3)).sum
    two_axes = sj.ctc(bad[:, None], sj.Labels(symbols[:, None], said[:, None]), mask[:, None])
    np.testing.assert_allclose(two_axes.sum, wide, rtol=1e-12)


def test_errors():
    logits = jnp.zeros((4, 2, 3))
    with pytest.raises(TypeError, match="ctc: expected integers"):
        sj.ctc(logits, sj.Labels(jnp.zeros((2, 2))))
    with pytest.raises(ValueError, match="ctc: expected symbols without their first axis"):
        sj.ctc(logits, sj.Labels(jnp.ones((2, 3), int)))
    with pytest.raises(TypeError, match="mask of bool"):
        sj.ctc(logits, sj.Labels(jnp.ones((2, 2), int)), jnp.ones((4, 2)))


def test_the_best_path_is_merged_before_blanks_go():
    paths = np.array([[1, 1, 0, 1, 2, 2], [0, 2, 2, 2, 0, 1], [3, 3, 3, 3, 3, 3]]).T
    mask = np.arange(6)[:, None] < [6, 5, 0]
    assert best_paths(np.eye(4)[paths], mask) == [[1, 1, 2], [2], []]


def test_edits_are_fewest():
    """Against a search over all alignments of short sequences."""

    def fewest(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(fewest(a[1:], b) + 1, fewest(a, b[1:]) + 1, fewest(a[1:], b[1:]) + (a[0] != b[0]))

    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (rng.integers(0, 3, rng.integers(0, 6)).tolist() for _ in range(2))
        assert edits(a, b) == fewest(a, b)
    assert error_rate([[1, 2], []], [[1], [1, 2, 3]]) == 1.0


def test_the_command(tmp_path, capsys):
    """Few, easy updates: the network beats silence, and leaves its files."""
    folder = tmp_path / "run"
    arguments = "--steps 60 --longest 2 --noise 0.1 --hidden-size 16 --learning-rate 0.02 --batch-size 32"
    assert main(["speech", *arguments.split(), "--run-dir", str(folder)]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["figures"]["both_ways"] < 0.5 < result["floors"]["saying nothing"]
    assert (folder / "spikes.png").stat().st_size > 10_000
    assert "wrong symbols: both ways" in capsys.readouterr().out
    assert main(["speech", "--symbols", "100", "--run-dir", str(tmp_path / "other")]) == 2
    assert "Raise features" in capsys.readouterr().err
