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
import hashlib
import itertools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np
import optax

import seqjax as sj
from seqjax.base import Array, PyTree
from seqjax.recipes import devices, figure, loop
from seqjax.recipes.options import (
    BadInput,
    File,
    RunOptions,
    bad_input,
    check_not_negative,
    check_positive,
    check_rates,
    check_sizes,
)
from seqjax.recipes.run import Run
from seqjax.recipes.text import bigram_nats, log_loss, scorer, standard_library, write
from seqjax.tasks.batches import streams
from seqjax.tasks.readers import read_text
from seqjax.tasks.vocabulary import Vocabulary

CELLS: dict[str, Callable[..., sj.Cell]] = {"lstm": sj.lstm, "gru": sj.gru}
EVALUATIONS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Trains a character language model, writes text with it, and keeps it in a run folder."""

    text: File | None = None
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
    """Of Adam at its highest; it rises over 5 % of the steps and falls to a tenth along a cosine."""
    clip: float = 1.0
    """Highest global norm of the gradient of the mean loss; larger ones are scaled down to it."""
    prompt: str | None = None
    """What the text written at the end begins with; a line break if not given."""
    length: int = 500
    """Characters to write at the end."""
    temperature: float = 0.8
    """1 writes from the model's own distribution, 0 the likeliest character each time."""

    def check(self, who: str) -> None:
        """Refuses sizes, rates and thresholds out of range."""
        super().check(who)
        names = ("layers", "hidden_size", "embedding_size", "batch_size", "window", "length")
        check_sizes(who, self, *names)
        check_rates(who, self, "dropout")
        check_positive(who, self, "learning_rate", "clip")
        check_not_negative(who, self, "temperature")


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
    bigram = bigram_nats(train, held_back, len(vocabulary))

    # Model
    model = language_model(options, len(vocabulary))

    # Training: windows of the streams in order, the state carried from each to the next.
    columns = streams(train, options.batch_size)
    ticks = (len(columns) - 1) // options.window * options.window
    windows = list(sj.windows(sj.Batch(columns[:ticks], columns[1 : ticks + 1]), options.window))
    optimizer = optimizer_of(options)
    update = sj.train_step(
        sj.truncated(model, sj.cross_entropy, options.window),
        optimizer,
        clip=sj.clip_by_global_norm(options.clip),
        devices=devices.share("charlm", options.devices, options.batch_size),
    )
    start = initial(model, optimizer, options)
    empty = start.memory

    def advance(state: Training, step: int) -> tuple[Training, dict[str, Array]]:
        place = step % len(windows)
        train, memory, metrics = update(state.train, state.memory if place else empty, windows[place])
        return Training(train, memory), {
            "loss": metrics.loss,
            "bits": sj.bits_per_character(metrics.loss),
            "gradient_norm": metrics.gradient_norm,
            "clip_rate": metrics.clipped,
        }

    measure = scorer(model)

    def evaluate(state: Training) -> dict[str, float]:
        params = jax.device_put(state.train.params, jax.devices()[0])
        nats, count = log_loss(measure, model, params, held_back, columns=32, lead=256)
        return {"validation_loss": nats / count, "validation_bits": sj.bits_per_character(nats / count)}

    facts = {
        "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
        "characters": len(text),
        "vocabulary": "".join(vocabulary.symbols),
        "bigram_loss": bigram,
    }
    folder = Run.start("charlm", options, facts, free=("text", "prompt", "length", "temperature"))
    size = sj.summary(model, windows[0].xs[:, 0])
    print(
        f"{options.text or 'Python standard library'}: {len(text):,} characters of {len(vocabulary)} kinds; "
        f"bigram model {bigram:.3f} nats, {sj.bits_per_character(bigram):.3f} bits a character\n"
        f"model: {size.parameter_count:,} parameters, state of {size.state_size:,} numbers, "
        f"{sum(size.flop):,.0f} FLOP a character"
    )
    final = loop.train(
        folder,
        start,
        advance,
        steps=options.steps,
        show="loss {loss:.3f} {bits:.3f} bits/char {speed:,.0f} chars/s norm {gradient_norm:.2f} clip {clip_rate:.0%}",
        work=options.batch_size * options.window,
        unit="characters",
        evaluate=evaluate,
        show_evaluation="validation {validation_loss:.4f} {validation_bits:.4f} bits/char",
        evaluate_every=max(1, options.steps // EVALUATIONS),
    )

    # What came out
    picture = draw(folder)
    written = write(
        model,
        jax.device_put(final.train.params, jax.devices()[0]),
        prompt,
        length=options.length,
        temperature=options.temperature,
        seed=options.seed,
    )
    print("\n" + "".join(vocabulary.decode([*prompt, *written])) + "\n")
    last = [record for record in folder.metrics() if "validation_loss" in record][-1]
    print(
        f"validation {last['validation_loss']:.4f} nats, {last['validation_bits']:.4f} bits a character; "
        f"bigram model {bigram:.4f} nats, {sj.bits_per_character(bigram):.4f} bits; "
        f"{last['step']} steps in {max(record.get('seconds', 0) for record in folder.metrics()):.0f} s"
    )
    print(f"run folder {folder.folder}, loss curve {picture}")


class Training(NamedTuple):
    """All that decides the next update: a run resumed from it equals one that never stopped."""

    train: sj.TrainState
    memory: PyTree


def language_model(options: Options, symbols: int) -> sj.Layer:
    """Embedding, recurrent layers with dropout between, and logits of the next character."""
    sizes = [options.embedding_size] + [options.hidden_size] * options.layers
    layers: list[sj.Layer] = [sj.embedding(symbols, options.embedding_size)]
    for below, size in itertools.pairwise(sizes):
        layers += [sj.dropout(options.dropout), sj.recurrent(CELLS[options.cell](below, size))]
    return sj.serial(*layers, sj.dropout(options.dropout), sj.dense(options.hidden_size, symbols))


def optimizer_of(options: Options) -> optax.GradientTransformation:
    """Adam with `schedule_of`."""
    return optax.adam(schedule_of(options))


def schedule_of(options: Options) -> optax.Schedule:
    """A learning rate that rises linearly, then falls along half a cosine."""
    top, warmup = options.learning_rate, options.steps // 20
    return optax.warmup_cosine_decay_schedule(0.1 * top, top, warmup, options.steps, 0.1 * top)


def initial(model: sj.Layer, optimizer: optax.GradientTransformation, options: Options) -> Training:
    """Parameters, optimizer and state before the first update."""
    params_key, noise_key = jax.random.split(jax.random.key(options.seed))
    params = model.init(params_key)
    train = sj.train_state(params, optimizer, key=noise_key if options.dropout else None)
    return Training(train, model.initial_state(params, (options.batch_size,)))


def draw(folder: Run) -> str:
    """``loss.png``: training and validation loss against characters read, and the bigram model's level."""
    options = folder.options(Options)
    read = options.batch_size * options.window / 1e6

    def line(name: str) -> tuple[list[float], list[float]]:
        records = [record for record in folder.metrics() if name in record]
        return [record["step"] * read for record in records], [record[name] for record in records]

    path = folder.folder / "loss.png"
    figure.curves(
        path,
        {"training": line("loss"), "validation": line("validation_loss")},
        levels={"bigram model, validation": folder.config["facts"]["bigram_loss"]},
        x_label="characters read (millions)",
        y_label="cross-entropy (nats/character)",
    )
    return str(path)


def trained(folder: str) -> tuple[sj.Layer, PyTree, Vocabulary]:
    """The model, parameters and vocabulary of a run."""
    made = Run.open("charlm", folder)
    options = made.options(Options)
    with bad_input("charlm"):
        vocabulary = Vocabulary(made.config["facts"].get("vocabulary", ""))
    model = language_model(options, len(vocabulary))
    _, state = made.restore(initial(model, optimizer_of(options), options))
    return model, state.train.params, vocabulary


def encode_prompt(who: str, vocabulary: Vocabulary, prompt: str | None) -> np.ndarray:
    """The prompt as numbers: at least one character, all of them known."""
    if prompt is None:
        prompt = "\n" if "\n" in vocabulary else vocabulary.symbols[0]
    if not prompt:
        raise BadInput(f"{who}: expected --prompt to hold at least one character, got ''. Leave it out or give one.")
    return vocabulary.encode(prompt)
