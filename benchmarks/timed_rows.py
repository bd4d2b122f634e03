"""What is trained by the clock: data, models and what is required of them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import seqjax as sj
from seqjax import models, tasks
from seqjax.cells import lru, s5
from seqjax.objectives import Objective
from seqjax.recipes.language.text import log_loss, scorer
from seqjax.tasks.batches import streams
from seqjax.tasks.texts import read_text
from seqjax.tasks.vocabulary import Vocabulary

PICTURES, ANSWERS = "mnist/train-images-idx3-ubyte.gz", "mnist/train-labels-idx1-ubyte.gz"


class Model(NamedTuple):
    """A model and its training.

    Attributes:
      layer: the model.
      objective: ``(params, state, batch, key) -> (state, Tally)``.
      batch_of: the batch of an update, from its number and the seed.
      goes_on: whether the sequences of that update go on from where the last one's stopped.
      batch_size: sequences side by side.
      rate: Adam's, at its highest.
      figure: of parameters, on what is held back; of a part of it where that is enough.
    """

    layer: sj.Layer
    objective: Objective
    batch_of: Callable[[int, int], sj.Batch]
    goes_on: Callable[[int], bool]
    batch_size: int
    rate: float
    figure: Callable[[Any, bool], float]


class Row(NamedTuple):
    """A task and the models that take turns at it.

    Attributes:
      task: in words.
      show: how figures are told.
      minutes: of one core for each model.
      models: by name, from the folder of public data and whether to tune: then a part of the training data stands for
        what is held back, which is left alone.
      about: what their names begin with of which something is required.
      at_least: what their figure has to reach.
      at_most: the same where less is better.
      within: how far it may be behind the best of the others.
      published: by others, in words.
    """

    task: str
    show: str
    minutes: float
    models: Callable[[Path, bool], dict[str, Callable[[], Model]]]
    about: str
    at_least: float | None = None
    at_most: float | None = None
    within: float | None = None
    published: str = ""


def characters(data: Path, tuning: bool = False) -> dict[str, Callable[[], Model]]:
    """Blocks of minGRU beside LSTMs: the last tenth of the text is held back."""
    text = read_text(str(data / "tinyshakespeare" / "input.txt"))
    vocabulary = Vocabulary.build([text], specials=())
    train, held_back = tenth(vocabulary.encode(text), tuning)
    symbols = len(vocabulary)
    part = functools.partial(character_model, train, held_back)

    def blocks() -> sj.Layer:
        return sj.serial(
            sj.embedding(symbols, 128),
            models.deep_blocks(128, block=models.minimal_block, layers=4),
            sj.dense(128, symbols),
        )

    def lstm(layers: int) -> sj.Layer:
        return sj.serial(sj.embedding(symbols, 64), models.deep(64, 256, layers=layers), sj.dense(256, symbols))

    return {
        "minGRU, 4 blocks of 128": lambda: part(blocks(), 256, 16, 4e-3),
        "LSTM, 1 × 256": lambda: part(lstm(1), 128, 64, 4e-3),
        "LSTM, 2 × 256": lambda: part(lstm(2), 128, 64, 4e-3),
    }


def tenth(numbers: np.ndarray, tuning: bool) -> tuple[np.ndarray, np.ndarray]:
    """The text and its last tenth; in tuning, that last tenth is left alone, and the one before it stands for it."""
    train, held_back = np.split(numbers, [int(0.9 * len(numbers))])
    return tenth(train, False) if tuning else (train, held_back)


def character_model(
    train: np.ndarray, held_back: np.ndarray, layer: sj.Layer, window: int, size: int, rate: float
) -> Model:
    """Windows of contiguous streams in order, the state carried from each to the next."""
    columns = streams(train, size)
    ticks = (len(columns) - 1) // window * window
    windows = list(sj.windows(sj.Batch(columns[:ticks], columns[1 : ticks + 1]), window))
    measure = scorer(layer)

    def figure(params: Any, part: bool) -> float:
        nats, count = log_loss(measure, layer, params, held_back, columns=32, lead=256)
        return nats / count

    return Model(
        layer,
        sj.truncated(layer, sj.cross_entropy, window),
        lambda step, seed: windows[step % len(windows)],
        lambda step: step % len(windows) > 0,
        size,
        rate,
        figure,
    )


def pixels(data: Path, tuning: bool = False) -> dict[str, Callable[[], Model]]:
    """Digits as 784 brightnesses in a row, blocks of S5 around either cell; a sixth of the pictures is held back."""
    pictures, answers = tasks.read_idx(str(data / PICTURES)), tasks.read_idx(str(data / ANSWERS))
    train, held_back = tasks.split(len(answers), (5 / 6, 1 / 6), 0)
    if tuning:
        train, held_back = train[: len(train) * 5 // 6], train[len(train) * 5 // 6 :]
    xs, ys = tasks.pixels(pictures), answers.astype(np.int32)
    part = functools.partial(picture_model, xs, ys, train, held_back)
    ring = functools.partial(lru, r_min=0.9, r_max=0.999, max_phase=np.pi / 10, state_size=64)
    modes = functools.partial(s5, state_size=64)

    def blocks(cell: Callable[..., sj.Cell]) -> sj.Layer:
        body = models.deep_blocks(128, block=functools.partial(models.s5_block, cell=cell), layers=2)
        return models.classifier(sj.serial(sj.dense(1, 128), body), 128, 10, pool="mean")

    return {
        "LRU, 2 blocks of 128, ring 0.9 to 0.999": lambda: part(blocks(ring), 16, 4e-3),
        "S5, 2 blocks of 128": lambda: part(blocks(modes), 16, 4e-3),
    }


def picture_model(
    xs: np.ndarray, ys: np.ndarray, train: np.ndarray, held_back: np.ndarray, layer: sj.Layer, size: int, rate: float
) -> Model:
    """Pictures drawn with replacement."""

    def batch_of(step: int, seed: int) -> sj.Batch:
        drawn = np.random.default_rng((seed, step)).choice(train, size)
        return sj.Batch(xs[:, drawn], ys[None, drawn])

    def loss(logits: jax.Array, targets: jax.Array, mask: jax.Array | None) -> sj.Tally:
        return models.one_answer(sj.cross_entropy)(logits, targets[0], mask)

    @jax.jit
    def answers(params: Any, xs: jax.Array) -> jax.Array:
        return layer.apply(params, layer.initial_state(params, xs.shape[1:-1]), xs)[1].argmax(-1)

    def figure(params: Any, part: bool) -> float:
        chosen = held_back[:1000] if part else held_back
        right = [answers(params, xs[:, some]) == ys[some] for some in np.split(chosen, range(100, len(chosen), 100))]
        return float(np.mean(np.concatenate(right)))

    return Model(layer, sj.objective(layer, loss), batch_of, lambda step: False, size, rate, figure)


ROWS: dict[str, Row] = {
    "characters": Row(
        "tiny-shakespeare characters: nats a character on the last tenth",
        "{:.3f}",
        6,
        characters,
        "minGRU",
        at_most=1.6,
        within=0.05,
        published="LSTM 1.58",
    ),
    "pixels": Row("digits pixel by pixel, 784 ticks: accuracy on 10,000", "{:.2%}", 12, pixels, "", at_least=0.97),
}
