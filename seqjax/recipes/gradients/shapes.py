"""The five shapes of problem, a model of ten lines each, and what it learns.

A model here is how its parts are drawn, and ``answer(params, xs)``: logits of K symbols for symbols ``[T, B]``.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax.base import Array, PyTree
from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, LearningOptions, Report
from seqjax.recipes.running.options import check_sizes

K, H, T = 10, 48, 6  # symbols are digits; units; ticks
Answer = Callable[[PyTree, Array], Array]
Init = Callable[[Array], PyTree]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, DrawnOptions):
    """One to one, one to many, many to one, many to many, aligned many to many: a model of ten lines each."""

    steps: int = 1500
    batch_size: int = 32
    """Examples an update."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "batch_size")


def one_to_one() -> tuple[Init, Answer]:
    """No recurrence at all."""
    model = sj.serial(sj.embedding(K, H), sj.dense(H, H, activation=jnp.tanh), sj.dense(H, K))
    return model.init, lambda params, xs: model.apply(params, ((), (), ()), xs)[1]


def one_to_many() -> tuple[Init, Answer]:
    """The input is where the recurrence starts; then it runs by itself."""
    start, cell, read = sj.embedding(K, H), sj.gru(1, H), sj.dense(H, K)

    def answer(params: PyTree, xs: Array) -> Array:
        state = start.apply(params[0], (), xs)[1][0]
        _, ys = sj.unroll(cell, params[1], state, jnp.zeros((T, xs.shape[1], 1)))
        return read.apply(params[2], (), ys)[1]

    return drawn(start, cell, read), answer


def many_to_one() -> tuple[Init, Answer]:
    """The last output answers for the sequence."""
    see, cell, read = sj.embedding(K, H), sj.gru(H, H), sj.dense(H, K)

    def answer(params: PyTree, xs: Array) -> Array:
        seen = see.apply(params[0], (), xs)[1]
        _, ys = sj.unroll(cell, params[1], cell.initial_state(params[1], xs.shape[1:]), seen)
        return read.apply(params[2], (), ys[-1:])[1]

    return drawn(see, cell, read), answer


def many_to_many() -> tuple[Init, Answer]:
    """An encoder reads all; a decoder starts where it ended."""
    see, encoder, decoder, read = sj.embedding(K, H), sj.gru(H, H), sj.gru(1, H), sj.dense(H, K)

    def answer(params: PyTree, xs: Array) -> Array:
        seen = see.apply(params[0], (), xs)[1]
        state, _ = sj.unroll(encoder, params[1], encoder.initial_state(params[1], xs.shape[1:]), seen)
        _, ys = sj.unroll(decoder, params[2], state, jnp.zeros((*xs.shape, 1)))
        return read.apply(params[3], (), ys)[1]

    return drawn(see, encoder, decoder, read), answer


def aligned() -> tuple[Init, Answer]:
    """Every output answers for its tick."""
    see, cell, read = sj.embedding(K, H), sj.gru(H, H), sj.dense(H, K)

    def answer(params: PyTree, xs: Array) -> Array:
        seen = see.apply(params[0], (), xs)[1]
        _, ys = sj.unroll(cell, params[1], cell.initial_state(params[1], xs.shape[1:]), seen)
        return read.apply(params[2], (), ys)[1]

    return drawn(see, cell, read), answer


def drawn(*parts: sj.Layer | sj.Cell) -> Init:
    """Parameters of every part, from keys of their own."""
    return lambda key: tuple(part.init(k) for part, k in zip(parts, jax.random.split(key, len(parts))))


class Shape(NamedTuple):
    """A model, a task for it, digits in and digits out, and its graph: ticks of inputs, states and outputs."""

    model: Callable[[], tuple[Init, Answer]]
    task: str
    inputs: int
    targets: Callable[[np.ndarray], np.ndarray]  # [ticks, ..., B] -> [ticks, ..., B]
    graph: tuple[list[int], list[int], list[int]]


SHAPES = {
    "one to one": Shape(one_to_one, "a digit: its square's\nlast digit", 1, lambda xs: xs**2 % K, ([0], [0], [0])),
    "one to many": Shape(
        one_to_many,
        "a digit: so many counted\ndown to 0",
        1,
        lambda xs: np.maximum(xs - np.arange(T).reshape(-1, *[1] * (xs.ndim - 1)), 0),
        ([0], [0, 1, 2], [0, 1, 2]),
    ),
    "many to one": Shape(
        many_to_one, "six digits: the largest", T, lambda xs: xs.max(0, keepdims=True), ([0, 1, 2], [0, 1, 2], [2])
    ),
    "many to many": Shape(
        many_to_many,
        "six digits: the same,\nbackwards",
        T,
        lambda xs: xs[::-1],
        ([0, 1, 2], [0, 1, 2, 3, 4, 5], [3, 4, 5]),
    ),
    "many to many, aligned": Shape(
        aligned,
        "six digits: the largest\nso far",
        T,
        lambda xs: np.maximum.accumulate(xs),
        ([0, 1, 2], [0, 1, 2], [0, 1, 2]),
    ),
}


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients shapes``."""
    report.draw(
        "shapes",
        "shapes",
        problems={name: dict(zip(("inputs", "states", "outputs"), shape.graph)) for name, shape in SHAPES.items()},
        told={name: shape.task for name, shape in SHAPES.items()},
    )
    rows = []
    for name, shape in SHAPES.items():
        report.say(f"{name}\n\n```python\n{inspect.getsource(shape.model).rstrip()}\n```")
        right, chance, given = learn(shape, options)
        rows.append([name, shape.task.replace("\n", " "), given, f"{right:.1%}", f"{chance:.1%}"])
    report.say(f"After {options.steps:,} updates of {options.batch_size} examples, on new ones:")
    report.table(["shape", "task", "symbols to logits", "digits right", "commonest digit"], rows)


def learn(shape: Shape, options: Options) -> tuple[float, float, str]:
    """Trains the model of a shape; digits right on new examples, those of the commonest digit, and its arrays."""
    rng = np.random.default_rng(options.seed)
    init, answer = shape.model()
    xs = rng.integers(0, K, (options.steps, shape.inputs, options.batch_size))
    data = jnp.asarray(xs), jnp.asarray(np.moveaxis(shape.targets(np.moveaxis(xs, 1, 0)), 0, 1))
    loss = lambda params, batch: (sj.cross_entropy(answer(params, batch[0]), batch[1]).mean, ())
    adam = optax.adam(options.learning_rate)
    params = jax.jit(lambda key, data: lessons.descend(loss, init(key), adam, data).params)(
        jax.random.key(options.seed), data
    )
    new = rng.integers(0, K, (shape.inputs, 500))
    logits, wanted = answer(params, jnp.asarray(new)), shape.targets(new)
    right = float((np.asarray(logits).argmax(-1) == wanted).mean())
    chance = max(float((wanted == digit).mean()) for digit in range(K))
    return right, chance, f"{list(new.shape)} to {list(logits.shape)}"
