"""A model of words, or of pieces of them, as `wordlm` trains it: options, symbols, output and training."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import optax

import seqjax as sj
from seqjax import models
from seqjax.objectives import Objective
from seqjax.recipes.language import words
from seqjax.recipes.language.pieces import FEWEST, Pieces, Symbols
from seqjax.recipes.running import learning, splits
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.options import check_left_out, check_rates, check_sizes
from seqjax.recipes.running.run import Run, kept, vocabularies


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordOptions(learning.PatientOptions, splits.SplitOptions):
    """Those of the options that decide what a checkpoint holds."""

    split: Literal["marks", "blanks", "subwords"] = "marks"
    """Set punctuation apart, or take what blanks separate (texts split already, such as Penn Treebank); or set it apart
    and read words in pieces, byte pairs, of which none is unknown."""
    lower: bool = False
    """Read the text in small letters."""
    vocabulary: int = 5000
    """Words known, <unk> and <eos> included: the most frequent ones that occur twice. Or pieces, <eos> included."""
    preset: Literal["none", "small", "medium", "large"] = "none"
    """Of Zaremba et al.: decides all sizes, rates and the clipping; give --steps and --vocabulary yourself."""
    softmax: Literal["full", "adaptive", "sampled"] = "full"
    """How the next symbol is learned: over all; the most frequent tenth over all, those to a third and the rest in
    clusters with a quarter and a sixteenth of the features; or beside drawn ones. Figures are exact for each."""
    samples: int = 500
    """Symbols that --softmax sampled draws an update, at most all; its perplexity in training is an estimate."""
    cell: CellName = "lstm"
    """The recurrence."""
    layers: int = 1
    """Recurrent layers."""
    hidden_size: int = 160
    """Units a layer."""
    embedding_size: int = 96
    """Features a word."""
    dropout: float = 0.3
    """Rate before and behind the recurrent layers, in [0, 1)."""
    batch_size: int = 32
    """Streams side by side."""
    window: int = 32
    """Words from update to update, through which gradients flow."""

    def check(self, who: str) -> None:
        """Refuses sizes and rates out of range, and what another option decides."""
        super().check(who)
        check_sizes(who, self, "vocabulary", "samples", "layers", "hidden_size", "embedding_size", "window")
        check_rates(who, self, "dropout")
        if self.split == "subwords" and self.vocabulary < FEWEST:
            raise ValueError(
                f"{who}: expected --vocabulary of at least {FEWEST} with --split subwords, all bytes and <eos>, got "
                f"{self.vocabulary}. Raise it."
            )
        if self.softmax != "sampled":
            check_left_out(who, self, f"--softmax {self.softmax}", "samples")
        if self.preset != "none":
            decided = ("cell", "layers", "hidden_size", "embedding_size", "dropout", "batch_size", "window", "softmax")
            check_left_out(
                who, self, f"--preset {self.preset}", *decided, "learning_rate", "optimizer", "schedule", "clip"
            )

    @property
    def unit(self) -> str:
        """What the text is made of."""
        return "pieces" if self.split == "subwords" else "words"


def symbols_of(options: WordOptions, text: words.Words) -> Symbols:
    """The words that a text has, or pieces of them: of the run to resume, or learned from the text."""
    if options.split != "subwords":
        return words.vocabulary_of(text, options.vocabulary)
    known = None if options.resume is None else kept_symbols(Run.open("wordlm", options.resume))
    return known or Pieces.learned(text.train, options.vocabulary)


def facts_of(symbols: Symbols) -> dict[str, Any]:
    """By which a run can be read without its text."""
    return symbols.facts() if isinstance(symbols, Pieces) else vocabularies(words=symbols)


def kept_symbols(run: Run) -> Symbols | None:
    """What `facts_of` kept; None for a run that is older than that."""
    if "pieces" in run.config["facts"]:
        return Pieces.kept(run.config["facts"])
    known = kept(run, "words")
    return known[0] if known else None


class Method(NamedTuple):
    """A model and how it is trained; None for what `learning.learn` does by itself."""

    model: sj.Layer
    objective: Objective
    optimizer: optax.GradientTransformation | None
    clip: optax.GradientTransformation | None
    divide_by: Literal["count"] | float
    told: str = ""


def set_up(options: WordOptions, symbols: Symbols, count: int) -> tuple[WordOptions, Method]:
    """The options with a preset's numbers in place, and the model of the options or of the preset.

    Args:
      options: of the run.
      symbols: that are predicted.
      count: how many of them are learned from, by which the rate of a preset falls.
    """
    if options.preset == "none":
        return options, Method(*network(options, len(symbols)), None, None, "count")
    draft = models.zaremba(options.preset, len(symbols), updates_per_epoch=1)
    updates = max(1, (count // draft.batch_size - 1) // draft.window)
    preset = models.zaremba(options.preset, len(symbols), updates_per_epoch=updates)
    told = f"{options.preset}: {updates:,} updates an epoch; the paper trains {preset.epochs} epochs\n"
    used = dataclasses.replace(options, batch_size=preset.batch_size, window=preset.window)
    model = sj.mixed_precision(preset.model, options.products)
    objective = sj.truncated(model, sj.cross_entropy, used.window)
    return used, Method(model, objective, preset.optimizer, preset.clip, preset.divide_by, told)


def network(options: WordOptions, size: int) -> tuple[sj.Layer, Objective]:
    """The model, from symbols to logits or to their log-probabilities, and the loss that it learns by."""
    if options.softmax == "full":
        model = models.language_model(
            size,
            options.hidden_size,
            embedding_size=options.embedding_size,
            cell=CELLS[options.cell],
            layers=options.layers,
            dropout=options.dropout,
        )
        model = sj.mixed_precision(model, options.products)
        return model, sj.truncated(model, sj.cross_entropy, options.window)
    recurrences = models.deep(
        options.embedding_size,
        options.hidden_size,
        cell=CELLS[options.cell],
        layers=options.layers,
        rate=options.dropout,
    )
    body = sj.serial(models.symbols_or_nothing(size, options.embedding_size), recurrences)
    if options.softmax == "adaptive":
        softmax = models.adaptive_softmax(options.hidden_size, size, cutoffs(size))
    else:
        softmax = models.sampled_softmax(options.hidden_size, size, min(options.samples, size))
    body, softmax = sj.mixed_precision(body, options.products), sj.mixed_precision(softmax, options.products)
    return models.output_layer(body, softmax), models.output_objective(body, softmax)


def cutoffs(size: int) -> list[int]:
    """Where the clusters of the adaptive softmax begin: at a tenth and a third of the symbols.

    >>> cutoffs(30_000), cutoffs(4)
    ([3000, 10000], [1])
    """
    return sorted({max(1, size // 10), max(1, size // 3)})


def begin(options: WordOptions, method: Method) -> learning.Training:
    """What training starts from."""
    params = method.model.init(jax.random.key(options.seed))
    memory = method.model.initial_state(params, (options.batch_size,))
    return learning.begin(options, params, memory, optimizer=method.optimizer, noise=True)
