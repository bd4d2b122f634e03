"""A text as sentences of words, for the recipes that model words: reading, numbering, and what unknown words cost."""

import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqjax import tasks
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.pieces import Symbols
from seqjax.recipes.language.text import SCORED, documentation
from seqjax.recipes.running import splits
from seqjax.recipes.running.options import BadInput
from seqjax.tasks.stored import Stored, temporary
from seqjax.tasks.vocabulary import EOS, UNK, Vocabulary

PIECE = 2**22  # bytes read at once
TOGETHER = 2**16  # words spelled at once
LOOKED_AT = 100_000  # sentences, for their beginnings


class Words:
    """A text as sentences, of which no more is in memory than its different words and what is held back.

    Args:
      who: the recipe, for errors.
      sentences: the words of each; the last tenth of the text is held back.
      held_back: other sentences that are held back instead; they end the text.
      test: sentences that are no part of the text.

    Attributes:
      counts: how often each word to learn from occurs.
      held_back: sentences behind them, `SCORED` characters at most.
      sha256: of the text, a sentence a line, words apart by a blank.
      parts: the same of what is learned from and of what is held back, which are two texts; None where one is split.

    Raises:
      BadInput: too few sentences.
    """

    def __init__(
        self,
        who: str,
        sentences: Iterable[Sequence[str]],
        held_back: Iterable[Sequence[str]] | None = None,
        test: Iterable[list[str]] | None = None,
    ):
        """Reads them once, and what became of them once more."""
        digest, apart, count, characters, end = hashlib.sha256(), [hashlib.sha256(), hashlib.sha256()], 0, 0, 0
        self.test = None if test is None else [*test]

        def lines() -> Iterator[bytes]:
            nonlocal count, characters, end
            for part, own in zip((sentences, held_back or ()), apart):
                for sentence in part:
                    line = " ".join(sentence) + "\n"
                    count, characters = count + 1, characters + len(line)
                    digest.update(line.encode())
                    own.update(line.encode())
                    yield line.encode()
                end = end or characters

        self._file = temporary(self, lines())
        self.counts, self.held_back, self.sha256 = Counter[str](), list[list[str]](), digest.hexdigest()
        self.parts = None if held_back is None else tuple(own.hexdigest() for own in apart)
        self._learned, before, parted = 0, 0, 0
        last = 0.9 * characters if held_back is None else end
        for raw in self._lines(self._file.tell()):
            line = raw.decode()
            if before < last:
                self.counts.update(line.split(" "))
                self._learned, parted = self._learned + len(raw) + 1, parted + 1
            elif before < last + SCORED:
                self.held_back.append(line.split(" "))
            before += len(line) + 1
        if held_back is None and (parted < 2 or not self.held_back):
            raise BadInput(
                f"{who}: expected a text of at least ten lines that can be parted at nine tenths of its length, got "
                f"{count}{', the last of them too long' if count >= 10 else ''}. Give a longer one."
            )
        if not parted or not self.held_back or self.test == []:
            raise BadInput(f"{who}: expected at least one line in every file, got none in one. Give another text.")

    def train(self) -> Iterator[list[str]]:
        """The sentences to learn from, one after the other."""
        return (line.decode().split(" ") for line in self._lines(self._learned))

    def copy(self, folder: Path) -> None:
        """Writes the text there: as one file, or as two where it was two."""
        whole = self._file.seek(0, os.SEEK_END)
        ends = {"text.txt": whole} if self.parts is None else {"train.txt": self._learned, "held_back.txt": whole}
        self._file.seek(0)
        for name, end in ends.items():
            with open(folder / name, "wb") as copied:
                while left := end - self._file.tell():
                    copied.write(self._file.read(min(PIECE, left)))

    def options(self, folder: Path | str) -> str:
        """What a command takes to read the copy and split it as here."""
        if self.parts is None:
            return f"--text {folder}/text.txt"
        return f"--train {folder}/train.txt --held-back {folder}/held_back.txt"

    def _lines(self, stop: int) -> Iterator[bytes]:
        """Those in the first bytes of the file, which may be read elsewhere meanwhile."""
        rest, at = b"", 0
        while at < stop:
            self._file.seek(at)
            piece = self._file.read(min(PIECE, stop - at))
            at += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines


def split(line: str, *, at: str, lower: bool) -> list[str]:
    """The words of a line.

    Args:
      line: a sentence.
      at: ``"blanks"`` takes what blanks separate, for texts already split; else punctuation is set apart.
      lower: write all in small letters.
    """
    line = line.lower() if lower else line
    return line.split() if at == "blanks" else tasks.words(line)


def read(who: str, path: str | None, *, at: str, lower: bool, default: Callable[[], str] = documentation) -> Words:
    """Every line that is not empty is a sentence; the last tenth of the text is held back.

    Lines end where `tasks.read_text` ends them; other separators of Unicode and form feeds are blanks in a sentence.
    Of the text itself no more is in memory than its longest line.

    Args:
      who: the recipe, for errors.
      path: a UTF-8 text; the default if None.
      at: as in `split`.
      lower: as in `split`.
      default: another text, of which what holds for files holds.
    """
    pieces = [default()] if path is None else tasks.open_text(path).pieces()
    return Words(who, sentences_of(pieces, at=at, lower=lower))


def read_split(
    who: str, options: splits.SplitOptions, *, at: str, lower: bool, default: Callable[[], str] = documentation
) -> Words:
    """As `read`, of one file or of those that are split already."""
    pieces = splits.read(options, lambda path: tasks.open_text(path).pieces(), lambda: iter([default()]))
    train, held_back, test = (None if part is None else sentences_of(part, at=at, lower=lower) for part in pieces)
    return Words(who, train or (), held_back, test)


def sentences_of(pieces: Iterable[str], *, at: str, lower: bool) -> Iterator[list[str]]:
    """The words of every line that is not empty, of a text that comes in pieces."""
    return filter(None, (split(line, at=at, lower=lower) for line in _joined(pieces)))


def number(vocabulary: Symbols, sentences: Iterable[Sequence[str]]) -> Stored:
    """One stream of words, or of their pieces, ``<eos>`` behind every sentence."""
    return Stored(vocabulary.encode(sentence, eos=True) for sentence in sentences)


def vocabulary_of(words: Words, limit: int) -> Vocabulary:
    """``<unk>``, ``<eos>``, and the words that occur twice or more, the most frequent first."""
    return Vocabulary.counted(words.counts, specials=(UNK, EOS), limit=limit, at_least=2)


def unknown_nats(vocabulary: Symbols, words: Words, asked: Sequence[Sequence[str]] | None = None) -> float:
    """What it takes to spell the unknown words that are held back, or asked, in nats: by a 3-gram model of characters.

    The model learns from the unknown words of the text to learn from, or from all where there are none. With this
    added, a model of words is one of characters, to be compared with others in bits a character.
    """
    sentences = words.held_back if asked is None else asked
    test = [word for sentence in sentences for word in sentence if word not in vocabulary]
    if not test:
        return 0.0
    learned = {word for word in words.counts if word not in vocabulary} or words.counts.keys()
    letters = Vocabulary(sorted({" "}.union(*learned, *test)))

    def spelled(unknown: Iterable[str]) -> Stored:
        behind = ("".join(f"{word} " for word in piece) for piece in _together(unknown))
        return Stored(map(letters.encode, itertools.chain([" "], behind)))

    train = spelled(word for sentence in words.train() for word in sentence if word in learned)
    numbers = spelled(test)[:]
    return ngram_nats(train, numbers, len(letters), 3)[-1] * (len(numbers) - 1)


class Asked(NamedTuple):
    """Sentences to measure on: one stream, nats to spell the unknown words, how many characters they are."""

    numbers: np.ndarray
    spelling: float
    characters: int


def asked(vocabulary: Symbols, words: Words, sentences: list[list[str]]) -> Asked:
    """Sentences, unknown words in which are spelled as those learned from are."""
    spelling = unknown_nats(vocabulary, words, sentences)
    return Asked(number(vocabulary, sentences)[:], spelling, characters(sentences))


def characters(sentences: Sequence[Sequence[str]]) -> int:
    """How many there are, the blank or line break behind every word included."""
    return sum(len(word) + 1 for sentence in sentences for word in sentence)


def told(words: Sequence[str]) -> str:
    """Words as a text, without blanks before closing marks and behind opening ones."""
    text = re.sub(r" ([.,;:!?)\]}])", r"\1", " ".join(words))
    return re.sub(r"([(\[{]) ", r"\1", text)


def commonest_pairs(sentences: Iterable[Sequence[str]]) -> list[str]:
    """The four pairs of words that most often come in a sentence's first ten words, of the first sentences."""
    pairs = Counter(
        " ".join(s[i : i + 2])
        for s in itertools.islice(sentences, LOOKED_AT)
        for i in range(min(9, len(s) - 1))
        if s[i].isalpha() and s[i + 1].isalpha()
    )
    return [pair for pair, _ in pairs.most_common(4)]


def share(which: Sequence[bool]) -> str:
    """How many of them, in percent."""
    return f"{np.mean(which):.1%}" if which else "none"


def _together(words: Iterable[str]) -> Iterator[list[str]]:
    """Many of them at once, in lists."""
    some = iter(words)
    return iter(lambda: list(itertools.islice(some, TOGETHER)), [])


def _joined(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    yield rest
