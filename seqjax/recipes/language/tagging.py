"""Tagged sentences as numbers and back, and how good tags are: what the recipe `tag` is made of, but for its model."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import hmm, models, tasks
from seqjax.base import PyTree
from seqjax.tasks import homographs
from seqjax.tasks.applications import genes
from seqjax.tasks.vocabulary import PAD, UNK, Vocabulary

STRANDS, BASES, CODING = (4000, 500), (12, 18, 30), ("other", "coding")

Answers = Callable[[PyTree, models.Words, jax.Array], jax.Array]  # (params, words, mask) -> tags, [T, B]


class Code(NamedTuple):
    """Vocabularies of lower-case words, characters and tags; how many characters of a word are read."""

    words: Vocabulary
    characters: Vocabulary
    tags: Vocabulary
    length: int

    @classmethod
    def of(cls, sentences: Sequence[tasks.Sentence], length: int) -> "Code":
        """All that occurs in these sentences."""
        words = [word for sentence in sentences for word in sentence.words]
        return cls(
            Vocabulary.build([map(str.lower, words)], specials=(PAD, UNK)),
            Vocabulary.build(words, specials=(PAD, UNK)),
            Vocabulary(sorted({tag for sentence in sentences for tag in sentence.tags})),
            length,
        )

    def encode(self, sentence: tasks.Sentence) -> np.ndarray:
        """``[t, 2 + length]``: tag (-1 if never seen), word and characters of each word."""
        row = np.zeros((len(sentence.words), 2 + self.length), np.int32)
        row[:, 0] = [self.tags.symbols.index(tag) if tag in self.tags else -1 for tag in sentence.tags]
        row[:, 1] = self.words.encode(map(str.lower, sentence.words))
        first = self.length // 3
        for t, word in enumerate(sentence.words):
            if len(word) > self.length:
                word = word[:first] + word[first - self.length :]
            row[t, 2 : 2 + len(word)] = self.characters.encode(word)
        return row


def columns(padded: tasks.Padded) -> sj.Batch:
    """Rows of `Code.encode` side by side, as a batch."""
    mask = np.arange(len(padded.values))[:, None] < padded.lengths
    tags, ids, characters = padded.values[..., 0], padded.values[..., 1], padded.values[..., 2:]
    return sj.Batch(models.Words(jnp.asarray(ids), jnp.asarray(characters)), tags, mask)


def tag(
    answers: Answers, params: PyTree, code: Code, sentences: Sequence[tasks.Sentence], *, buckets: int = 2
) -> list[tuple[str, ...]]:
    """The tags found for each sentence; sentences are padded to so many lengths, and a program is compiled for each."""
    examples = [code.encode(sentence) for sentence in sentences]
    plan = tasks.buckets(np.array([len(example) for example in examples]), buckets)
    found: list[tuple[str, ...]] = [()] * len(sentences)
    for drawn in tasks.batches([examples], plan, 64, seed=0, epochs=1):
        batch = columns(drawn.fields[0])
        ys = np.asarray(answers(params, batch.xs, batch.mask))
        for b, (i, length) in enumerate(zip(drawn.examples, drawn.fields[0].lengths)):
            if i >= 0:
                found[i] = tuple(code.tags.symbols[y] for y in ys[:length, b])
    return found


def ceilings(sentences: Sequence[tasks.Sentence]) -> dict[str, float]:
    """The accuracy of who knows the rules of `tasks.homograph_sentences`, from the words so far, or from all."""
    place = {word: i for i, word in enumerate(homographs.WORDS)}
    values, lengths = tasks.pad([np.array([place[word] for word in sentence.words]) for sentence in sentences])
    mask = jnp.asarray(np.arange(len(values))[:, None] < lengths)
    model = hmm.from_probabilities(homographs.START, homographs.FOLLOWS, homographs.emissions())
    known = hmm.forward(model, values, mask=mask).log_filtered, hmm.posterior(model, values, mask=mask).log_marginals
    right = []
    for log_probs in known:
        best = np.asarray(log_probs).argmax(-1)
        found = [[homographs.TAGS[i] for i in best[:n, b]] for b, n in enumerate(lengths)]
        right.append(scores(found, sentences)["accuracy"])
    return {"the rules, left to right": right[0], "the rules": right[1]}


def strands(seed: int) -> tuple[list[tasks.Sentence], list[tasks.Sentence]]:
    """Strands of bases as sentences; short ones to learn from, too, in which a start and a stop are found sooner."""
    rng = np.random.default_rng(seed)

    def drawn(length: int, count: int) -> list[tasks.Sentence]:
        some = genes(length).draw(rng, count)
        texts = zip(some.xs.T, some.targets.T)
        return [tasks.Sentence(tuple("ACGT"[x] for x in xs), tuple(CODING[y] for y in ys)) for xs, ys in texts]

    train = [sentence for length in BASES for sentence in drawn(length, STRANDS[0])]
    return train, drawn(BASES[-1], STRANDS[1])


def scores(found: Sequence[Sequence[str]], sentences: Sequence[tasks.Sentence]) -> dict[str, float]:
    """The share of tags that are right; F1 over whole entities too, where the true tags are BIO."""
    true = [sentence.tags for sentence in sentences]
    pairs = [pair for f, t in zip(found, true) for pair in zip(f, t)]
    numbers = {"accuracy": sum(f == t for f, t in pairs) / len(pairs)}
    if all(_is_bio(tag) for tags in true for tag in tags):
        numbers["f1"] = tasks.span_f1([[tag if _is_bio(tag) else "O" for tag in tags] for tags in found], true).f1
    return numbers


def _is_bio(tag: str) -> bool:
    return tag == "O" or tag[:2] in ("B-", "I-")


def check_tags(known: Collection[str], held_back: Sequence[tasks.Sentence]) -> None:
    """Every tag that is held back can be learned.

    Raises:
      ValueError: one cannot.
    """
    for sentence in held_back:
        for word, tag in zip(*sentence):
            if tag not in known:
                raise ValueError(
                    f"expected the tags held back to occur among those to learn from, got {tag} of {word!r} in "
                    f"{' '.join(sentence.words)!r}. Learn from more sentences, or leave that one out."
                )


def commonest(train: Sequence[tasks.Sentence], held_back: Sequence[tasks.Sentence]) -> list[tuple[str, ...]]:
    """Tags without looking around: each word gets the tag it most often has, an unknown one the commonest of all."""
    pairs = Counter(pair for sentence in train for pair in zip(*sentence))
    of_word: dict[str, str] = {}
    for (word, tag), _ in pairs.most_common():
        of_word.setdefault(word, tag)
    top = Counter(tag for sentence in train for tag in sentence.tags).most_common(1)[0][0]
    return [tuple(of_word.get(word, top) for word in sentence.words) for sentence in held_back]


def confusion(found: Sequence[Sequence[str]], sentences: Sequence[tasks.Sentence], tags: Vocabulary) -> np.ndarray:
    """How often each true tag (row) was taken for which (column)."""
    counts = Counter(pair for f, sentence in zip(found, sentences) for pair in zip(sentence.tags, f))
    return np.array([[counts[true, other] for other in tags.symbols] for true in tags.symbols])


def aligned(sentence: tasks.Sentence, found: dict[str, tuple[str, ...]]) -> str:
    """Words, true tags and found ones, in columns; found ones only where they are wrong."""
    rows = {"": sentence.words, "true": sentence.tags}
    for name, tags in found.items():
        rows[label(name)] = tuple(tag if tag != true else "·" for tag, true in zip(tags, sentence.tags))
    widths = [max(map(len, column)) for column in zip(*rows.values())]
    left = max(map(len, rows))
    return "\n".join(
        f"{name:{left}}  " + " ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip()
        for name, row in rows.items()
    )


def told(numbers: dict[str, float]) -> str:
    """Measures in words."""
    return ", ".join(f"{kind} {value:.2%}" for kind, value in numbers.items())


def label(name: str) -> str:
    """The name of a tagger in words."""
    return name.replace("_", " ")
