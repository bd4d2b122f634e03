"""Symbols from frames without an alignment: the best path, edits, the command."""

import json

import numpy as np
import pytest

from seqjax.__main__ import main
from seqjax.recipes.speech import best_paths, edits, error_rate


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


@pytest.mark.slow
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
