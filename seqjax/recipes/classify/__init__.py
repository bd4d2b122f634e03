"""A sequence classifier: read to the end, then give one answer.

    h_t = cell(h_{t-1}, x_t)      p(class | x_1 … x_T) = softmax(relu(h_T) W + b)

Several recurrences can be trained side by side, on the same batches (--compare). For parity there is a control without
memory: a feed-forward network over the last few bits, trained on strings of exactly that length. It learns those by
heart, and is at chance on any longer string.

References:
  Graves (2012), Supervised sequence labelling with recurrent neural networks. https://doi.org/10.1007/978-3-642-24797-2
  Le, Jaitly and Hinton (2015), A simple way to initialize recurrent networks of rectified linear units (pixel by
  pixel digits). https://arxiv.org/abs/1504.00941
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import Array, PyTree
from seqjax.objectives import Objective
from seqjax.recipes.classify import sequences
from seqjax.recipes.classify.sequences import Task
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import beside, drawing, learning, splits
from seqjax.recipes.running.cells import CELLS, CellName, convolutions
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.learning import LearningOptions
from seqjax.recipes.running.options import FileOrNone, FolderOrFile, bad_input, check_left_out, check_rates, check_sizes
from seqjax.recipes.running.run import Run, vocabularies

COMPARED = ("elman-relu", "pass-through", "gru", "lstm")
CONTROL, WINDOW = "feed-forward", 8
SHOWN = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, splits.SplitOptions):
    """Trains a network that reads a sequence and names its class."""

    task: Literal["halves", "parity", "larger-sum", "surnames", "digits", "dna", "action", "sentiment"] = "halves"
    """What to tell apart; all but surnames and digits read from files are generated, without end."""
    data: FolderOrFile = None
    """For surnames a folder with one file a language, a fifth of the names held back; for digits images in IDX format,
    a sixth of them held back. So are --train, --held-back and --test, images with their labels beside them as in MNIST.
    """
    labels: FileOrNone = None
    """For digits: the labels of the images in --data, in IDX format."""
    permuted: bool = False
    """For digits: one fixed random order of the pixels."""
    cell: CellName | Literal["tcn"] = "gru"
    """The recurrence, or tcn, a temporal convolutional network with as many blocks as it takes to see the longest
    sequence."""
    compare: bool = False
    """Train elman-relu, pass-through, gru and lstm side by side instead of one --cell."""
    layers: int = 1
    """Recurrent layers."""
    hidden_size: int = 64
    """Units a layer, or channels of each convolution."""
    embedding_size: int = 32
    """Features a symbol."""
    pool: Literal["last", "mean", "max"] = "last"
    """What the answer reads of all outputs."""
    dropout: float = 0.0
    """Rate before and behind the recurrent layers, in [0, 1)."""
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 6e-3

    def check(self, who: str) -> None:
        """Refuses sizes and rates out of range, and files for tasks that take none."""
        super().check(who)
        check_sizes(who, self, "layers", "hidden_size", "embedding_size")
        check_rates(who, self, "dropout")
        if self.compare:
            check_left_out(who, self, "--compare", "cell")
        if self.cell == "tcn":
            check_left_out(who, self, "--cell tcn", "layers")
        if self.task != "digits":
            check_left_out(who, self, f"--task {self.task}", "permuted")
        for name in ("data", "train"):
            if getattr(self, name) is not None and self.task not in ("surnames", "digits"):
                raise ValueError(
                    f"{who}: expected --task surnames or digits with --{name}, got {self.task}. Leave out --{name}."
                )
        if (self.labels is not None) != (self.task == "digits" and self.data is not None):
            raise ValueError(
                f"{who}: expected --task digits with both --data and --labels, got one of them. Name both."
            )


@trains
def main(options: Options) -> Course:
    """``python -m seqjax classify``."""
    # Data
    with bad_input("classify"):
        task = task_of(options)
    held_back = task.held_back(learning.generator(options))

    # Models
    classifiers = classifiers_of(options, task, len(held_back.xs))
    start = beside.begin(options, classifiers, noise=options.dropout > 0)

    # Training: all models on the same sequences, but for the control, which has its own.
    def batch_of(step: int) -> sj.Batch:
        rng = learning.generator(options, step)
        groups = {"all": batch(task.draw(rng, options.batch_size))}
        if CONTROL in classifiers:
            groups[CONTROL] = batch(tasks.parity(WINDOW, WINDOW).draw(rng, options.batch_size))
        return sj.Batch(*({name: group[i] for name, group in groups.items()} for i in range(3)))

    def evaluate(params: dict[str, PyTree], part: tasks.Examples = held_back) -> dict[str, float]:
        return {f"accuracy_{name}": accuracy(c, params[name], part) for name, c in classifiers.items()}

    facts = {"classes": list(task.classes), "chance": task.chance, "sha256": task.sha256}
    kept = {} if task.vocabulary is None else vocabularies(symbols=task.vocabulary)
    folder = Run.start("classify", options, facts | kept | splits.facts(options))
    print(
        f"{options.task}: {len(task.classes)} classes, chance {task.chance:.2%}; up to {len(held_back.xs)} ticks, "
        f"{held_back.xs.shape[1]:,} sequences held back"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        beside.together({name: objective(c, CONTROL if name == CONTROL else "all") for name, c in classifiers.items()}),
        batch_of,
        clip=beside.clip_each(options.clip),
        extra=beside.mean_loss(classifiers),
        work=options.batch_size,
        unit="sequences",
        evaluate=evaluate,
        show_evaluation="  ".join(f"{name} {{accuracy_{name}:.2%}}" for name in classifiers),
        best=learning.highest(*(f"accuracy_{name}" for name in classifiers)),
        test=None if task.test is None else functools.partial(evaluate, part=task.test),
    )

    # What came out: some answers, a table, figures.
    first, *_ = classifiers
    print(f"\n{first}:")
    show(task, classifiers[first], outcome.params[first], task.draw(learning.generator(options), SHOWN))
    longer = {n: task.at(np.random.default_rng((options.seed, 0, n)), n) for n in task.lengths} if task.at else {}
    columns = {f"T={n}": examples for n, examples in longer.items()}
    if task.beyond is not None:
        columns[f"T={task.beyond[0]}"] = task.beyond[1](learning.generator(options))
    rows = {
        name: [outcome.numbers[f"accuracy_{name}"]] + [accuracy(c, outcome.params[name], e) for e in columns.values()]
        for name, c in classifiers.items()
    }
    print(
        f"\n{'accuracy':16}{'parameters':>11}{'held back':>11}"
        + "".join(f"{label:>{width(label)}}" for label in columns)
    )
    for name, row in rows.items():
        count = learning.parameter_count(outcome.params[name])
        shares = "".join(f"{share:{width(label)}.1%}" for label, share in zip(columns, row[1:]))
        print(f"{name:16}{count:11,}{row[0]:11.2%}" + shares)
    print(f"{'chance':27}{task.chance:11.2%}")
    print(f"{outcome.steps} steps in {outcome.seconds:.0f} s")
    pictures = [
        curves.draw(
            folder,
            {name: f"accuracy_{name}" for name in classifiers},
            levels={"chance": task.chance},
            y_label="right answers (share, held back)",
            name="accuracy",
        )
    ]
    if longer:
        picture = drawing.save(
            folder,
            "lengths",
            "curves",
            lines={name: (list(longer), row[1 : 1 + len(longer)]) for name, row in rows.items()},
            levels={"chance": task.chance},
            marks={"longest in training": len(held_back.xs)},
            x_label="length (ticks)",
            y_label="right answers (share)",
            x_scale="log",
        )
        pictures.append(picture)
    if len(task.classes) > 2:
        tables = {name: confusion(c, outcome.params[name], held_back, task) for name, c in classifiers.items()}
        labels = {"x_label": "class found", "y_label": "true class"}
        pictures.append(drawing.save(folder, "confusion", "confusion", tables=tables, names=task.classes, **labels))
    figures = {name: row[0] for name, row in rows.items()}
    figures |= {f"{name}, {label}": share for name, row in rows.items() for label, share in zip(columns, row[1:])}
    learning.conclude(folder, "accuracy", figures, {"chance": task.chance}, outcome.test)
    print(f"run folder {folder.folder}, figures {' '.join(map(str, pictures))}")


def width(label: str) -> int:
    """Of a column of percentages under that label."""
    return max(8, len(label) + 2)


def task_of(options: Options) -> Task:
    """The task by its name."""
    if options.task == "surnames":
        return sequences.surnames_of(options, options.seed)
    if options.task == "digits":
        return sequences.digits(options, options.labels, permuted=options.permuted, seed=options.seed)
    return getattr(sequences, options.task.replace("-", "_"))()


def classifiers_of(options: Options, task: Task, ticks: int) -> dict[str, sj.Layer]:
    """The networks that are trained side by side, for sequences of so many ticks."""
    names = COMPARED if options.compare else (options.cell,)
    classifiers = {name: classifier(options, task, name, ticks) for name in names}
    return classifiers | ({CONTROL: feed_forward(options, task)} if options.task == "parity" else {})


def classifier(options: Options, task: Task, cell: str, ticks: int) -> sj.Layer:
    """Recurrent layers, or convolutions over so many ticks, and an answer from what relu leaves of the last output."""
    size, read = first_layer(options, task)
    if cell == "tcn":
        body = convolutions(size, options.hidden_size, ticks=ticks, dropout=options.dropout)
    else:
        body = models.deep(size, options.hidden_size, cell=CELLS[cell], layers=options.layers, rate=options.dropout)
    body = sj.serial(*read, body, sj.pointwise(lambda params, hs: jax.nn.relu(hs)))
    model = models.classifier(body, options.hidden_size, len(task.classes), pool=options.pool)
    return sj.mixed_precision(model, options.products)


def feed_forward(options: Options, task: Task) -> sj.Layer:
    """One hidden layer over the last few ticks, and the same answer: no memory beyond them."""
    size, read = first_layer(options, task)
    hidden = 4 * options.hidden_size
    body = sj.serial(
        *read, sj.causal_conv(size, hidden, width=WINDOW), sj.pointwise(lambda params, hs: jax.nn.relu(hs))
    )
    return sj.mixed_precision(models.classifier(body, hidden, len(task.classes)), options.products)


def first_layer(options: Options, task: Task) -> tuple[int, list[sj.Layer]]:
    """Features a tick and what makes them: symbols are embedded, features read as they are."""
    if not task.symbols:
        return task.features, []
    return options.embedding_size, [sj.embedding(task.symbols, options.embedding_size)]


def batch(examples: tasks.Examples) -> sj.Batch:
    """One answer a sequence; the batch axis comes second in targets too."""
    return sj.Batch(examples.xs, examples.targets[None], examples.mask)


def objective(classifier: sj.Layer, group: str) -> Objective:
    """Cross-entropy of the answers to the sequences of this group."""

    def loss(ys: Array, targets: Array, mask: Array | None) -> sj.Tally:
        return models.one_answer(sj.cross_entropy)(ys, targets[0], mask)

    of_group = sj.objective(classifier, loss)
    return lambda params, state, batch, key: of_group(params, state, sj.Batch(*(b[group] for b in batch[:3])), key)


def answers(classifier: sj.Layer, params: PyTree, examples: tasks.Examples) -> np.ndarray:
    """Probabilities of the classes ``[B, classes]``, some sequences at a time."""
    parts = []
    for start in range(0, len(examples.targets), 500):
        some = (examples.xs[:, start : start + 500], examples.mask[:, start : start + 500])
        parts.append(np.asarray(_answers(classifier, params, *some)))
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=0)
def _answers(classifier: sj.Layer, params: PyTree, xs: Array, mask: Array) -> Array:
    _, ys = classifier.apply(params, classifier.initial_state(params, mask.shape[1:]), xs, mask=mask)
    return jax.nn.softmax(ys)


def accuracy(classifier: sj.Layer, params: PyTree, examples: tasks.Examples) -> float:
    """The share of right answers."""
    return float((answers(classifier, params, examples).argmax(1) == examples.targets).mean())


def confusion(classifier: sj.Layer, params: PyTree, examples: tasks.Examples, task: Task) -> np.ndarray:
    """How often each class (row) was taken for which (column)."""
    counts = np.zeros((len(task.classes),) * 2)
    np.add.at(counts, (examples.targets, answers(classifier, params, examples).argmax(1)), 1)
    return counts


def show(task: Task, classifier: sj.Layer, params: PyTree, examples: tasks.Examples) -> None:
    """Prints sequences, what was answered, and the right answer where that is another."""
    told = [(examples.xs[examples.mask[:, b], b], int(label)) for b, label in enumerate(examples.targets)]
    told += [(np.array(xs, np.int32), label) for xs, label in task.shown]
    values, lengths = tasks.pad([xs for xs, _ in told])
    labels = np.array([label for _, label in told])
    mask = np.arange(len(values))[:, None] < lengths
    found = answers(classifier, params, tasks.Examples(values, labels, mask, np.ones(len(told), bool)))
    for (xs, label), probs in zip(told, found):
        wrong = "" if probs.argmax() == label else f", but it is {task.classes[label]}"
        print(f"  {task.tell(xs)} → {task.classes[probs.argmax()]} ({probs.max():.3f}){wrong}")
