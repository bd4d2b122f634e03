"""A neural model of n-grams: the next symbol from the last few, and nothing before them.

    p(x_{t+1} | x_{t-n+1} … x_t) = softmax(tanh([e_{t-n+1} … e_t] W + b) V + c)

Counting n-grams needs to have seen this very context; features let contexts that look alike help each other. What no
such model can use is anything further back than n symbols: beside it, on the same batches, a recurrent network that
has no such bound, and models that count. The text may be larger than memory, as in charlm and wordlm.

References:
  Bengio et al. (2003), A neural probabilistic language model. https://jmlr.org/papers/v3/bengio03a.html
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

import seqjax as sj
from seqjax import models
from seqjax.base import PyTree
from seqjax.recipes.language import words
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.speaker import language_model, ranked
from seqjax.recipes.language.text import SCORED, log_loss, scorer, standard_library, windows_of, write
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import beside, learning, splits
from seqjax.recipes.running.asking import Asked, Reply, encode, unknown
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.learning import LearningOptions
from seqjax.recipes.running.options import DataFile, bad_input, check_left_out, check_positive, check_sizes
from seqjax.recipes.running.run import Run, kept, vocabularies
from seqjax.tasks.stored import First, Streamed
from seqjax.tasks.texts import Numbers, Text, open_text
from seqjax.tasks.vocabulary import EOS, Vocabulary

WINDOWED, RECURRENT = "fixed_window", "recurrent"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, splits.SplitOptions):
    """Trains a model of the next symbol from the last few, and beside it a recurrent one."""

    whole = "text"

    symbols: Literal["characters", "words"] = "characters"
    """What the text is made of."""
    text: DataFile = None
    """Any UTF-8 text, the last tenth of which is held back; that of charlm or of wordlm if not given."""
    vocabulary: int = 5000
    """Words known, where the symbols are words."""
    context: int = 6
    """n, symbols that the model sees."""
    hidden_size: int = 160
    """Units of either model."""
    embedding_size: int = 32
    """Features a symbol."""
    cell: CellName = "lstm"
    """The recurrence of the model beside it."""
    control: bool = True
    """Train the recurrent model beside it."""
    steps: int = 800
    batch_size: int = 64
    """Streams side by side."""
    window: int = 64
    """Symbols from update to update."""
    learning_rate: float = 5e-3
    length: int = 200
    """Symbols to write at the end."""
    temperature: float = 0.8
    """1 writes from the model's own distribution."""

    def check(self, who: str) -> None:
        """Refuses sizes and rates out of range."""
        super().check(who)
        check_sizes(who, self, "vocabulary", "context", "hidden_size", "embedding_size", "window", "length")
        check_positive(who, self, "temperature")
        if self.symbols == "characters":
            check_left_out(who, self, "--symbols characters", "vocabulary")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax ngramlm``."""
    # Data: one stream of symbols, and the part that is never trained on.
    with bad_input("ngramlm"):
        stream = characters(options) if options.symbols == "characters" else of_words(options)
    size = len(stream.vocabulary)
    windows = windows_of("ngramlm", stream.train, options.batch_size, options.window, None)
    by_order = ngram_nats(stream.train, stream.held_back, size, max(3, options.context + 1))
    counted = {f"{n}-grams counted": by_order[n - 1] for n in dict.fromkeys([1, 2, 3, options.context + 1])}

    # Models
    with bad_input("ngramlm"):
        learned = models_of(options, size)
    start = beside.begin(options, learned)

    # Training: both on the same windows.
    measures = {name: scorer(model) for name, model in learned.items()}

    def evaluate(params: dict[str, PyTree], part: np.ndarray = stream.held_back) -> dict[str, float]:
        nats = {}
        for name, model in learned.items():
            total, count = log_loss(measures[name], model, params[name], part, columns=32, lead=128)
            nats[f"nats_{name}"] = total / count
        return nats

    folder = Run.start(
        "ngramlm",
        options,
        stream.facts | vocabularies(symbols=stream.vocabulary) | splits.facts(options),
        free=("text", "train", "held_back", "length", "temperature"),
    )
    print(
        f"{splits.told(options, stream.name)}: {len(stream.train):,} {options.symbols} to learn from, "
        f"{len(stream.held_back):,} held back, {size:,} kinds; the model sees {options.context}"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        beside.together(
            {name: sj.truncated(model, sj.cross_entropy, options.window) for name, model in learned.items()}
        ),
        lambda step: windows[step % len(windows)],
        goes_on=lambda step: step % len(windows) > 0,
        clip=beside.clip_each(options.clip),
        extra=beside.mean_loss(learned),
        work=options.batch_size * options.window,
        unit=options.symbols,
        evaluate=evaluate,
        show_evaluation="validation nats: " + "  ".join(f"{name} {{nats_{name}:.4f}}" for name in learned),
        best=learning.lowest(*(f"nats_{name}" for name in learned)),
        test=None if stream.test is None else functools.partial(evaluate, part=stream.test),
    )

    # What came out: what each writes, a table, the curve.
    first = stream.held_back[: options.context]
    for name, model in learned.items():
        written = write(
            model,
            outcome.params[name],
            first,
            length=options.length,
            temperature=options.temperature,
            seed=options.seed,
        )
        print(f"\n{name.replace('_', ' ')} writes:\n{stream.told([*first, *written])}")
    rows = [(name, nats, 0) for name, nats in counted.items()]
    rows += [
        (name, outcome.numbers[f"nats_{name}"], learning.parameter_count(outcome.params[name])) for name in learned
    ]
    print(f"\n{'held back':20}{'nats':>9}{'perplexity':>12}{'bits/character':>16}{'parameters':>12}")
    for name, nats, count in rows:
        print(
            f"{name.replace('_', ' '):20}{nats:9.4f}{np.exp(nats):12.2f}{stream.bits(nats):16.4f}"
            + (f"{count:12,}" if count else "")
        )
    print(f"{outcome.steps} steps in {outcome.seconds:.0f} s")
    picture = curves.draw(
        folder,
        {name.replace("_", " "): f"nats_{name}" for name in learned},
        levels={name: counted[name] for name in list(counted)[1:]},  # the first would leave no room
        x_scale=options.batch_size * options.window / 1e6,
        x_label=f"{options.symbols} read (millions)",
        y_label=f"cross-entropy (nats/{options.symbols[:-1]}, held back)",
    )
    learning.conclude(folder, f"nats a {options.symbols[:-1]}", outcome.numbers, counted, outcome.test)
    print(f"run folder {folder.folder}, learning curve {picture}")


def models_of(options: Options, size: int) -> dict[str, sj.Layer]:
    """The model of the last few symbols, and the recurrent one beside it."""
    learned: dict[str, sj.Layer] = {
        WINDOWED: models.fixed_window_model(
            size, options.hidden_size, window=options.context, embedding_size=options.embedding_size
        )
    }
    if options.control:
        learned[RECURRENT] = models.language_model(
            size, options.hidden_size, embedding_size=options.embedding_size, cell=CELLS[options.cell]
        )
    return {name: sj.mixed_precision(model, options.products) for name, model in learned.items()}


def to_ask(run: Run) -> Asked:
    """Beginnings of texts, and sentences to rank, for the model of the last few symbols."""
    options, known = run.options(Options), kept(run, "symbols")
    of_characters = options.symbols == "characters"
    vocabulary = known[0] if known else (characters if of_characters else of_words)(options).vocabulary
    learned = models_of(options, len(vocabulary))
    model, params = learned[WINDOWED], learning.trained(run, beside.begin(options, learned))[WINDOWED]
    measure, first = scorer(model), [vocabulary.symbols[0]] if of_characters else [EOS]
    start = vocabulary.encode(["\n"] if "\n" in vocabulary else first)

    def reply(asked: list[str]) -> Reply:
        symbols = [list(text) if of_characters else words.split(text, at="marks", lower=False) for text in asked]
        numbers = [np.concatenate([start, encode(text, vocabulary, options.symbols)]) for text in symbols]
        odd = unknown([symbol for text in symbols for symbol in text], vocabulary)
        if len(numbers) > 1:
            scores = [-log_loss(measure, model, params, one, columns=1, lead=0)[0] for one in numbers]
            return ranked(asked, scores, odd)
        (read,) = numbers
        more = write(model, params, read, length=options.length, temperature=options.temperature, seed=options.seed)
        return Reply(told(vocabulary, [*read[1:], *more]), odd)

    return language_model(reply, "The ")


class Stream(NamedTuple):
    """A text as numbers.

    Attributes:
      name: of the text that is used if none is given.
      train: symbols to learn from.
      held_back: symbols to measure on.
      vocabulary: of both.
      facts: by which a run knows its text again.
      characters: held back, behind the first symbol.
      spelling: nats that spelling the unknown words takes.
      test: symbols to measure on once, or None.
    """

    name: str
    train: Streamed
    held_back: np.ndarray
    vocabulary: Vocabulary
    facts: dict
    characters: int
    spelling: float
    test: np.ndarray | None = None

    def bits(self, nats: float) -> float:
        """Nats a symbol as bits a character."""
        return sj.bits_per_character(nats * (len(self.held_back) - 1) + self.spelling, self.characters)

    def told(self, numbers: list[int]) -> str:
        """Symbols as a text."""
        return told(self.vocabulary, numbers)


def told(vocabulary: Vocabulary, numbers: Sequence[int]) -> str:
    """Symbols as a text."""
    symbols = [vocabulary.symbols[int(i)] for i in numbers]
    if vocabulary.eos is None:
        return "".join(symbols)
    return words.told(symbols).replace(" <eos>", "\n").replace("\n ", "\n")


def characters(options: Options) -> Stream:
    """The text of charlm, split as there."""
    given = splits.read(options, open_text, lambda: Text(standard_library().encode()))
    counts = {character: 0 for part in given if part for character in part.counts} | given.train.counts
    vocabulary = Vocabulary.counted(counts, specials=(), at_least=0)
    text, numbers = given.train, Numbers(given.train, vocabulary)
    learned = int(0.9 * len(text)) if given.held_back is None else len(text)
    if given.held_back is None:
        held_back = numbers[learned : learned + SCORED]
    else:
        held_back = Numbers(given.held_back, vocabulary)[:SCORED]
    test = None if given.test is None else Numbers(given.test, vocabulary)[:]
    facts, train = {"sha256": text.sha256}, First(numbers, learned)
    return Stream("Python standard library", train, held_back, vocabulary, facts, len(held_back) - 1, 0.0, test)


def of_words(options: Options) -> Stream:
    """The text of wordlm, split as there."""
    text = words.read_split("ngramlm", options, at="marks", lower=False)
    vocabulary = words.vocabulary_of(text, options.vocabulary)
    train, held_back = words.number(vocabulary, text.train()), words.number(vocabulary, text.held_back)[:]
    return Stream(
        "documentation of the standard library",
        train,
        held_back,
        vocabulary,
        {"sha256": text.sha256},
        words.characters(text.held_back),
        words.unknown_nats(vocabulary, text),
        None if text.test is None else words.number(vocabulary, text.test)[:],
    )
