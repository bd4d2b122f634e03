"""Symbols from frames without an alignment: the best path, edits, the command."""

import itertools
import json

import numpy as np
import pytest

from seqjax.__main__ import main
from seqjax.recipes.language import spoken
from seqjax.recipes.language.transcripts import best_paths, edits, error_rate


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


@pytest.mark.slow
def test_a_language_model_tells_a_pair_from_a_pear(tmp_path, capsys):
    """They sound alike: a recogniser alone is right about half of them, and nearly all with the language model."""
    folder = tmp_path / "run"
    arguments = "--about salads --steps 150 --noise 0.2 --hidden-size 48 --learning-rate 0.01"
    assert main(["speech", *arguments.split(), "--run-dir", str(folder)]) == 0
    figures = json.loads((folder / "result.json").read_text())["figures"]
    assert 0.3 < figures["prefix search, pair or pear"] < 0.7
    assert figures["with a language model, pair or pear"] > 0.9
    assert figures["with a language model, sentences"] < figures["prefix search, sentences"] < 0.5
    assert "the apple and pear salad" in capsys.readouterr().out
    assert main(["speech", "--about", "salads", "--features", "4", "--run-dir", str(tmp_path / "other")]) == 2
    assert "expected at least 5 features for 26 sounds, got 4" in capsys.readouterr().err


def test_what_is_spoken_is_the_sentence_and_a_pair_sounds_like_a_pear():
    language = spoken.spoken(6)
    one, other = (language.words.index(word) for word in spoken.ALIKE)
    shared = [(i, j) for i in range(27) for j in range(i) if (language.sounds[i] == language.sounds[j]).all()]
    assert shared == [(max(one, other), min(one, other))]
    said = language.said(np.random.default_rng(0), [["the", "pair", "of", "shoes"]], 0.0)
    assert [language.words[x - 1] for x in said.texts[:4, 0]] == ["the", "pair", "of", "shoes"]
    assert not said.texts[4:].any()
    words = language.any_order(np.random.default_rng(0), 4000, 0.0)
    counts = np.bincount(words.texts[words.text_mask], minlength=28)[1:]
    assert counts[[one, other]].sum() == pytest.approx(counts.sum() / 26, rel=0.1)
    assert counts[one] == pytest.approx(counts[other], rel=0.2)
    sounds = language.sounds[words.texts - 1]
    assert (sounds[1:] != sounds[:-1]).any(-1)[words.text_mask[1:]].all()


def test_the_language_model_counts_two_words_in_a_row():
    language = spoken.spoken(6)
    fusion = language.fusion(0.5)
    assert (fusion.weight, fusion.bonus) == (0.5, pytest.approx(0.5 * np.log(26)))
    place = {word: i for i, word in enumerate(language.words, 1)}
    follow = [b for s in language.read for a, b in itertools.pairwise(s) if a == "pair"]
    ends = [s[-1] for s in language.read]
    log_q = fusion.model.apply(fusion.params, (), np.array([place["pair"], place["cake"]]))[1]
    np.testing.assert_allclose(
        np.exp(log_q[0, place["of"]]), (follow.count("of") + 0.1) / (len(follow) + 2.8), rtol=1e-6
    )
    assert follow.count("of") == len(follow)
    np.testing.assert_allclose(np.exp(log_q[1, 0]), (ends.count("cake") + 0.1) / (ends.count("cake") + 2.8), rtol=1e-6)
