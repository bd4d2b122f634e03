"""Texts in place: the same characters, counts, digests, windows and floors as of the whole text in memory."""

import collections
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from seqjax import tasks
from seqjax.recipes.language import text as language
from seqjax.tasks import texts

SCRIPT = """
import re, sys
from seqjax.__main__ import main
options = "--steps 3 --batch-size 8 --window 16 --hidden-size 8 --embedding-size 4 --length 10 --devices 1".split()
status = main(["charlm", "--text", sys.argv[1], "--run-dir", sys.argv[2], *options])
print("\\npeak", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], "kB, status", status)
"""


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
        np.testing.assert_array_equal(texts.window(numbers, 270, 4, 9, n), columns[9 * n : 9 * n + 10])
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


@pytest.mark.parametrize("piece", [7, 2**22])
def test_the_floor_counted_by_pieces_is_the_floor(piece, monkeypatch):
    """Pairs never seen, symbols never seen, one that ends the training part alone."""
    monkeypatch.setattr(language, "PIECE", piece)
    rng = np.random.default_rng(0)
    train, test = rng.choice(7, 201, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0]), rng.choice(8, 60)
    train[-1] = 6
    found = language.bigram_nats(np.concatenate([train, test]), len(train), test, 8)
    assert found == pytest.approx(language.ngram_nats(train, test, 8, 2), rel=1e-13)


def large_text(path, size):
    """A text of so many bytes: some words of two bytes a letter, and no two of a thousand lines alike."""
    rng = np.random.default_rng(0)
    lines = (" ".join(rng.choice(["the", "grün", "sum", "of", "été", "all"], 12)) + f" {n}\n" for n in range(1000))
    block = "".join(lines).encode() * 100
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(block)


def trained_on(path, folder):
    """Peak memory in bytes, and what the run says of its text."""
    command = [sys.executable, "-c", SCRIPT, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, peak, _, _, status = done.stdout.split()
    assert status == "0"
    return 1024 * int(peak), done.stdout


@pytest.mark.slow
def test_two_gigabytes_train_in_one(tmp_path):
    """Vocabulary, digest, floor and evaluation included; nothing of the text is kept beside it."""
    large_text(tmp_path / "large.txt", 2 * 10**9)
    peak, said = trained_on(tmp_path / "large.txt", tmp_path / "run")
    assert peak < 10**9, f"{peak:,}"
    assert "characters of 27 kinds" in said, said
    assert [path.name for path in tmp_path.rglob("*") if path.stat().st_size > 10**8] == ["large.txt"]
