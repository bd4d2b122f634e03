"""What recipes share whose models write under a condition: pairs of texts as batches, whole answers compared.

`PairOptions`, `network` and `train_pairs` are all of a recipe that reads one text and writes another, but for its data
and what it shows.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import Array, PyTree
from seqjax.models import Conditional, Source, conditional_objective, encoder_decoder
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import learning
from seqjax.recipes.running.asking import encode, rounded
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Answer, Update
from seqjax.recipes.running.options import check_sizes
from seqjax.recipes.running.run import Run, vocabularies
from seqjax.tasks import BOS, EOS, PAD, Padded, Pair, Vocabulary, pad

LONGEST = 40  # symbols that a trained run writes to a question, at most


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

    Its numbers are ``exact``, the share of whole answers that are right, ``written``, the share of their symbols that
    are right, ``symbols``, the share that is right if all before them are given, and ``held_back_loss``, in nats a
    symbol.
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
        same = symbols == np.where(batch.mask, batch.targets, vocabulary.eos)
        right, single = same.all(0), same[np.asarray(batch.mask)]
        numbers = {"exact": float(right.mean()), "written": float(single.mean()), "symbols": float(hits.mean)}
        return Answers(symbols, right, numbers | {"held_back_loss": float(loss.mean)})

    return answer


def some(right: np.ndarray, count: int, wrong: int = 2) -> list[int]:
    """Answers to show: the first right ones, and a few wrong ones if there are any.

    >>> some(np.array([True, True, False, True, True, False, False]), 4)
    [0, 1, 2, 5]
    """
    failures = np.flatnonzero(~right)
    few = failures[: max(wrong, count - int(right.sum()))]
    return [*np.flatnonzero(right)[: count - len(few)].tolist(), *few.tolist()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairOptions(learning.LearningOptions):
    """The options of a recipe in which one network reads a text and another writes one."""

    context: Literal["state", "every-tick", "attention"] = "state"
    """What the writer gets: the reader's last state, that at every tick, or a look at all its outputs."""
    cell: CellName = "lstm"
    """The recurrence."""
    layers: int = 1
    """Recurrent layers of each network."""
    hidden_size: int = 128
    """Units a layer."""
    embedding_size: int = 32
    """Features a symbol."""
    batch_size: int = 128
    learning_rate: float = 4e-3

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "layers", "hidden_size", "embedding_size")


def network(options: PairOptions, pairs: Pairs, *, reverse: bool = False) -> Conditional:
    """A reader, of the source from its end if asked, and a writer, with weights of their own."""
    model = encoder_decoder(
        len(pairs.source),
        len(pairs.target),
        options.hidden_size,
        embedding_size=options.embedding_size,
        context="every_tick" if options.context == "every-tick" else options.context,
        cell=CELLS[options.cell],
        layers=options.layers,
        reverse_source=reverse,
    )
    return sj.mixed_precision(model, options.products)


def writer(run: Run, options: PairOptions, pairs: Pairs, *, reverse: bool = False) -> Callable[[str], str]:
    """What a trained run writes when it reads a text; `NoQuestion` where that has symbols it has never seen."""
    source, target, *_ = pairs
    model = network(options, pairs, reverse=reverse)
    params = learning.trained(run, learning.begin(options, model.init(jax.random.key(options.seed))))
    bos = jnp.asarray(target.encode([BOS])[0])

    @jax.jit
    def write(params: PyTree, condition: Source) -> Array:
        decoder, state = model.encode(params, condition)
        return sj.sample(model.decoder, decoder, state, bos, length=LONGEST, eos=target.eos).symbols

    def answer(text: str) -> str:
        numbers = encode(list(text), source)
        symbols = write(params, read(pad([numbers], length=rounded(len(numbers)))))
        return "".join(target.decode(np.asarray(symbols)[:, 0]))

    return answer


class Learned(NamedTuple):
    """A run that is over.

    Attributes:
      run: its folder.
      outcome: of the training.
      answers: to the pairs held back.
      answer: what the trained model makes of another batch.
      words: what a whole answer, and a single symbol of it, are called.
    """

    run: Run
    outcome: learning.Outcome
    answers: Answers
    answer: Callable[[sj.Batch], Answers]
    words: tuple[str, str]

    def conclude(self, floor: tuple[str, float], *, x_scale: float, x_label: str, updates: str) -> None:
        """Draws the learning curve, tells how many answers are right, and writes the run's result.

        Args:
          floor: what the best answer that never looks is called, and how often it is right.
          x_scale: units of x in one update.
          x_label: with the unit.
          updates: how many were made, in words.
        """
        (whole, single), (name, chance), numbers = self.words, floor, self.outcome.numbers
        picture = curves.draw(
            self.run,
            {f"whole {whole}": "exact", f"single {single}, those before given": "symbols"},
            levels={f"chance, whole {whole}": chance},
            x_scale=x_scale,
            x_label=x_label,
            y_label="share right of those held back",
            name="accuracy",
        )
        print(
            f"\nheld back: {numbers['exact']:.2%} of {whole} right (chance {chance:.2%}), "
            f"{numbers['written']:.2%} of {single}, {numbers['symbols']:.2%} if those before are given; {updates} in "
            f"{self.outcome.seconds:.0f} s"
        )
        learning.conclude(
            self.run, "share right", {part: numbers[part] for part in ("exact", "written", "symbols")}, {name: chance}
        )
        print(f"run folder {self.run.folder}, learning curve {picture}")


def train_pairs(
    who: str,
    options: PairOptions,
    pairs: Pairs,
    model: Conditional,
    batch_of: Callable[[int], sj.Batch],
    held_back: Sequence[Pair],
    facts: Mapping[str, Any],
    *,
    told: str,
    unit: str,
    words: tuple[str, str],
) -> Generator[Update, Answer, Learned]:
    """Trains a model to write the targets of pairs; a generator, as `learning.learn` is.

    Args:
      who: the recipe.
      options: of the run.
      pairs: how pairs become arrays.
      model: from `network`.
      batch_of: the batch of the update with that number, from 0.
      held_back: pairs to measure on.
      facts: about the data, by which a run knows its own again.
      told: the data in words, printed before the training.
      unit: what a pair is called, for the speed.
      words: what a whole answer, and a single symbol of it, are called.

    Returns:
      What was learned.
    """
    params = model.init(jax.random.key(options.seed))
    answer, asked, (whole, single) = answerer(model, pairs.target), pairs.batch(held_back), words
    run = Run.start(who, options, {**facts, **vocabularies(source=pairs.source, target=pairs.target)})
    print(f"{told}\nmodel: {options.cell}, {learning.parameter_count(params):,} parameters")
    outcome = yield from learning.learn(
        run,
        options,
        learning.begin(options, params),
        conditional_objective(model, sj.cross_entropy),
        batch_of,
        work=options.batch_size,
        unit=unit,
        evaluate=lambda params: answer(params, asked).numbers,
        show_evaluation=f"held back: {{exact:.1%}} of {whole}, {{symbols:.1%}} of {single} right",
        best=learning.highest("exact"),
    )
    ask = lambda batch: answer(outcome.params, batch)
    return Learned(run, outcome, ask(asked), ask, words)
