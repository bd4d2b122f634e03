"""What recipes share whose models write under a condition: pairs of texts as batches, whole answers compared."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import Array, PyTree
from seqjax.models import Conditional, Source
from seqjax.tasks import BOS, EOS, PAD, Padded, Pair, Vocabulary, pad


class Pairs(NamedTuple):
    """How pairs become arrays: both vocabularies, and lengths that all are padded to, ``<eos>`` included."""

    source: Vocabulary
    target: Vocabulary
    source_length: int
    target_length: int

    @classmethod
    def of(cls, source_symbols: Iterable[str], target_symbols: Iterable[str], examples: Sequence[Pair]) -> "Pairs":
        """For symbols known beforehand, and examples as long as any."""
        source, target = (Vocabulary([PAD, BOS, EOS, *symbols]) for symbols in (source_symbols, target_symbols))
        lengths = np.array([(len(pair.source), len(pair.target) + 1) for pair in examples])
        return cls(source, target, *map(int, lengths.max(0)))

    def hold(self, pair: Pair) -> bool:
        """Whether the pair is short enough."""
        return len(pair.source) <= self.source_length and len(pair.target) < self.target_length

    def encode(self, pairs: Sequence[Pair]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Sources, and targets between ``<bos>`` and ``<eos>``, as numbers."""
        sources = [self.source.encode(pair.source) for pair in pairs]
        return sources, [self.target.encode(pair.target, bos=True, eos=True) for pair in pairs]

    def batch(self, pairs: Sequence[Pair]) -> sj.Batch:
        """Pairs side by side, to be written from what is read."""
        sources, targets = self.encode(pairs)
        return written_from(read(pad(sources, length=self.source_length)), pad(targets, length=self.target_length + 1))


def read(source: Padded) -> Source:
    """What a reader of symbols is given."""
    mask = np.arange(len(source.values))[:, None] < source.lengths
    return Source(jnp.asarray(source.values), jnp.asarray(mask))


def written_from(condition: PyTree, target: Padded) -> sj.Batch:
    """For `conditional_objective`: what is read, what is written moved by one, and what is to be written."""
    mask = np.arange(len(target.values) - 1)[:, None] < target.lengths - 1
    return sj.Batch((condition, target.values[:-1]), target.values[1:], mask)


class Answers(NamedTuple):
    """What a model makes of a batch: symbols written ``[T, B]``, where a whole answer is right ``[B]``, numbers."""

    symbols: np.ndarray
    right: np.ndarray
    numbers: dict[str, float]


def answerer(model: Conditional, vocabulary: Vocabulary) -> Callable[[PyTree, sj.Batch], Answers]:
    """A function that lets parameters write greedily, and compares with what should be written.

    Its numbers are ``exact``, the share of whole answers that are right, ``symbols``, the share of symbols that are
    right if all before them are given, and ``held_back_loss``, in nats a symbol.
    """
    bos = jnp.asarray(vocabulary.encode([BOS])[0])

    @jax.jit
    def run(params: PyTree, batch: sj.Batch) -> tuple[Array, sj.Tally, sj.Tally]:
        (condition, symbols), targets, mask = batch[:3]
        decoder, state = model.encode(params, condition)
        decoded = sj.sample(model.decoder, decoder, state, bos, length=len(targets), eos=vocabulary.eos)
        _, logits = model.decoder.apply(decoder, state, symbols, mask=mask)
        hits = (logits.argmax(-1) == targets).astype(logits.dtype)
        return decoded.symbols, sj.cross_entropy(logits, targets, mask), sj.tally(hits, mask)

    def answer(params: PyTree, batch: sj.Batch) -> Answers:
        written, loss, hits = run(params, batch)
        symbols = np.asarray(written)
        right = (symbols == np.where(batch.mask, batch.targets, vocabulary.eos)).all(0)
        numbers = {"exact": float(right.mean()), "symbols": float(hits.mean), "held_back_loss": float(loss.mean)}
        return Answers(symbols, right, numbers)

    return answer


def some(right: np.ndarray, count: int, wrong: int = 2) -> list[int]:
    """Answers to show: the first right ones, and a few wrong ones if there are any.

    >>> some(np.array([True, True, False, True, True, False, False]), 4)
    [0, 1, 2, 5]
    """
    failures = np.flatnonzero(~right)
    few = failures[: max(wrong, count - int(right.sum()))]
    return [*np.flatnonzero(right)[: count - len(few)].tolist(), *few.tolist()]
