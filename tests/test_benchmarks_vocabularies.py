"""The table of large vocabularies: exact bits of one text, rows that are kept, and what is told of them."""

import jax
import numpy as np
import pytest

import seqjax as sj
from benchmarks import record, vocabularies
from seqjax import models
from seqjax.recipes.language import words

TINY = {"vocabulary": 60, "steps": 2, "batch_size": 2, "window": 6, "hidden_size": 5, "embedding_size": 4}
PAIRS = [(f"The cat number {i} sat .", f"Le chat numéro {i} dort .") for i in range(40)]


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    """A small protocol; Optax counts on JAX's standard promotion."""
    monkeypatch.setattr(vocabularies, "PROTOCOL", TINY)
    monkeypatch.setattr(vocabularies, "HELD_BACK", 7)
    monkeypatch.setattr(vocabularies, "ROUNDS", 2)
    small = {name: more | ({"vocabulary": 280} if more else {}) for name, more in vocabularies.MODELS.items()}
    chosen = (vocabularies.FULL, "words, adaptive softmax", "2,000 pieces, full softmax")
    monkeypatch.setattr(vocabularies, "MODELS", {name: small[name] for name in chosen})
    with jax.numpy_dtype_promotion("standard"):
        yield
    vocabularies.numbered.cache_clear()


@pytest.fixture
def text(tmp_path):
    """Pairs as the table reads them, one of them twice."""
    path = tmp_path / "pairs.txt"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in [*PAIRS, PAIRS[3]]), "utf-8")
    return vocabularies.read(path)


def test_every_sentence_is_there_once(text):
    found = [" ".join(sentence) for sentence in (*text.train(), *text.held_back)]
    assert sorted(found) == sorted(side for pair in PAIRS for side in pair)
    assert len(text.held_back) == 7


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"softmax": "adaptive"}, {"split": "subwords", "vocabulary": 280}], ids=str)
def test_bits_are_those_of_each_sentence_by_itself(text, more):
    """And of the letters of unknown words: of the number of characters that sentences and line breaks have."""
    training = vocabularies.Training(text, vocabularies.options(TINY | more, 1))
    row = training.fit()
    model, params, symbols = training.method.model, training.state.params, training.symbols
    (begin, *rest), *others = [symbols.encode(sentence, eos=True) for sentence in text.held_back]
    scores = [models.log_probability(model, params, np.array(rest), first=begin)]  # of the text but its first symbol
    scores += [models.log_probability(model, params, each, first=models.NOTHING) for each in others]
    nats = words.unknown_nats(symbols, text) - float(sum(scores))
    characters = sum(len(" ".join(sentence)) + 1 for sentence in text.held_back)
    assert row["bits"] == pytest.approx(nats / np.log(2) / characters, rel=1e-5)
    assert row["spelling_bits"] * (more.get("split") == "subwords") == 0
    assert row["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert training.made == 2
    assert row["unigram_bits"] > sj.bits_per_character(0.0)


@pytest.mark.slow
def test_what_is_recorded_is_not_trained_again(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vocabularies, "read", lambda path: text)
    command = ["--data", str(tmp_path), "--seeds", "4", "--results", str(tmp_path / "found.jsonl")]
    assert vocabularies.main(command) == 0
    rows = record.read(tmp_path / "found.jsonl")
    assert [(row["model"], row["seed"]) for row in rows] == [(name, 4) for name in vocabularies.MODELS]
    assert [row.get("of_full", 0) > 0 for row in rows] == [False, True, True]
    table = capsys.readouterr().out.splitlines()[-3:]
    assert table[0].startswith("| words, full softmax | 44 |")
    monkeypatch.setattr(vocabularies, "Training", lambda *_: pytest.fail("trained again"))
    assert vocabularies.main(command) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == table
    assert vocabularies.table([row | {"protocol": TINY | {"steps": 3}} for row in rows])[2:] == []


def test_perplexities_are_told_of_words_alone():
    figures = {"bits": 1.5, "perplexity": 9.0, "unigram_bits": 2.0, "unigram_perplexity": 20.0, "spelling_bits": 0.25}
    figures |= {"vocabulary": 60, "parameters": 1234, "of_full": 0.5, "characters_read": 5400}
    rows = [
        figures | {"model": name, "protocol": TINY | more, "bits": 1.5 + seed}
        for name, more in vocabularies.MODELS.items()
        for seed in (0, 1, 3)
    ]
    full, _, pieces = vocabularies.table(rows)[2:]
    told = "| 60 | 1,234 | 2.500 (1.500 to 4.500) | 0.250 | 2.000 |"
    assert full == f"| words, full softmax {told} 9.0 (9.0 to 9.0) | 20.0 | 1 | 5 | 3 |"
    assert pieces == f"| 2,000 pieces, full softmax {told}  |  | 0.50 (0.50 to 0.50) | 5 | 3 |"
