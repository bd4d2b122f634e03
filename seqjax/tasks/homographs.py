"""Generated sentences whose words have two parts of speech: only the words around say which it is."""

import numpy as np

from seqjax.tasks.problem import Pair, TextProblem
from seqjax.tasks.vocabulary import words

LONGEST = 20
TAGS = ("ADJ", "ADP", "ADV", "DET", "NOUN", "PRON", "PUNCT", "VERB")

# What a sentence begins with, and what follows each tag, in the order of TAGS; it ends with the first point.
START = np.array([0.0, 0.05, 0.1, 0.4, 0.1, 0.25, 0.0, 0.1])
FOLLOWS = np.array(
    [
        [0.1, 0.0, 0.0, 0.0, 0.75, 0.0, 0.15, 0.0],
        [0.05, 0.0, 0.0, 0.55, 0.2, 0.2, 0.0, 0.0],
        [0.2, 0.1, 0.05, 0.05, 0.0, 0.05, 0.3, 0.25],
        [0.35, 0.0, 0.0, 0.0, 0.65, 0.0, 0.0, 0.0],
        [0.0, 0.2, 0.05, 0.0, 0.1, 0.0, 0.25, 0.4],
        [0.0, 0.05, 0.15, 0.0, 0.0, 0.0, 0.15, 0.65],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        [0.05, 0.15, 0.15, 0.3, 0.1, 0.1, 0.15, 0.0],
    ]
)

# Each word of a tag is as likely as the others; a word of two lines is a homograph.
LEXICON = {
    "ADJ": words("light open clean dry cool fast hard well right small famous"),
    "ADP": words("in on by near round down"),
    "ADV": words("fast hard well right round down near often again"),
    "DET": words("the a every that her this"),
    "NOUN": words("walk work plant watch light play water fly love right well answer dog teacher garden"),
    "PRON": words("they she we that her this"),
    "PUNCT": (".",),
    "VERB": words("walk work plant watch light play water fly love answer open clean dry cool near bring"),
}
WORDS = tuple(sorted({word for line in LEXICON.values() for word in line}))


def emissions() -> np.ndarray:
    """``[tags, words]``: how likely each word is where its tag stands."""
    return np.array([[LEXICON[tag].count(word) / len(LEXICON[tag]) for word in WORDS] for tag in TAGS])


def homograph_sentences() -> TextProblem:
    """Sentences to tag with parts of speech: a chain of tags, each of which says a word by chance.

        p(tags, words) = START(tag_1) ∏_t FOLLOWS(tag_{t+1} | tag_t) · ∏_t emissions(word_t | tag_t)

    up to the point, anew where more than 20 words come. Most words belong to two tags. The chain is a hidden Markov
    model, so that the best there is can be computed: `seqjax.hmm.posterior` of ``hmm.from_probabilities(START, FOLLOWS,
    emissions())`` for who reads the whole sentence, `seqjax.hmm.forward` for who reads from left to right.

    Returns:
      A problem of pairs (words, tags); ``chance`` is the accuracy of each word's commonest tag in 2,000 sentences.

    Example:
      >>> import numpy as np
      >>> (pair,) = homograph_sentences().draw(np.random.default_rng(7), 1)
      >>> len(pair.source) == len(pair.target), pair.target[-1]
      (True, 'PUNCT')
    """
    table = emissions()

    def sentence(rng: np.random.Generator) -> Pair:
        tags = [int(rng.choice(len(TAGS), p=START))]
        while TAGS[tags[-1]] != "PUNCT":
            tags.append(int(rng.choice(len(TAGS), p=FOLLOWS[tags[-1]])))
        said = [WORDS[rng.choice(len(WORDS), p=table[tag])] for tag in tags]
        return Pair(tuple(said), tuple(TAGS[tag] for tag in tags)) if len(tags) <= LONGEST else sentence(rng)

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        return [sentence(rng) for _ in range(count)]

    counts = np.zeros(table.shape)
    for source, target in draw(np.random.default_rng(0), 2000):
        np.add.at(counts, ([TAGS.index(tag) for tag in target], [WORDS.index(word) for word in source]), 1)
    return TextProblem(draw, WORDS, TAGS, "accuracy", float(counts.max(0).sum() / counts.sum()))
