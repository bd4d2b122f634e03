"""What a run of `memory` is asked: a sequence as one types it, tick by tick."""

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.recipes.memory import Options, model_of
from seqjax.recipes.memory.questions import TASKS
from seqjax.recipes.running import learning
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply, numbers
from seqjax.recipes.running.run import Run
from seqjax.tasks.reber import SYMBOLS as REBER


def to_ask(run: Run) -> Asked:
    """Sequences; the answer is that of the last tick, or of every tick where each has one."""
    options = run.options(Options)
    task = TASKS[options.task]
    problem = task.make(options.length or task.length)
    drawn = problem.draw(learning.generator(options), 1)
    most = run.config["facts"]["ticks"]
    model = model_of(options, problem, np.broadcast_to(drawn.xs[:1], (most, *drawn.xs.shape[1:])))
    params = model.init(jax.random.key(options.seed))
    trained = learning.trained(run, learning.begin(options, params, model.initial_state(params, (options.batch_size,))))
    features = drawn.xs.shape[2] if drawn.xs.ndim == 3 else 1

    def reply(question: str) -> Reply:
        letters = question.strip()
        if options.task == "reber" and letters and set(letters) <= set(REBER):
            xs = np.array([REBER.index(letter) for letter in letters], np.int32)
        else:
            xs = numbers(letters, features)
            if drawn.xs.ndim == 2:
                xs = whole(xs[:, 0], problem.input_size)
        _, ys = model.apply(trained, model.initial_state(trained), jnp.asarray(xs))
        answers = np.asarray(ys if drawn.scored.ndim == 2 else ys[-1:])
        note = f"longer than the {most} ticks it has learned from" if len(xs) > most else ""
        if problem.measure == "squared error":
            return Reply(" ".join(f"{answer[0]:.3f}" for answer in answers), note=note)
        found = answers.argmax(-1)
        if options.task == "reber":
            return Reply("".join(REBER[answer] for answer in found), note=note)
        return Reply(" ".join(map(str, found)), note=note)

    shown = drawn.xs[:3, 0].round(2)
    if options.task == "reber":
        return Asked("the beginning of a string of the embedded Reber grammar", "BTBTX", reply)
    if drawn.xs.ndim == 2:
        return Asked(f"whole numbers below {problem.input_size}, a tick each", " ".join(map(str, shown)), reply)
    example = "; ".join(" ".join(f"{value:g}" for value in tick) for tick in shown)
    return Asked(f"ticks of {features} numbers, apart by semicolons", example, reply)


def whole(values: np.ndarray, below: int) -> np.ndarray:
    """Numbers as symbols."""
    symbols = values.astype(np.int32)
    if (symbols != values).any() or (symbols < 0).any() or (symbols >= below).any():
        raise NoQuestion(f"with something else than whole numbers from 0 to {below - 1}")
    return symbols
