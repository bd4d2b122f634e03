"""Long-memory tasks: something seen early must be known late, and everything between is noise.

    h_t = cell(h_{t-1}, x_t)      y_t = h_t W + b

Every update draws new sequences, so that nothing can be learned by heart; what counts is how many of them it takes
until the answer is known. The chance level of each task is the best that an answer can do that never looks back.

References:
  Hochreiter and Schmidhuber (1997), Long short-term memory. https://doi.org/10.1162/neco.1997.9.8.1735
  Bai, Kolter and Koltun (2018), An empirical evaluation of generic convolutional and recurrent networks for
  sequence modeling. https://arxiv.org/abs/1803.01271
  Tallec and Ollivier (2018), Can recurrent neural networks warp time? https://arxiv.org/abs/1804.11188
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import Array, PyTree
from seqjax.recipes.memory.questions import TASKS
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import learning
from seqjax.recipes.running.cells import CELLS, BlockName, CellName, block_of, check_block, convolutions
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import bad_input, check_left_out, check_sizes
from seqjax.recipes.running.run import Run
from seqjax.tasks.reber import SYMBOLS as REBER

HELD_BACK, EVALUATIONS = 1000, 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions):
    """Trains a recurrent network to remember, and says after how many sequences it does."""

    task: Literal[
        "adding",
        "signed-adding",
        "copy",
        "selective-copying",
        "recall",
        "latch",
        "temporal-order",
        "reber",
        "parity",
    ] = "adding"
    """adding: values in [0, 1] (Bai et al.); signed-adding: in [-1, 1] (Hochreiter and Schmidhuber); selective-copying:
    16 symbols scattered among blanks; recall: the last of two values given to each of 16 keys."""
    length: int = 0
    """Ticks to remember over; 0 for the task's own: adding 200, recall 128, copy, latch and temporal-order 100,
    selective-copying 32, others 40."""
    cell: CellName | Literal["chrono-lstm", "chrono-gru", "tcn"] = "chrono-lstm"
    """The recurrence. The gates of a chrono one start with memories of all lengths up to that of the sequences; tcn is
    a temporal convolutional network with as many blocks as it takes to see all of a sequence."""
    block: BlockName = "none"
    """What stands around each cell, as in charlm. recall needs the convolution in a block: a key and its value come one
    after the other."""
    layers: int = 1
    """Blocks."""
    hidden_size: int = 64
    """Units, or channels of each convolution."""
    learning_rate: float = 4e-3
    steps: int = 3000

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "hidden_size", "layers")
        if self.length:
            check_sizes(who, self, "length")
        if self.block == "none":
            check_left_out(who, self, "--block none", "layers")
            return
        check_block(who, self)
        if self.cell not in CELLS and self.block != "attention":
            raise ValueError(
                f"{who}: expected a cell of its own with --block {self.block}, got {self.cell}. Name --cell, such as "
                "gru."
            )


@trains
def main(options: Options) -> Course:
    """``python -m seqjax memory``."""
    # Data: drawn anew for every update; the held-back sequences are drawn once, and others twice as long.
    task = TASKS[options.task]
    length = options.length or task.length
    with bad_input("memory"):
        problem = task.make(length)
        held_back = ticks_of(problem.draw(learning.generator(options), HELD_BACK), all_learned=task.all_learned)
        if options.task == "reber":
            held_back = held_back._replace(legal=legal(held_back.batch))
        longer = None if task.longer is None else task.longer(length)
        model = model_of(options, problem, held_back.batch.xs)

    # Model and loss: an answer at every tick, of which those count that the task asks for.
    plain = sj.mean_squared_error if problem.measure == "squared error" else sj.cross_entropy

    def loss(ys: Array, targets: tuple[Array, Array], mask: Array | None) -> sj.Tally:
        return plain(ys, *targets)

    params = model.init(jax.random.key(options.seed))
    start = learning.begin(options, params, model.initial_state(params, (options.batch_size,)))

    # Training
    answer = jax.jit(lambda params, batch: model.apply(params, nothing_read(model, params, batch), batch.xs)[1])

    def evaluate(params: PyTree, ticks: Ticks = held_back) -> dict[str, float]:
        return measures(problem, ticks, np.asarray(answer(params, ticks.batch)))

    folder = Run.start("memory", options, {"ticks": len(held_back.batch.xs)})
    print(
        f"{options.task}, {length} ticks: {problem.measure} of the best blind answer {problem.chance:.4f}\n"
        f"model: {options.cell} of {options.hidden_size} units, {learning.parameter_count(params):,} parameters"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        sj.objective(model, loss),
        lambda step: (
            ticks_of(
                problem.draw(learning.generator(options, step), options.batch_size), all_learned=task.all_learned
            ).batch
        ),
        work=options.batch_size,
        unit="sequences",
        evaluate=evaluate,
        show_evaluation=f"held back: {problem.measure} {{held_back:.5f}} (chance {problem.chance:.4f})",
        evaluations=EVALUATIONS,
        best=(learning.highest if problem.measure == "accuracy" else learning.lowest)("held_back"),
    )

    # What came out
    print()
    shown = ticks_of(problem.draw(np.random.default_rng(options.seed), 5))
    outputs = np.asarray(answer(outcome.params, shown.batch))
    for b in range(5):
        real, asked = np.asarray(shown.batch.mask)[:, b], shown.scored[:, b]
        right, given = shown.batch.targets[0][asked, b], outputs[asked, b]
        given = given if problem.measure == "squared error" else given.argmax(-1)
        print(task.tell(shown.batch.xs[real, b], right, given))
    figures: dict[str, float | None] = dict(outcome.numbers)
    if longer is not None:
        others = ticks_of(longer.draw(learning.generator(options), HELD_BACK))
        numbers = measures(longer, others, np.asarray(answer(outcome.params, others.batch)))
        figures |= {f"{name}, longer": value for name, value in numbers.items()}
        few, most = others.batch.mask.sum(0).min(), len(others.batch.xs)
        span = f"{most}" if few == most else f"{few} to {most}"
        print(
            f"\nof {span} ticks, longer than any in training: {problem.measure} {numbers['held_back']:.5f} "
            f"(chance {longer.chance:.4f})"
        )
    solved, judged = task.solved, "held_back" if held_back.legal is None else "strings"
    enough = (lambda value: value >= solved) if problem.measure == "accuracy" else (lambda value: value < solved)
    reached = [r["step"] for r in folder.metrics() if judged in r and enough(r[judged])]
    when = f"after {reached[0] * options.batch_size:,} sequences" if reached else "never"
    more = {"recalled": "of the symbols to repeat", "strings": "of strings with no symbol above those that may come"}
    told = ("{:.2%}" if problem.measure == "accuracy" else "{:.2e}").format(outcome.numbers["held_back"])
    print(
        f"held back: {problem.measure} {told}"
        + "".join(f", {outcome.numbers[name]:.1%} {words}" for name, words in more.items() if name in outcome.numbers)
        + f" (chance {problem.chance:.4f}); solved ({solved:g}) {when}; "
        f"{outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    picture = curves.draw(
        folder,
        {"held-back sequences": "held_back"},
        levels={"chance": problem.chance},
        x_scale=options.batch_size / 1000,
        x_label="sequences seen (thousands)",
        y_label={"cross-entropy": "cross-entropy (nats/tick)"}.get(problem.measure, problem.measure),
        y_scale="linear" if problem.measure == "accuracy" else "log",
    )
    figures["sequences until solved"] = reached[0] * options.batch_size if reached else None
    learning.conclude(folder, problem.measure, figures, {"chance": problem.chance})
    print(f"run folder {folder.folder}, learning curve {picture}")


def model_of(options: Options, problem: tasks.Problem, xs: np.ndarray) -> sj.Layer:
    """Symbols are embedded, features read as they are; every tick is read out."""
    size = problem.input_size if xs.ndim == 3 else 16
    if options.block != "none":
        block = block_of(options.block, options.cell)
        body = models.deep_blocks(options.hidden_size, block=block, layers=options.layers)
        read = sj.serial(sj.dense(size, options.hidden_size), body)
    elif options.cell == "tcn":
        read = convolutions(size, options.hidden_size, ticks=len(xs))
    else:
        make: Callable[..., sj.Cell] = CELLS[options.cell.removeprefix("chrono-")]
        if options.cell.startswith("chrono-"):
            make = functools.partial(make, b_init=sj.initializers.chrono(len(xs)))
        read = sj.recurrent(make(size, options.hidden_size))
    answer = sj.dense(options.hidden_size, problem.output_size)
    parts = [read, answer] if xs.ndim == 3 else [sj.embedding(problem.input_size, size), read, answer]
    return sj.mixed_precision(sj.serial(*parts), options.products)


def nothing_read(model: sj.Layer, params: PyTree, batch: sj.Batch) -> PyTree:
    """The state before the first tick of a batch."""
    return model.initial_state(params, batch.mask.shape[1:])


class Ticks(NamedTuple):
    """Examples with an answer a tick: targets are ``(answers, whether to learn them)``.

    ``scored [T, B]`` are asked. ``legal [T, B, symbols]`` are those that may come next, where a grammar says so.
    """

    batch: sj.Batch
    scored: np.ndarray
    legal: np.ndarray | None = None


def ticks_of(examples: tasks.Examples, *, all_learned: bool = True) -> Ticks:
    """One answer a sequence becomes one answer a tick that counts at the last real one.

    Where there is an answer a tick, all real ones are learned, or only those that are asked for.
    """
    xs, targets, mask, scored = examples
    learned = mask if all_learned else scored
    if scored.ndim == 1:
        learned = scored = mask & ~np.pad(mask[1:], ((0, 1), (0, 0)))
        targets = np.array(np.broadcast_to(targets, (len(xs), *targets.shape)))
    return Ticks(sj.Batch(xs, (targets, learned), mask), scored)


def legal(batch: sj.Batch) -> np.ndarray:
    """Which symbols the embedded Reber grammar allows next: ``[T, B, symbols]``, all of them behind the end."""
    allowed = np.ones((*batch.xs.shape, len(REBER)), bool)
    for b, mask in enumerate(batch.mask.T):
        for t, symbols in enumerate(tasks.reber_legal("".join(REBER[x] for x in batch.xs[mask, b]))):
            allowed[t, b] = [symbol in symbols for symbol in REBER]
    return allowed


def measures(problem: tasks.Problem, ticks: Ticks, ys: np.ndarray) -> dict[str, float]:
    """The problem's own measure over what is asked for.

    With it, of symbols to repeat, the share ``recalled``; of strings of a grammar, the share of ``strings`` in which at
    every tick those symbols have the highest outputs that may come next: the criterion of 1997.
    """
    strings = {}
    if ticks.legal is not None:
        least, most = (
            np.where(ticks.legal == kind, sign * ys, np.inf).min(-1) * sign for kind, sign in ((True, 1), (False, -1))
        )
        strings = {"strings": float((least > most).all(0).mean())}
    right = ticks.batch.targets[0][ticks.scored]
    ys = ys[ticks.scored].astype(np.float64)
    if problem.measure == "squared error":
        return {"held_back": float(((ys - right) ** 2).mean())}
    hits = ys.argmax(-1) == right
    if problem.measure == "accuracy":
        return {"held_back": float(hits.mean()), **strings}
    log_total = np.log(np.exp(ys - ys.max(-1, keepdims=True)).sum(-1)) + ys.max(-1)
    nats = log_total - np.take_along_axis(ys, right[:, None], -1)[:, 0]
    return {"held_back": float(nats.mean()), "recalled": float(hits[right > 0].mean())}
