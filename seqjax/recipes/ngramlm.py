"""A neural model of n-grams: the next symbol from the last few, and nothing before them.

    p(x_{t+1} | x_{t-n+1} … x_t) = softmax(tanh([e_{t-n+1} … e_t] W + b) V + c)

Counting n-grams needs to have seen this very context; features let contexts that look alike help each other. What no
such model can use is anything further back than n symbols: beside it, on the same batches, a recurrent network that
has no such bound, and models that count.

References:
  Bengio et al. (2003), A neural probabilistic language model. https://jmlr.org/papers/v3/bengio03a.html
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import numpy as np

import seqjax as sj
from seqjax import models
from seqjax.base import PyTree
from seqjax.recipes.language import words
from seqjax.recipes.language.text import log_loss, ngram_nats, scorer, standard_library, windows_of, write
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import beside, learning
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.learning import LearningOptions
from seqjax.recipes.running.options import FileOrNone, bad_input, check_left_out, check_positive, check_sizes
from seqjax.recipes.running.run import Run, digest, vocabularies
from seqjax.tasks.texts import read_text
from seqjax.tasks.vocabulary import Vocabulary

WINDOWED, RECURRENT = "fixed_window", "recurrent"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions):
    """Trains a model of the next symbol from the last few, and beside it a recurrent one."""

    symbols: Literal["characters", "words"] = "characters"
    """What the text is made of."""
    text: FileOrNone = None
    """Any UTF-8 text; that of charlm or of wordlm if not given."""
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
    orders = dict.fromkeys([1, 2, 3, options.context + 1])
    counted = {f"{n}-grams counted": ngram_nats(stream.train, stream.held_back, size, n) for n in orders}

    # Models
    with bad_input("ngramlm"):
        windowed = models.fixed_window_model(
            size, options.hidden_size, window=options.context, embedding_size=options.embedding_size
        )
    learned: dict[str, sj.Layer] = {WINDOWED: windowed}
    if options.control:
        learned[RECURRENT] = models.language_model(
            size, options.hidden_size, embedding_size=options.embedding_size, cell=CELLS[options.cell]
        )
    learned = {name: sj.mixed_precision(model, options.products) for name, model in learned.items()}
    params = beside.parameters({name: model.init for name, model in learned.items()}, jax.random.key(options.seed))
    memory = {name: model.initial_state(params[name], (options.batch_size,)) for name, model in learned.items()}

    # Training: both on the same windows.
    measures = {name: scorer(model) for name, model in learned.items()}

    def evaluate(params: dict[str, PyTree]) -> dict[str, float]:
        nats = {}
        for name, model in learned.items():
            total, count = log_loss(measures[name], model, params[name], stream.held_back, columns=32, lead=128)
            nats[f"nats_{name}"] = total / count
        return nats

    folder = Run.start(
        "ngramlm",
        options,
        stream.facts | vocabularies(symbols=stream.vocabulary),
        free=("text", "length", "temperature"),
    )
    print(
        f"{options.text or stream.name}: {len(stream.train):,} {options.symbols} to learn from, "
        f"{len(stream.held_back):,} held back, {size:,} kinds; the model sees {options.context}"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        learning.begin(options, params, memory),
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
    learning.conclude(folder, f"nats a {options.symbols[:-1]}", outcome.numbers, counted)
    print(f"run folder {folder.folder}, learning curve {picture}")


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
    """

    name: str
    train: np.ndarray
    held_back: np.ndarray
    vocabulary: Vocabulary
    facts: dict
    characters: int
    spelling: float

    def bits(self, nats: float) -> float:
        """Nats a symbol as bits a character."""
        return sj.bits_per_character(nats * (len(self.held_back) - 1) + self.spelling, self.characters)

    def told(self, numbers: list[int]) -> str:
        """Symbols as a text."""
        symbols = [self.vocabulary.symbols[int(i)] for i in numbers]
        if self.vocabulary.eos is None:
            return "".join(symbols)
        return words.told(symbols).replace(" <eos>", "\n").replace("\n ", "\n")


def characters(options: Options) -> Stream:
    """The text of charlm, split as there."""
    text = standard_library() if options.text is None else read_text(options.text)
    vocabulary = Vocabulary.build([text], specials=())
    numbers = vocabulary.encode(text)
    train, held_back = np.split(numbers, [int(0.9 * len(numbers))])
    facts = {"sha256": digest(text)}
    return Stream("Python standard library", train, held_back, vocabulary, facts, len(held_back) - 1, 0.0)


def of_words(options: Options) -> Stream:
    """The text of wordlm, split as there."""
    text = words.read("ngramlm", options.text, at="marks", lower=False)
    vocabulary = words.vocabulary_of(text, options.vocabulary)
    train, held_back = (words.number(vocabulary, part) for part in (text.train, text.held_back))
    return Stream(
        "documentation of the standard library",
        train,
        held_back,
        vocabulary,
        {"sha256": digest(text.text)},
        words.characters(text.held_back),
        words.unknown_nats(vocabulary, text),
    )
