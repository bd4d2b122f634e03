"""A text as sentences of words, for the recipes that model words: reading, numbering, and what unknown words cost."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from seqjax import tasks
from seqjax.recipes.language.text import documentation, ngram_nats
from seqjax.recipes.running.options import BadInput
from seqjax.tasks.vocabulary import EOS, UNK, Vocabulary


class Words(NamedTuple):
    """The sentences to learn from and those held back, and the whole text they are: a sentence a line, words apart."""

    train: list[list[str]]
    held_back: list[list[str]]
    text: str


def split(line: str, *, at: str, lower: bool) -> list[str]:
    """The words of a line.

    Args:
      line: a sentence.
      at: ``"marks"`` sets punctuation apart; ``"blanks"`` takes what blanks separate, for texts already split.
      lower: write all in small letters.
    """
    line = line.lower() if lower else line
    return tasks.words(line) if at == "marks" else line.split()


def read(who: str, path: str | None, *, at: str, lower: bool, default: Callable[[], str] = documentation) -> Words:
    """Every line that is not empty is a sentence; the last tenth of the text is held back.

    Lines end where `tasks.read_text` ends them; other separators of Unicode and form feeds are blanks in a sentence.

    Args:
      who: the recipe, for errors.
      path: a UTF-8 text; the default if None.
      at: as in `split`.
      lower: as in `split`.
      default: another text, of which what holds for files holds.
    """
    lines = (default() if path is None else tasks.read_text(path)).split("\n")
    sentences = [words for line in lines if (words := split(line, at=at, lower=lower))]
    ends = np.cumsum([len(" ".join(sentence)) + 1 for sentence in sentences])
    cut = int(np.searchsorted(ends, 0.9 * ends[-1])) + 1 if sentences else 0
    if cut < 2 or cut >= len(sentences):
        raise BadInput(
            f"{who}: expected a text of at least ten lines that can be parted at nine tenths of its length, got "
            f"{len(sentences)}{', the last of them too long' if len(sentences) >= 10 else ''}. Give a longer one."
        )
    whole = "".join(" ".join(sentence) + "\n" for sentence in sentences)
    return Words(sentences[:cut], sentences[cut:], whole)


def number(vocabulary: Vocabulary, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """One stream of words, ``<eos>`` behind every sentence."""
    return np.concatenate([vocabulary.encode(sentence, eos=True) for sentence in sentences])


def vocabulary_of(words: Words, limit: int) -> Vocabulary:
    """``<unk>``, ``<eos>``, and the words that occur twice or more, the most frequent first."""
    return Vocabulary.build(words.train, specials=(UNK, EOS), limit=limit, at_least=2)


def unknown_nats(vocabulary: Vocabulary, words: Words) -> float:
    """What it takes to spell the unknown words that are held back, in nats: by a 3-gram model of characters.

    The model learns from the unknown words of the text to learn from, or from all where there are none. With this
    added, a model of words is one of characters, to be compared with others in bits a character.
    """
    known = [[word for sentence in part for word in sentence] for part in (words.train, words.held_back)]
    train, test = ([word for word in part if word not in vocabulary] for part in known)
    if not test:
        return 0.0
    spelled = [" " + "".join(f"{word} " for word in part) for part in (train or known[0], test)]
    letters = Vocabulary(sorted(set("".join(spelled))))
    numbers = [letters.encode(part) for part in spelled]
    return ngram_nats(numbers[0], numbers[1], len(letters), 3) * (len(numbers[1]) - 1)


def characters(sentences: Sequence[Sequence[str]]) -> int:
    """How many there are, the blank or line break behind every word included."""
    return sum(len(word) + 1 for sentence in sentences for word in sentence)


def told(words: Sequence[str]) -> str:
    """Words as a text, without blanks before closing marks and behind opening ones."""
    text = re.sub(r" ([.,;:!?)\]}])", r"\1", " ".join(words))
    return re.sub(r"([(\[{]) ", r"\1", text)


def commonest_pairs(sentences: Sequence[Sequence[str]]) -> list[str]:
    """The four pairs of words that most often begin a sentence's first ten words."""
    pairs = Counter(
        " ".join(s[i : i + 2])
        for s in sentences
        for i in range(min(9, len(s) - 1))
        if s[i].isalpha() and s[i + 1].isalpha()
    )
    return [pair for pair, _ in pairs.most_common(4)]
