"""Generated English sentences with known tags: entities whose kind shows later, verbs that agree over a distance."""

import itertools
from typing import NamedTuple

import numpy as np

from seqjax import checks
from seqjax.tasks.problem import Pair, TextProblem, balanced, pick
from seqjax.tasks.vocabulary import words

FIRST = words("Alan Ada Grace Ludwig Marie Isaac Emmy Rosa Paul Lise")
LAST = words("Turing Lincoln Washington Madison Houston Sydney Florence Victoria Jackson Hudson")
NOUNS = {
    "PER": words("scientist engineer composer painter teacher physician"),
    "LOC": words("city harbour village island province valley"),
    "ORG": words("company university newspaper bank orchestra museum"),
}
ADJECTIVES = words("famous small old quiet remarkable foreign modern little-known")
OPENINGS = ((), ("Yesterday",), ("In", "May"), ("As", "we", "heard"), ("Once", "again"))
OPENING_TAGS = {
    "Yesterday": "NOUN",
    "In": "ADP",
    "May": "PROPN",
    "As": "SCONJ",
    "we": "PRON",
    "heard": "VERB",
}
OPENING_TAGS |= {"Once": "ADV", "again": "ADV"}
ENDINGS = (
    (("was", "AUX"), ("mentioned", "VERB"), ("in", "ADP"), ("the", "DET"), ("report", "NOUN")),
    (("appears", "VERB"), ("in", "ADP"), ("our", "PRON"), ("records", "NOUN")),
    (("has", "AUX"), ("changed", "VERB"), ("little", "ADV")),
    (("is", "AUX"), ("dear", "ADJ"), ("to", "ADP"), ("us", "PRON")),
)
ENTITY_TAGS = ("O", *(f"{side}-{kind}" for kind in NOUNS for side in "BI"))


class TaggedSentence(NamedTuple):
    """Words with a part of speech and an entity tag (BIO) each."""

    words: tuple[str, ...]
    parts_of_speech: tuple[str, ...]
    entities: tuple[str, ...]


def tagged_sentence(rng: np.random.Generator, kind: str) -> TaggedSentence:
    """One sentence about a name whose kind, ``"PER"``, ``"LOC"`` or ``"ORG"``, only a later noun tells.

    "Alan Turing , the famous old scientist , was mentioned in the report .": the same names stand for
    persons, places and organisations, so that whoever reads from left to right cannot know better than chance
    what they are.

    Raises:
      ValueError: another kind.
    """
    checks.choice("tagged_sentence", "kind", kind, NOUNS)
    opening = pick(rng, OPENINGS)
    name = [pick(rng, FIRST), pick(rng, LAST)]
    adjectives = [ADJECTIVES[i] for i in rng.permutation(len(ADJECTIVES))[: rng.integers(0, 4)]]
    noun = pick(rng, NOUNS[kind])
    ending = pick(rng, ENDINGS)
    tagged = [(word, OPENING_TAGS[word], "O") for word in opening]
    if opening:
        tagged.append((",", "PUNCT", "O"))
    tagged += [
        (name[0], "PROPN", f"B-{kind}"),
        (name[1], "PROPN", f"I-{kind}"),
        (",", "PUNCT", "O"),
        ("the", "DET", "O"),
    ]
    tagged += [(adjective, "ADJ", "O") for adjective in adjectives]
    tagged += [(noun, "NOUN", "O"), (",", "PUNCT", "O")]
    tagged += [(word, tag, "O") for word, tag in ending]
    tagged.append((".", "PUNCT", "O"))
    return TaggedSentence(*(tuple(column) for column in zip(*tagged)))


def entity_sentences() -> TextProblem:
    """Sentences to tag with entities in BIO, every kind as often as the others.

    Returns:
      A problem of pairs (words, entity tags); ``chance`` is the accuracy on a name's two words of whoever knows where
      names stand and guesses their kind: one in three. Over all words it says nothing: O everywhere is right for 87 %.
    """

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        kinds = balanced(rng, count, len(NOUNS))
        sentences = [tagged_sentence(rng, list(NOUNS)[kind]) for kind in kinds]
        return [Pair(sentence.words, sentence.entities) for sentence in sentences]

    return TextProblem(draw, _tagged_words(), ENTITY_TAGS, "accuracy", 1 / len(NOUNS))


def part_of_speech_sentences() -> TextProblem:
    """The same sentences with universal parts of speech.

    Returns:
      A problem of pairs (words, tags); ``chance`` is the share of the most frequent tag in 2,000 sentences.
    """

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        kinds = balanced(rng, count, len(NOUNS))
        sentences = [tagged_sentence(rng, list(NOUNS)[kind]) for kind in kinds]
        return [Pair(sentence.words, sentence.parts_of_speech) for sentence in sentences]

    tags = [tag for pair in draw(np.random.default_rng(0), 2000) for tag in pair.target]
    symbols = tuple(sorted(set(tags)))
    chance = max(map(tags.count, symbols)) / len(tags)
    return TextProblem(draw, _tagged_words(), symbols, "accuracy", chance)


def _tagged_words() -> tuple[str, ...]:
    lists = [FIRST, LAST, ADJECTIVES, *NOUNS.values(), *OPENINGS, *([w for w, _ in e] for e in ENDINGS)]
    return tuple(sorted({",", ".", "the", *itertools.chain(*lists)}))


AGREEING = ("cat", "dog", "horse", "rabbit", "goat", "hen")
FILLERS = words("very slowly and quietly then rather happily but also quite carefully indeed")
STATES = words("full asleep outside here")


def agreement_sentence(rng: np.random.Generator, fillers: int, plural: bool) -> Pair:
    """A sentence like "The cat(s), which already ate … , was/were full", the verb agreeing with the noun.

    Args:
      rng: where the words come from.
      fillers: how many words without number stand between.
      plural: whether the noun is plural.

    Returns:
      The words before the verb, and the words from the verb on.
    """
    noun = pick(rng, AGREEING) + "s" * plural
    between = [FILLERS[i] for i in rng.integers(0, len(FILLERS), fillers)]
    before = ("The", noun, ",", "which", "already", "ate", *between, ",")
    return Pair(before, ("were" if plural else "was", pick(rng, STATES), "."))


def agreement(fillers: int) -> TextProblem:
    """Sentences whose verb must agree with a noun ``fillers + 6`` words before it, half of them plural.

    Every word but the noun is drawn without regard to number: a model of the last ``fillers + 5`` words is at
    50 %.

    Args:
      fillers: words between "ate" and the comma.

    Returns:
      A problem of pairs (words before the verb, the verb and what follows); ``chance`` is the accuracy on the verb
      alone, of "was" or "were".

    Raises:
      ValueError: a negative number of fillers.
    """
    if fillers < 0:
        raise ValueError(f"agreement: expected a number of filler words of at least 0, got {fillers}. Raise it.")

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        return [agreement_sentence(rng, fillers, bool(plural)) for plural in balanced(rng, count, 2)]

    nouns = [noun + s for noun in AGREEING for s in ("", "s")]
    words = tuple(sorted({"The", ",", "which", "already", "ate", ".", "was", "were", *nouns, *FILLERS, *STATES}))
    return TextProblem(draw, words, words, "accuracy", 1 / 2)
