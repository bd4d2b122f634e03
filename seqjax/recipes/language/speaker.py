"""What a trained language model of words or pieces is asked: next words, the order of sentences, some of its own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import PyTree
from seqjax.recipes.language.pieces import Pieces, Symbols, next_words
from seqjax.recipes.running.asking import Asked, Reply
from seqjax.tasks.vocabulary import UNK

LONGEST, DUELS = 40, 300  # words of a sentence, which are at most so many symbols times PIECES
PIECES = 3


class Duel(NamedTuple):
    """A sentence, the same with two words swapped, and ln p of both."""

    sentence: list[str]
    swapped: list[str]
    score: float
    swapped_score: float


class Speaker(NamedTuple):
    """A trained model at use."""

    model: sj.Layer
    params: PyTree
    vocabulary: Symbols

    @property
    def example(self) -> str:
        """The beginning of a question."""
        known = self.vocabulary
        return " ".join(known.common[:2] if isinstance(known, Pieces) else known.symbols[2:4])

    def next_words(self, prompt: Sequence[str], count: int) -> list[tuple[str, float]]:
        """The likeliest words behind the beginning of a sentence, and their probabilities."""
        read = self._beginning(prompt)
        if isinstance(self.vocabulary, Pieces):
            return next_words(self.model, self.params, self.vocabulary, read, count)
        best = models.next_symbols(self.model, self.params, jnp.asarray(read), min(count, len(self.vocabulary)))
        return [(self.vocabulary.symbols[int(w)], float(p)) for w, p in zip(best.symbols, best.probs)]

    def note(self, words: Sequence[str]) -> str:
        """Which of the words it does not know, as a remark behind them: to the model they are all the same word."""
        unknown = ", ".join(dict.fromkeys(word for word in words if word not in self.vocabulary))
        return f"  (unknown, read as {UNK}: {unknown})" if unknown else ""

    def ranked(self, sentences: Sequence[list[str]]) -> list[tuple[list[str], float]]:
        """Sentences from the likeliest to the least likely, with ln p."""
        if not sentences:
            return []
        numbers = [self.vocabulary.encode(sentence, eos=True).tolist() for sentence in sentences]
        order, scores = models.rank(self.model, self.params, numbers, first=models.NOTHING)
        return [(sentences[i], float(score)) for i, score in zip(order, scores)]

    def going_on(self, words: Sequence[str], *, temperature: float = 0.8, seed: int = 0) -> list[str]:
        """The beginning of a sentence and its end, drawn word by word, never ``<unk>``."""
        read = self._beginning(words)
        state, _ = self.model.apply(self.params, self.model.initial_state(self.params), jnp.asarray(read[:-1]))
        found = sj.sample(
            self.model,
            self.params,
            state,
            jnp.asarray(read[-1]),
            **self._how(temperature, seed),
        )
        if isinstance(self.vocabulary, Pieces):  # of which the first ones may belong to the last word
            return self.vocabulary.decode([*read[1:], *np.asarray(found.symbols)])
        return [*words, *self.vocabulary.decode(np.asarray(found.symbols))]

    def against_swapped(self, sentences: Sequence[list[str]], rng: np.random.Generator) -> list["Duel"]:
        """Some sentences of known words, each against itself with two neighbouring words swapped."""
        pairs = []
        for sentence in sentences:
            at = int(rng.integers(0, max(1, len(sentence) - 1)))
            if 4 < len(sentence) <= LONGEST and all(word in self.vocabulary for word in sentence):
                swapped = [*sentence[:at], sentence[at + 1], sentence[at], *sentence[at + 2 :]]
                pairs += [(sentence, swapped)] if swapped != sentence else []
        pairs = pairs[:DUELS]
        if not pairs:
            return []
        values, lengths = tasks.pad([self.vocabulary.encode(words, eos=True) for pair in pairs for words in pair])
        scores = models.log_probability(self.model, self.params, values, first=models.NOTHING, lengths=lengths)
        return [Duel(*pair, *score) for pair, score in zip(pairs, np.asarray(scores).reshape(-1, 2).tolist())]

    def written(self, count: int, *, temperature: float, seed: int) -> list[list[str]]:
        """Sentences drawn from nothing, never ``<unk>``, up to ``<eos>`` or so many words."""
        decoded = sj.sample(
            self.model,
            self.params,
            self.model.initial_state(self.params, (count,)),
            jnp.full(count, models.NOTHING),
            **self._how(temperature, seed),
        )
        return [self.vocabulary.decode(column) for column in np.asarray(decoded.symbols).T]

    def _beginning(self, words: Sequence[str]) -> np.ndarray:
        """Of a sentence, as what the model reads."""
        return np.concatenate([[models.NOTHING], self.vocabulary.encode(words)]).astype(np.int32)

    def _how(self, temperature: float, seed: int) -> dict[str, Any]:
        """A sentence is drawn."""
        length = LONGEST * PIECES if isinstance(self.vocabulary, Pieces) else LONGEST
        forbidden = [] if self.vocabulary.unk is None else [self.vocabulary.unk]
        drawn = {"key": jax.random.key(seed), "temperature": temperature}
        return {"length": length, "eos": self.vocabulary.eos, "forbidden": forbidden, **drawn}


def language_model(reply: Callable[[list[str]], Reply], example: str) -> Asked:
    """A language model that can be asked: one beginning to go on with, or sentences to rank, a bar between them."""
    kind = "a beginning to go on with, or sentences to rank, parted by ' | '"
    return Asked(kind, example, lambda question: reply(question.split(" | ")))


def ranked(sentences: Sequence[str], scores: Sequence[float], unknown: tuple[str, ...] = ()) -> Reply:
    """Sentences from the likeliest to the least likely, a line each, with ln p."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return Reply("\n".join(f"{scores[i]:9.2f}  {sentences[i]}" for i in order), unknown)
