"""Where the gradient goes while a model learns: ``gradients.jsonl`` and its figure in the folder of its run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

import seqjax as sj
from seqjax.base import Array, PyTree
from seqjax.gradients import flow
from seqjax.recipes.running import drawing, files
from seqjax.recipes.running.learning import Training
from seqjax.recipes.running.processes import on_one
from seqjax.recipes.running.run import Run

NAME = "gradients.jsonl"
SEQUENCES = 8  # of each batch: their mean is steady enough, and the rest would cost eight times as much


def watcher(
    run: Run, cells: Sequence[sj.Cell], above: sj.Layer, every: int
) -> Callable[[Training, sj.Batch, int], None]:
    """A function for `learning.learn` that follows the gradient through the first update and every so many.

    Looked at are the first sequences of the update's own batch, with its state, without dropout. The loss of a
    sequence is its mean cross-entropy; the layers' states count as one vector. A line of ``gradients.jsonl``:

    - ``step``: the update;
    - ``loss_gradient``: ‖dL/ds_t‖₂ at each tick of the window, mean over sequences;
    - ``log_stretch``: ln of how far ds_T/ds_t stretches a random direction, mean over sequences;
    - ``memory_length``: ticks until that has fallen to 1/e, mean over sequences;
    - ``saturation``: the fraction of ``"σ near 0"``, ``"σ near 1"``, ``"tanh near ±1"`` over units, ticks, sequences.

    Args:
      run: whose folder.
      cells: the recurrences, the first reads symbols; parameters and state of the whole model are those of
        ``serial(recurrent(cell), dropout, …, recurrent(cell), dropout, above)``.
      above: from the last recurrence to logits, with empty state.
      every: updates from record to record.

    Returns:
      ``(state before the update, its batch, its number from 1) -> None``.
    """
    cell = sj.stack(*cells)

    @jax.jit
    def look(params: PyTree, memory: PyTree, symbols: Array, targets: Array) -> sj.gradients.Flow:
        def loss(ys: Array) -> Array:
            return sj.cross_entropy(above.apply(params[-1], (), ys)[1], targets).sum / len(symbols)

        return flow(cell, params[:-2:2], memory[:-2:2], symbols, loss)

    def watch(state: Training, batch: sj.Batch, step: int) -> None:
        if step > 1 and step % every:
            return
        memory = jax.tree.map(lambda leaf: leaf[:SEQUENCES], on_one(state.memory))
        report = look(on_one(state.train.params), memory, batch.xs[:, :SEQUENCES], batch.targets[:, :SEQUENCES])
        numbers = summarise(jax.device_get(report))
        # A network that has diverged is stopped by the loop itself.
        if np.isfinite(numbers["loss_gradient"]).all():
            record(run, {"step": step, **numbers})

    return watch


def summarise(report: sj.gradients.Flow) -> dict:
    """Means over sequences, as plain numbers for a line of JSON."""
    ends: dict[str, list[float]] = {"σ near 0": [], "σ near 1": [], "tanh near ±1": []}
    for name, gate in report.saturation.items():
        if name.endswith("tanh"):
            ends["tanh near ±1"].append(float(np.mean(gate.low + gate.high)))
        else:
            ends["σ near 0"].append(float(np.mean(gate.low)))
            ends["σ near 1"].append(float(np.mean(gate.high)))
    return {
        "loss_gradient": np.mean(report.loss_gradient, 1).tolist(),
        "log_stretch": np.mean(report.log_stretch, 1).tolist(),
        "memory_length": float(np.mean(report.memory_length)),
        "saturation": {name: float(np.mean(values)) for name, values in ends.items() if values},
    }


def record(run: Run, line: dict) -> None:
    """Adds a line; those of this and later steps, from a run that was stopped behind its checkpoint, are dropped."""
    kept = [earlier for earlier in records(run) if earlier["step"] < line["step"]]
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in [*kept, line])
    files.replace(run.folder / NAME, text)


def records(run: Run) -> list[dict]:
    """Every line so far."""
    return run.records(NAME)


def draw(run: Run) -> Path:
    """The figure of the records of the run."""
    lines = records(run)
    column = lambda name: np.array([line[name] for line in lines])
    saturation = {name: [line["saturation"][name] for line in lines] for name in lines[0]["saturation"]}
    return drawing.save(
        run,
        "gradients",
        "gradients",
        steps=column("step"),
        gradient=column("loss_gradient"),
        stretch=column("log_stretch"),
        memory=column("memory_length"),
        saturation=saturation,
    )
