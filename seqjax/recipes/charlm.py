"""A character language model: read a text, predict each next character, then write on.

    p(x_{t+1} | x_1 … x_t) = softmax(h_t W + b)      h_t = lstm(embedding(x_t), state_{t-1})

The text is cut into contiguous streams side by side; truncated backpropagation walks down them window by
window and carries the state along. The last tenth is held back for validation.

References:
  Graves (2013), Generating sequences with recurrent neural networks. https://arxiv.org/abs/1308.0850
  Karpathy (2015), The unreasonable effectiveness of recurrent neural networks.
  https://karpathy.github.io/2015/05/21/rnn-effectiveness/
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.language.text import log_loss, ngram_nats, scorer, standard_library, write
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import learning, watch
from seqjax.recipes.running.learning import PatientOptions
from seqjax.recipes.running.options import (
    BadInput,
    FileOrNone,
    TextOrNone,
    bad_input,
    check_not_negative,
    check_rates,
    check_sizes,
)
from seqjax.recipes.running.patience import Patience
from seqjax.recipes.running.run import Run, digest
from seqjax.tasks.batches import streams
from seqjax.tasks.readers import read_text
from seqjax.tasks.vocabulary import Vocabulary

CELLS: dict[str, Callable[..., sj.Cell]] = {"lstm": sj.lstm, "gru": sj.gru}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(PatientOptions):
    """Trains a character language model, writes text with it, and keeps it in a run folder."""

    text: FileOrNone = None
    """Any UTF-8 text; Python's own standard library if not given."""
    steps: int = 1000
    cell: Literal["lstm", "gru"] = "lstm"
    """The recurrence."""
    layers: int = 1
    """Recurrent layers."""
    hidden_size: int = 256
    """Units a layer."""
    embedding_size: int = 64
    """Features a character."""
    dropout: float = 0.0
    """Rate between layers, in [0, 1)."""
    batch_size: int = 64
    """Streams side by side."""
    window: int = 128
    """Characters from update to update, through which gradients flow."""
    learning_rate: float = 4e-3
    prompt: TextOrNone = None
    """What the text written at the end begins with; a line break if not given."""
    length: int = 500
    """Characters to write at the end."""
    temperature: float = 0.8
    """1 writes from the model's own distribution, 0 the likeliest character each time."""
    watch_gradients: int = 0
    """Updates from one look at where the gradient goes to the next, kept in gradients.jsonl and gradients.png; 0 for
    none."""

    def check(self, who: str) -> None:
        """Refuses sizes, rates and thresholds out of range."""
        super().check(who)
        check_sizes(who, self, "layers", "hidden_size", "embedding_size", "window", "length")
        check_rates(who, self, "dropout")
        check_not_negative(who, self, "temperature", "watch_gradients")


def main(options: Options) -> None:
    """``python -m seqjax charlm``."""
    # Data: the whole text as numbers, and the part that is never trained on.
    with bad_input("charlm"):
        text = standard_library() if options.text is None else read_text(options.text)
        vocabulary = Vocabulary.build([text], specials=())
        prompt = encode_prompt("charlm", vocabulary, options.prompt)
    numbers = vocabulary.encode(text)
    train, held_back = np.split(numbers, [int(0.9 * len(numbers))])
    shortest = options.batch_size * (options.window + 1)
    if len(train) < shortest or len(held_back) < 2:
        raise BadInput(
            f"charlm: expected at least {max(-(-shortest * 10 // 9), 11)} characters of text, so that nine "
            f"tenths fill {options.batch_size} streams of one window of {options.window}, got {len(text)}. "
            "Give a longer text, or lower --batch-size or --window."
        )
    bigram = ngram_nats(train, held_back, len(vocabulary), 2)

    # Model
    cells, above = parts(options, len(vocabulary))
    model = language_model(options, len(vocabulary))

    # Training: windows of the streams in order, the state carried from each to the next.
    columns = streams(train, options.batch_size)
    ticks = (len(columns) - 1) // options.window * options.window
    windows = list(sj.windows(sj.Batch(columns[:ticks], columns[1 : ticks + 1]), options.window))
    start = initial(model, options)
    measure = scorer(model)

    def evaluate(params: PyTree) -> dict[str, float]:
        nats, count = log_loss(measure, model, params, held_back, columns=32, lead=256)
        return {"validation_loss": nats / count, "validation_bits": sj.bits_per_character(nats / count)}

    facts = {
        "sha256": digest(text),
        "characters": len(text),
        "vocabulary": "".join(vocabulary.symbols),
        "bigram_loss": bigram,
    }
    folder = Run.start("charlm", options, facts, free=("text", "prompt", "length", "temperature", "watch_gradients"))
    size = sj.summary(model, windows[0].xs[:, 0])
    print(
        f"{options.text or 'Python standard library'}: {len(text):,} characters of {len(vocabulary)} kinds; "
        f"bigram model {bigram:.3f} nats, {sj.bits_per_character(bigram):.3f} bits a character\n"
        f"model: {size.parameter_count:,} parameters, state of {size.state_size:,} numbers, "
        f"{sum(size.flop):,.0f} FLOP a character"
    )
    outcome = learning.learn(
        folder,
        options,
        start,
        sj.truncated(model, sj.cross_entropy, options.window),
        lambda step: windows[step % len(windows)],
        goes_on=lambda step: step % len(windows) > 0,
        show="loss {loss:.3f} {bits:.3f} bits/char",
        extra=lambda loss: {"bits": sj.bits_per_character(loss)},
        work=options.batch_size * options.window,
        unit="characters",
        evaluate=evaluate,
        show_evaluation="validation {validation_loss:.4f} {validation_bits:.4f} bits/char",
        patience=Patience(folder, options.patience, "validation_loss") if options.patience else None,
        watch=watch.watcher(folder, cells, above, options.watch_gradients) if options.watch_gradients else None,
    )

    # What came out
    picture = curves.draw(
        folder,
        {"training": "loss", "validation": "validation_loss"},
        levels={"bigram model, validation": bigram},
        x_scale=options.batch_size * options.window / 1e6,
        x_label="characters read (millions)",
        y_label="cross-entropy (nats/character)",
    )
    written = write(
        model,
        outcome.params,
        prompt,
        length=options.length,
        temperature=options.temperature,
        seed=options.seed,
    )
    print("\n" + "".join(vocabulary.decode([*prompt, *written])) + "\n")
    print(
        f"validation {outcome.numbers['validation_loss']:.4f} nats, {outcome.numbers['validation_bits']:.4f} bits a "
        f"character; bigram model {bigram:.4f} nats, {sj.bits_per_character(bigram):.4f} bits; "
        f"{outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    learning.conclude(folder, "nats a character", outcome.numbers, {"bigrams": bigram})
    print(f"run folder {folder.folder}, loss curve {picture}")
    if watch.records(folder):
        print(f"where the gradient went: {watch.draw(folder)}")


def parts(options: Options, symbols: int) -> tuple[list[sj.Cell], sj.Layer]:
    """Recurrences, the first with the embedding it reads through, and logits of the next character."""
    sizes = [options.embedding_size] + [options.hidden_size] * options.layers
    cells = [CELLS[options.cell](below, size) for below, size in itertools.pairwise(sizes)]
    read = sj.embedding(symbols, options.embedding_size)
    embedded = sj.memoryless(lambda params, x: read.apply(params, (), x[None])[1][0], read.init)
    return [sj.stack(embedded, cells[0]), *cells[1:]], sj.dense(options.hidden_size, symbols)


def language_model(options: Options, symbols: int) -> sj.Layer:
    """The parts as one model, with dropout behind every recurrence."""
    cells, above = parts(options, symbols)
    layers = [layer for cell in cells for layer in (sj.recurrent(cell), sj.dropout(options.dropout))]
    return sj.serial(*layers, above)


def initial(model: sj.Layer, options: Options) -> learning.Training:
    """Parameters, optimizer and state before the first update."""
    params = model.init(jax.random.key(options.seed))
    memory = model.initial_state(params, (options.batch_size,))
    return learning.begin(options, params, memory, noise=options.dropout > 0)


def trained(folder: str) -> tuple[sj.Layer, PyTree, Vocabulary]:
    """The model, parameters and vocabulary of a run."""
    made = Run.open("charlm", folder)
    options = made.options(Options)
    symbols = made.config["facts"].get("vocabulary")
    if not isinstance(symbols, str):
        raise BadInput(
            f"charlm: expected {made.folder / 'config.json'} to hold the vocabulary as one string, got {symbols!r}. "
            "Put back the file, or start a new run."
        )
    with bad_input("charlm"):
        vocabulary = Vocabulary(symbols)
    model = language_model(options, len(vocabulary))
    return model, learning.trained(made, initial(model, options)), vocabulary


def encode_prompt(who: str, vocabulary: Vocabulary, prompt: str | None) -> np.ndarray:
    """The prompt as numbers: at least one character, all of them known."""
    if prompt is None:
        prompt = "\n" if "\n" in vocabulary else vocabulary.symbols[0]
    if not prompt:
        raise BadInput(f"{who}: expected --prompt to hold at least one character, got ''. Leave it out or give one.")
    return encode(f"{who}: expected --prompt", vocabulary, prompt)


def encode(expected: str, vocabulary: Vocabulary, text: str) -> np.ndarray:
    """A text as numbers; bad input at the first character that the training text has not."""
    place = next((i for i, character in enumerate(text) if character not in vocabulary), None)
    if place is not None:
        raise BadInput(
            f"{expected} in the {len(vocabulary)} characters of the training text, got {text[place]!r} at position "
            f"{place}. Leave it out, or train on a text that has it."
        )
    return vocabulary.encode(text)
