"""The tasks of the recipe `classify`: where their sequences come from, what the classes are, how one is shown."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from seqjax import tasks
from seqjax.recipes.running import splits
from seqjax.recipes.running.options import BadInput
from seqjax.recipes.running.run import digest
from seqjax.tasks import applications
from seqjax.tasks.digits import NAMES
from seqjax.tasks.problem import one_answer
from seqjax.tasks.vocabulary import PAD, UNK, Vocabulary


class Task(NamedTuple):
    """Sequences with one answer each.

    Attributes:
      draw: ``(rng, count) -> Examples``, to learn from.
      held_back: ``(rng) -> Examples``, to measure on.
      symbols: how many there are; 0 where the input is features.
      features: how many there are a tick; 0 where the input is symbols.
      classes: names of the answers.
      chance: what the best answer scores that never looks.
      tell: one sequence ``[t, ...]`` in words.
      shown: sequences to show besides drawn ones, with their answers.
      at: ``(rng, length) -> Examples`` of that length, where lengths matter.
      lengths: to measure at.
      beyond: all lengths that are longer than any in training, up to the last: how they are called, and the draw.
      sha256: of the data; None where they are generated.
      vocabulary: of texts; None where the input is none.
      test: sequences to measure on once, or None.
    """

    draw: Callable[[np.random.Generator, int], tasks.Examples]
    held_back: Callable[[np.random.Generator], tasks.Examples]
    symbols: int
    features: int
    classes: tuple[str, ...]
    chance: float
    tell: Callable[[np.ndarray], str]
    shown: tuple[tuple[Sequence[int], int], ...] = ()
    at: Callable[[np.random.Generator, int], tasks.Examples] | None = None
    lengths: tuple[int, ...] = ()
    beyond: tuple[str, Callable[[np.random.Generator], tasks.Examples]] | None = None
    sha256: str | None = None
    vocabulary: Vocabulary | None = None
    test: tasks.Examples | None = None


HELD_BACK = 2000
SHOWN_HALVES: tuple[tuple[Sequence[int], int], ...] = (
    ((1, 2, 3, 4, 5, 6), 0),
    ((3, 9, 9, 3), 0),
    ((7, 4, 4, 7, 5, 4), 0),
    ((7, 7), 1),
    ((1, 2, 3, 1, 2, 3), 1),
    ((5, 1, 1, 2, 5, 1, 1, 2), 1),
)


def generated(problem: tasks.Problem, classes: Sequence[str], tell: Callable, *, symbols: bool = True) -> Task:
    """A task without end: every update draws new sequences."""
    return Task(
        problem.draw,
        lambda rng: problem.draw(rng, HELD_BACK),
        problem.input_size if symbols else 0,
        0 if symbols else problem.input_size,
        tuple(classes),
        problem.chance,
        tell,
    )


def halves() -> Task:
    """Up to 20 symbols; longer ones are met in the test only."""

    def at(rng: np.random.Generator, length: int) -> tasks.Examples:
        some = tasks.identical_halves(length).draw(rng, 250 * length)
        return tasks.Examples(*(a[..., some.mask.all(0)] for a in some))

    task = generated(tasks.identical_halves(20), ("different", "identical"), lambda xs: " ".join(map(str, xs)))
    return task._replace(shown=SHOWN_HALVES, at=at, lengths=(2, 4, 8, 12, 16, 20, 24, 28, 32))


def parity() -> Task:
    """Up to 40 bits to learn from, up to 500 to measure on."""
    task = generated(tasks.parity(1, 40), ("even", "odd"), lambda xs: "".join(map(str, xs)))
    lengths = (2, 4, 6, 8, 10, 12, 20, 40, 60, 100, 200, 500)
    return task._replace(
        at=lambda rng, n: tasks.parity(n, n).draw(rng, 1000),
        lengths=lengths,
        beyond=("41 to 500", lambda rng: tasks.parity(41, 500).draw(rng, HELD_BACK)),
    )


def larger_sum() -> Task:
    """Up to 20 ticks to learn from."""

    def tell(xs: np.ndarray) -> str:
        total = xs.sum(0)
        return f"{len(xs)} ticks with sums {total[0]:6.2f} and {total[1]:6.2f}"

    task = generated(tasks.larger_sum(1, 20), ("first", "second"), tell, symbols=False)
    return task._replace(at=lambda rng, n: tasks.larger_sum(n, n).draw(rng, 1000), lengths=(1, 5, 10, 20, 40, 80))


def dna() -> Task:
    """Bases, the motif shown in capitals."""

    def tell(xs: np.ndarray) -> str:
        text = "".join(applications.BASES[x] for x in xs).lower()
        return text.replace(applications.MOTIF.lower(), applications.MOTIF)

    return generated(applications.promoter(), ("no promoter", "promoter"), tell)


def action() -> Task:
    """Frames of a moving spot."""

    def tell(xs: np.ndarray) -> str:
        size = int(np.sqrt(xs.shape[1]))
        frames = xs.reshape(-1, size, size)
        corners = [np.roll(frames, shift, (1, 2)) for shift in ((0, 0), (-1, 0), (0, -1), (-1, -1))]
        spots = np.sum(corners, 0)
        path = [divmod(int(spot.argmax()), size) for spot in spots]
        return "spot at (row, column) " + " ".join(f"({r},{c})" for r, c in path)

    return generated(applications.clips(), ("right", "left", "down", "up"), tell, symbols=False)


def sentiment() -> Task:
    """Opinions of two clauses."""
    problem = applications.sentiment()
    return of_texts(problem, Vocabulary([PAD, *problem.source_symbols]), " ")


def surnames_of(options: splits.SplitOptions, seed: int) -> Task:
    """Surnames by rule; those of a folder with a file a language are split by names, a fifth of them held back."""
    if not splits.told(options, ""):
        problem = tasks.surnames()
        return of_texts(problem, Vocabulary([PAD, *problem.source_symbols]), "")
    train, held_back, test = splits.read(
        options, lambda folder: sorted(set(tasks.read_labelled(folder))), list[tasks.Pair]
    )
    languages = tuple(sorted({str(pair.target) for pair in train}))
    for pair in (*(held_back or ()), *(test or ())):
        if pair.target not in languages:
            raise BadInput(
                f"classify: expected the languages that are learned from in every folder, got {pair.target}. Leave it "
                "out, or learn from it."
            )
    if held_back is None:
        train, held_back = ([train[i] for i in part] for part in tasks.split(len(train), (0.8, 0.2), seed))
    symbols = Vocabulary.build([pair.source for pair in train], specials=(PAD, UNK))
    counts = np.bincount([languages.index(str(pair.target)) for pair in held_back])
    learned, measured = (coded_texts(part, symbols, languages) for part in (train, held_back))
    chance = counts.max() / counts.sum()
    task = fixed(learned, measured, len(symbols), languages, chance, told(symbols, ""))
    return task._replace(vocabulary=symbols, test=None if test is None else coded_texts(test, symbols, languages))


def of_texts(problem: tasks.TextProblem, symbols: Vocabulary, between: str) -> Task:
    """A generated task of texts."""
    longest = max(len(pair.source) for pair in problem.draw(np.random.default_rng(0), 5000))

    def draw(rng: np.random.Generator, count: int) -> tasks.Examples:
        return coded_texts(problem.draw(rng, count), symbols, problem.target_symbols, longest + 2)

    answers = tasks.Problem(draw, len(symbols), len(problem.target_symbols), problem.measure, problem.chance)
    return generated(answers, problem.target_symbols, told(symbols, between))._replace(vocabulary=symbols)


def coded_texts(
    pairs: Sequence[tasks.Pair], symbols: Vocabulary, labels: Sequence[str], length: int | None = None
) -> tasks.Examples:
    """Texts and labels as numbers."""
    padded = tasks.pad([symbols.encode(pair.source)[:length] for pair in pairs], length=length)
    answers = [pair.target if isinstance(pair.target, str) else pair.target[0] for pair in pairs]
    mask = np.arange(len(padded.values))[:, None] < padded.lengths
    return one_answer(padded.values, np.array([labels.index(answer) for answer in answers]), mask)


def told(symbols: Vocabulary, between: str) -> Callable[[np.ndarray], str]:
    """Numbers as a text again."""
    return lambda xs: between.join(symbols.decode(xs))


def digits(options: splits.SplitOptions, labels: str | None, *, permuted: bool, seed: int) -> Task:
    """Pictures of digits, pixel by pixel: printed in a font of five by seven dots, or from IDX files."""

    def tell(xs: np.ndarray) -> str:
        return f"{len(xs)} pixels of brightness {xs.mean():.2f}"

    order = 0 if permuted else None

    def examples(images: str) -> tasks.Examples:
        if labels is None:
            pictures, answers = tasks.read_labelled_images(images)
        else:
            pictures, answers = tasks.read_idx(images), tasks.read_idx(labels)
        if pictures.ndim != 3 or answers.ndim != 1 or len(pictures) != len(answers) or answers.max() > 9:
            raise BadInput(
                f"classify: expected pictures [n, height, width] and as many labels 0 to 9, got shapes "
                f"{pictures.shape} and {answers.shape}, labels to {answers.max()}. Name the images with --data "
                "and their labels with --labels."
            )
        return one_answer(tasks.pixels(pictures, permutation=order), answers)

    if splits.told(options, ""):
        train, held_back, test = splits.read(options, examples, lambda: draw(np.random.default_rng(seed), 0))
        if held_back is None:
            parts = tasks.split(len(train.targets), (5 / 6, 1 / 6), seed)
            train, held_back = (one_answer(train.xs[:, part], train.targets[part]) for part in parts)
        if {len(part.xs) for part in (held_back, test) if part is not None} != {len(train.xs)}:
            raise BadInput("classify: expected pictures of one size in every file, got others. Give such files.")
        chance = np.bincount(held_back.targets).max() / len(held_back.targets)
        return fixed(train, held_back, 0, NAMES, chance, tell)._replace(test=test)

    def draw(rng: np.random.Generator, count: int) -> tasks.Examples:
        strips = tasks.digit_strips(rng, count, shortest=1, longest=1)
        pictures = np.round(255 * strips.images).astype(np.uint8)
        answers = np.array([NAMES.index(caption[0]) for caption in strips.captions])
        return one_answer(tasks.pixels(pictures, permutation=order), answers)

    return generated(tasks.Problem(draw, 1, 10, "accuracy", 1 / 10), NAMES, tell, symbols=False)


def fixed(
    train: tasks.Examples,
    held_back: tasks.Examples,
    symbols: int,
    classes: Sequence[str],
    chance: float,
    tell: Callable[[np.ndarray], str],
) -> Task:
    """A task of so many sequences and no more: updates draw from them with replacement. One feature if no symbols."""

    def draw(rng: np.random.Generator, count: int) -> tasks.Examples:
        chosen = rng.integers(0, len(train.targets), count)
        return tasks.Examples(*(a[..., chosen, :] if a.ndim == 3 else a[..., chosen] for a in train))

    task = Task(draw, lambda rng: held_back, symbols, int(not symbols), tuple(classes), float(chance), tell)
    return task._replace(sha256=digest(*(array for part in (train, held_back) for array in part)))
