"""Texts in place: the same characters, counts, digests, windows and floors as of the whole text in memory."""

import collections
import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import seqjax as sj
from seqjax import tasks
from seqjax.recipes import score
from seqjax.recipes.language import ngrams, words
from seqjax.recipes.language import text as language
from seqjax.tasks import stored, texts

SCRIPT = """
import re, sys
from seqjax.__main__ import main
options = "--steps 3 --batch-size 8 --window 16 --hidden-size 8 --embedding-size 4 --devices 1".split()
status = main([*sys.argv[3:], "--text", sys.argv[1], "--run-dir", sys.argv[2], *options])
print("\\npeak", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], "kB, status", status)
"""
# Commands, and bytes of text that would take more memory than MOST if they were held beside the 600 MB of the rest.
MOST = 8 * 10**8
COMMANDS = {
    "charlm": ("charlm --length 10", 3 * 10**8),
    "wordlm": ("wordlm --split blanks --vocabulary 200", 2 * 10**8),
    "ngramlm": ("ngramlm --length 10 --context 2", 2 * 10**8),
    "ngramlm, words": ("ngramlm --length 10 --context 2 --symbols words --vocabulary 200", 2 * 10**8),
}


@pytest.mark.parametrize("end", ["", "é" + 20 * "a", "\r\n"])
@pytest.mark.parametrize("letters", ["ab\r\n\n\ré€😀", "ab\n"])
@pytest.mark.parametrize("seed", range(2))
def test_a_text_in_place_is_the_text(seed, letters, end, monkeypatch, tmp_path):
    """Pieces of 7 bytes and places every 5 characters: line ends and letters of 1 to 4 bytes are cut everywhere.

    Or every byte is a character, but for some near the end or in all of the text.
    """
    monkeypatch.setattr(texts, "PIECE", 7)
    monkeypatch.setattr(texts, "STRIDE", 5)
    rng = np.random.default_rng(seed)
    raw = "".join(rng.choice(list(letters)) for _ in range(203)) + end
    expected = raw.replace("\r\n", "\n").replace("\r", "\n")
    data = texts.MARK * (seed % 2) + raw.encode()
    (tmp_path / "a.txt").write_bytes(data)
    for text in (texts.Text(data), texts.open_text(tmp_path / "a.txt")):
        assert len(text) == len(expected)
        assert text[:] == "".join(text.pieces()) == expected
        assert text.counts == collections.Counter(expected)
        assert text.sha256 == hashlib.sha256(expected.encode()).hexdigest()
        for _ in range(40):
            start, stop = rng.integers(-10, len(expected) + 10, 2)
            assert text[start:stop] == expected[start:stop]
        starts = rng.integers(0, len(expected) - 30, 9).tolist()
        assert text.codes(starts, 30).tolist() == [[ord(c) for c in expected[start:][:30]] for start in starts]


def test_complaints_name_the_line(monkeypatch):
    monkeypatch.setattr(texts, "PIECE", 8)
    for bad, byte in ((b"\xff", "0xff"), (b"\0", "0x00"), (b"\xc3", "0xc3")):
        with pytest.raises(ValueError, match=rf"^there, line 5: expected UTF-8, got byte {byte}\. Convert the file"):
            texts.Text(b"one\rtwo\r\n\r\nfour\n12345" + bad, "there")
    with pytest.raises(ValueError, match=r"^Text: expected a slice of step 1, got 2\. Take every character"):
        texts.Text(b"abc")[::2]


@pytest.mark.parametrize("ahead", [1, 4 * 9 * 2, 2**18])  # a window at a time, three, all of them
@pytest.mark.parametrize("letter", "éx")
def test_numbers_and_windows_are_those_of_the_whole(letter, ahead, monkeypatch):
    monkeypatch.setattr(texts, "STRIDE", 16)
    monkeypatch.setattr(texts, "BLOCK", ahead)
    letters = np.random.default_rng(0).choice(list(f"abcd{letter}\n"), 300)
    text = texts.Text("".join(letters).encode())
    vocabulary = tasks.Vocabulary.counted(text.counts, specials=())
    assert vocabulary == tasks.Vocabulary.build(["".join(letters)], specials=())
    whole, numbers = vocabulary.encode(letters), texts.Numbers(text, vocabulary)
    assert len(numbers) == 300
    assert numbers[7:9].dtype == whole.dtype
    np.testing.assert_array_equal(numbers[5:250], whole[5:250])
    assert numbers[9:7].shape == (0,)
    columns = tasks.streams(whole[:270], 4)
    for n in np.random.default_rng(1).permutation((len(columns) - 1) // 9).tolist():
        for kept in (numbers, stored.First(numbers, 270), stored.Stored([whole])):
            np.testing.assert_array_equal(texts.window(kept, 270, 4, 9, n), columns[9 * n : 9 * n + 10])
    np.testing.assert_array_equal(texts.window(numbers, 200, 4, 9, 1), tasks.streams(whole[:200], 4)[9:19])
    with pytest.raises(ValueError, match="read-only"):  # windows share what was read ahead
        texts.window(numbers, 270, 4, 9, 0)[0] = 0
    few = texts.Numbers(text, tasks.Vocabulary("abcd\n"))
    with pytest.raises(
        ValueError, match=rf"^Vocabulary\.encode: expected one of 5 known symbols, got '{letter}' at position"
    ):
        few[:]
    rare = tasks.Vocabulary(["<unk>", *"abcd\n"])
    np.testing.assert_array_equal(texts.Numbers(text, rare)[:], rare.encode(letters))
    with pytest.raises(ValueError, match=r"^Numbers: expected a slice of step 1, got -1\. Take every number"):
        numbers[::-1]


@pytest.mark.parametrize("kept", [2, 2**22])
@pytest.mark.parametrize("piece", [7, 2**20])
def test_floors_counted_by_pieces_are_those_of_the_whole(piece, kept, monkeypatch):
    """Pairs never seen, symbols never seen, one that ends the training part alone; in tables and in lists."""
    monkeypatch.setattr(ngrams, "PIECE", piece)
    monkeypatch.setattr(ngrams, "DENSE", kept)
    rng = np.random.default_rng(0)
    train, test = rng.choice(7, 201, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0]), rng.choice(8, 60)
    train[-1] = 6
    numbers = stored.Stored([train[:50], train[50:]])
    np.testing.assert_array_equal(numbers[40:60], train[40:60])
    expected = [witten_bell(train, test, 8, order) for order in (1, 2, 3, 4)]
    found = ngrams.ngram_nats(stored.First(numbers, len(train)), test, 8, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def witten_bell(train, test, symbols, order):
    """From the equations, a symbol and a history at a time."""
    follows = collections.defaultdict(collections.Counter)
    for n in range(order):
        for t in range(n, len(train)):
            follows[tuple(train[t - n : t])][train[t]] += 1

    def p(history, symbol):
        shorter = p(history[1:], symbol) if history else 1 / symbols
        seen = follows[history]
        return (seen[symbol] + len(seen) * shorter) / (seen.total() + len(seen)) if seen else shorter

    reach = order - 1
    return -np.mean([np.log(p(tuple(test[max(0, t - reach) : t]), test[t])) for t in range(1, len(test))])


def test_words_are_parted_where_the_whole_text_would_be(monkeypatch, tmp_path):
    """Pieces of 7 bytes, held-back sentences up to a limit, the file that is left behind."""
    monkeypatch.setattr(texts, "PIECE", 7)
    monkeypatch.setattr(words, "PIECE", 5)
    rng = np.random.default_rng(0)
    sentences = [list(rng.choice(["ein", "schöner", "Tag", "😀"], rng.integers(1, 9))) for _ in range(60)]
    (tmp_path / "a.txt").write_text("".join("  ".join(s) + "\n\n" * (n % 3) + "\n" for n, s in enumerate(sentences)))
    text = "".join(" ".join(s) + "\n" for s in sentences)
    ends = np.cumsum([len(" ".join(s)) + 1 for s in sentences])
    cut = int(np.searchsorted(ends, 0.9 * ends[-1])) + 1
    read = words.read("test", str(tmp_path / "a.txt"), at="blanks", lower=False)
    assert list(read.train()) == sentences[:cut]
    assert read.held_back == sentences[cut:]
    assert read.counts == collections.Counter(word for s in sentences[:cut] for word in s)
    assert read.sha256 == hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "copy").mkdir()
    read.copy(tmp_path / "copy")
    assert (tmp_path / "copy" / "text.txt").read_text() == text
    monkeypatch.setattr(words, "SCORED", ends[cut] - 0.9 * ends[-1])
    assert words.read("test", str(tmp_path / "a.txt"), at="blanks", lower=False).held_back == sentences[cut : cut + 1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is full is /dev/full")
def test_a_temporary_file_without_room_is_told(monkeypatch):
    monkeypatch.setattr(stored.tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b"))  # noqa: SIM115
    with pytest.raises(
        OSError, match=r"^expected room for a temporary file in /.*, got none\. Name another folder by TM"
    ):
        stored.Stored([np.arange(5)])


def large_text(path, size):
    """A text of so many bytes: some words of two bytes a letter, and no two of a thousand lines alike."""
    rng = np.random.default_rng(0)
    lines = (" ".join(rng.choice(["the", "grün", "sum", "of", "été", "all"], 12)) + f" {n}\n" for n in range(1000))
    block = "".join(lines).encode() * 100
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(block)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_texts_larger_than_memory_train_beside_it(name, tmp_path):
    """Vocabulary, digest, floors and evaluation included; nothing of the text is kept beside it, but wordlm's copy."""
    words, size = COMMANDS[name]
    large_text(tmp_path / "large.txt", size)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "large.txt"), str(tmp_path / "run"), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, peak, _, _, status = done.stdout.split()
    assert status == "0"
    assert 1024 * int(peak) < MOST, f"{int(peak):,} kB"
    left = sorted(path.name for path in tmp_path.rglob("*") if path.stat().st_size > 10**8)
    assert left == ["large.txt", "text.txt"][: 1 + (name == "wordlm")]


class Watched:
    """Numbers that note the longest slice that is asked for."""

    def __init__(self, numbers):
        self.numbers, self.longest = numbers, 0

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, part):
        self.longest = max(self.longest, part.stop - part.start)
        return self.numbers[part]


def test_a_text_is_scored_a_piece_at_a_time(monkeypatch):
    """The log-probability of the whole, of which no more than so many ticks are asked for at once."""
    model = sj.models.language_model(5, 4)
    params = model.init(jax.random.key(0))
    numbers = np.random.default_rng(0).integers(0, 5, 100).astype(np.int32)
    expected = score.log_probability(model, params, numbers)
    monkeypatch.setattr(language, "TICKS", 8)
    watched = Watched(numbers)
    assert score.log_probability(model, params, watched) == pytest.approx(expected, rel=1e-9)
    assert watched.longest == 9
