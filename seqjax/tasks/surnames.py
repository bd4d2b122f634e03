"""Surnames made by rule from what is typical of languages, to be told apart."""

import itertools

import numpy as np

from seqjax.tasks.problem import Pair, TextProblem, balanced, pick
from seqjax.tasks.vocabulary import words

STEMS = words(
    "ban bar ber bor bran dal dar dem dor fal fer gal gor gran hal her kal kar kor lam lan lem len lor mal mar mel mir "
    "mor nal nor pan pal par pel per ral ran rin ros sal san sel ser sim sol tam tan tar tel ter tom val van ver vol"
)
LINKS = ("", "", "a", "e", "i", "o")
ENDINGS = {
    "Armenian": words("yan ian"),
    "German": words("mann berger stein bach hauer"),
    "Greek": words("opoulos akis idis oglou"),
    "Irish": words("agh an ell ey"),
    "Italian": words("ini elli etti acci one"),
    "Polish": words("ski wicz czyk cki"),
    "Russian": words("ov ev in sky"),
    "Scottish": words("ell an ie ay"),
    "Spanish": words("ez ado illo ero"),
    "Swedish": words("sson qvist gren ström"),
}
BEGINNINGS = {"Irish": ("O'",), "Scottish": ("Mac", "Mc")}


def surname(rng: np.random.Generator, language: str) -> str:
    """One surname: a stem that is nobody's in particular, and an ending, or a beginning, of the language."""
    name = pick(rng, STEMS) + pick(rng, LINKS)
    if rng.integers(2):
        name += pick(rng, STEMS)
    name += pick(rng, ENDINGS[language])
    return pick(rng, BEGINNINGS.get(language, ("",))) + name.capitalize()


def surnames() -> TextProblem:
    """Surnames to sort by language, every language as often as the others.

    Most languages show in the ending. Irish and Scottish names share theirs and show at the beginning, which a reader
    has to remember to the end.

    Returns:
      A problem of pairs (surname as a string, one language).
    """
    languages = tuple(sorted(ENDINGS))

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        labels = [languages[label] for label in balanced(rng, count, len(languages))]
        return [Pair(surname(rng, label), (label,)) for label in labels]

    parts = [*STEMS, *LINKS, *itertools.chain(*ENDINGS.values(), *BEGINNINGS.values())]
    letters = tuple(sorted({*"".join(parts), *(stem[0].upper() for stem in STEMS)}))
    return TextProblem(draw, letters, languages, "accuracy", 1 / len(languages))
