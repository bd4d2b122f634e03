"""Whole numbers in words, in English and French: translation pairs whose every answer is known."""

import itertools

import numpy as np

from seqjax.tasks.problem import Pair, TextProblem
from seqjax.tasks.vocabulary import words

_ENGLISH = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ENGLISH_TENS = words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
_FRENCH = words(
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf"
)
_FRENCH_TENS = words("_ _ vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt")


def english(number: int) -> str:
    """A number below a million in English, British style with "and".

    Raises:
      ValueError: a number outside 0 … 999,999.

    >>> english(71), english(180), english(2001)
    ('seventy-one', 'one hundred and eighty', 'two thousand and one')
    """
    _check("english", number)
    if number < 20:
        return _ENGLISH[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _ENGLISH_TENS[tens] + (f"-{_ENGLISH[ones]}" if ones else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    count, rest = divmod(number, size)
    link = " and " if rest < 100 else " "
    return f"{english(count)} {name}" + (link + english(rest) if rest else "")


def french(number: int) -> str:
    """A number below a million in French, as spelled before 1990: hyphens below a hundred, none beside "et".

    Seventy is sixty-ten and ninety four-twenty-ten; "vingt" and "cent" take an s where they are multiplied
    and end the number, also not before "mille"; "mille" never changes.

    Raises:
      ValueError: a number outside 0 … 999,999.

    >>> french(71), french(180), french(2001), french(80000)
    ('soixante et onze', 'cent quatre-vingts', 'deux mille un', 'quatre-vingt mille')
    """
    _check("french", number)
    return _french(number, last=True)


def _french(number: int, last: bool) -> str:
    if number < 20:
        return _FRENCH[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        if tens in (7, 9):
            ones += 10
        if ones == 0:
            return _FRENCH_TENS[tens] + ("s" if tens == 8 and last else "")
        link = " et " if ones in (1, 11) and tens < 8 else "-"
        return _FRENCH_TENS[tens] + link + _FRENCH[ones]
    if number < 1000:
        count, rest = divmod(number, 100)
        head = "cent" if count == 1 else f"{_FRENCH[count]} cent" + ("s" if rest == 0 and last else "")
        return head + (f" {_french(rest, last)}" if rest else "")
    count, rest = divmod(number, 1000)
    head = "mille" if count == 1 else f"{_french(count, last=False)} mille"
    return head + (f" {_french(rest, last)}" if rest else "")


def number_spelling(below: int = 1_000_000) -> TextProblem:
    """English numbers to translate into French, word by word with hyphens apart.

    The number of digits is drawn first, so that short numbers are as frequent as long ones. Word order and
    the number of words differ between the languages (ninety-one = quatre vingt onze), so that no word-by-word
    translator can do it.

    Args:
      below: numbers are smaller than this, at most a million.

    Returns:
      A problem of pairs of tuples of words.

    Raises:
      ValueError: a bound outside 2 … 1,000,000.
    """
    if not 2 <= below <= 1_000_000:
        raise ValueError(f"number_spelling: expected a bound from 2 to 1,000,000, got {below}. Choose one.")
    bounds = [0, *[10**k for k in range(1, 6) if 10**k < below], below]
    smallest = min(b - a for a, b in itertools.pairwise(bounds))
    telling = [n for n in (*range(100), 100, 101, 200, 1000) if n < below]
    english_words, french_words = (
        tuple(sorted({word for n in telling for word in parts(speak(n))})) for speak in (english, french)
    )

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        pairs = []
        for digits in rng.integers(0, len(bounds) - 1, count):
            number = int(rng.integers(bounds[digits], bounds[digits + 1]))
            pairs.append(Pair(parts(english(number)), parts(french(number))))
        return pairs

    return TextProblem(draw, english_words, french_words, "exact match", 1 / (smallest * (len(bounds) - 1)))


def parts(spelled: str) -> tuple[str, ...]:
    """The words of a spelled number, hyphenated ones apart.

    >>> parts("quatre-vingt mille")
    ('quatre', 'vingt', 'mille')
    """
    return tuple(spelled.replace("-", " ").split())


def _check(who: str, number: int) -> None:
    if not 0 <= number < 1_000_000:
        raise ValueError(f"{who}: expected a whole number from 0 to 999,999, got {number}. Choose a smaller one.")
