"""What a run of `classify` is asked: a sequence as one types it, a surname, bits, bases, a picture in a file."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seqjax import tasks
from seqjax.recipes.classify import Options, Task, answers, classifiers_of, task_of
from seqjax.recipes.running import beside, learning, splits
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply, encode, numbers, of_size, rounded, unknown
from seqjax.recipes.running.options import BadInput
from seqjax.recipes.running.run import Run
from seqjax.tasks.applications import BASES


class Typed(NamedTuple):
    """How a sequence is typed: in words, an example, and what the network reads ``[t, ...]``."""

    kind: str
    example: str
    read: Callable[[str], np.ndarray]


def to_ask(run: Run) -> Asked:
    """Sequences to classify, by the first of the run's networks."""
    options = run.options(Options)
    task = task_of(options)
    ticks = len(task.held_back(learning.generator(options)).xs) if options.cell == "tcn" else 1
    classifiers = classifiers_of(options, task, ticks)
    trained = learning.trained(run, beside.begin(options, classifiers, noise=options.dropout > 0))
    first, *_ = classifiers
    typed = typed_of(options, task)

    def reply(question: str) -> Reply:
        xs = typed.read(question.strip())
        padded = np.zeros((rounded(len(xs)), 1, *xs.shape[1:]), xs.dtype)
        padded[: len(xs), 0] = xs
        asked = tasks.Examples(padded, np.zeros(1, int), np.arange(len(padded))[:, None] < len(xs), np.ones(1, bool))
        [probs] = answers(classifiers[first], trained[first], asked)
        odd = () if task.vocabulary is None else unknown(symbols_of(options, question.strip()), task.vocabulary)
        return Reply(f"{task.classes[probs.argmax()]} ({probs.max():.3f})", odd)

    return Asked(typed.kind, typed.example, reply)


def typed_of(options: Options, task: Task) -> Typed:
    """How the sequences of a task are typed."""
    if task.vocabulary is not None:
        known, name = task.vocabulary, "words" if options.task == "sentiment" else "letters"
        drawn = task.draw(np.random.default_rng(0), 1)
        example = task.tell(drawn.xs[drawn.mask[:, 0], 0])
        kind = {"surnames": "a surname", "sentiment": "an opinion"}[options.task]
        return Typed(kind, example, lambda text: encode(symbols_of(options, text), known, name))
    if options.task == "digits":
        height, width = size_of(options)
        order = 0 if options.permuted else None

        def pixels(path: str) -> np.ndarray:
            bright = np.round(255 * of_size(path, height, width)).astype(np.uint8)
            return tasks.pixels(bright[None], permutation=order)[:, 0]

        return Typed(f"a file with a picture of {height} × {width} pixels, bright on dark", "seven.png", pixels)
    if options.task == "dna":
        return Typed("a string of the bases A, C, G and T", "GATTATAATC", lambda text: indices(text.upper(), BASES))
    if options.task == "parity":
        return Typed("a string of bits", "1011", lambda text: indices(text, "01"))
    if options.task == "halves":
        least = f"numbers from 0 to {task.symbols - 1} with blanks between"
        return Typed(least, "1 2 3 1 2 3", lambda text: indices(text.split(), list(map(str, range(task.symbols)))))
    if options.task == "larger-sum":
        return Typed(
            "pairs of numbers, ticks apart by semicolons", "1 2; 0 3", lambda text: numbers(text, task.features)
        )
    raise BadInput(
        f"classify: expected a task whose sequences can be typed, got {options.task}, whose ticks are pictures of "
        f"{task.features} pixels. Ask a run of another task."
    )


def symbols_of(options: Options, text: str) -> list[str]:
    """Words of an opinion, letters of a surname."""
    return text.split() if options.task == "sentiment" else list(text)


def indices(symbols: str | list[str], known: str | list[str]) -> np.ndarray:
    """Their places among the known ones."""
    if odd := unknown(symbols, set(known)):
        raise NoQuestion(f"with {' '.join(map(repr, odd))}")
    if not symbols:
        raise NoQuestion("without any")
    return np.array([known.index(symbol) for symbol in symbols], np.int32)


def size_of(options: Options) -> tuple[int, int]:
    """Height and width of the pictures learned from."""
    if path := splits.told(options, ""):
        return tasks.read_idx(path).shape[1:]
    return tasks.digit_strips(np.random.default_rng(0), 1, shortest=1, longest=1).images.shape[1:]
