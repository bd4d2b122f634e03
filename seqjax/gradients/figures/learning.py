"""Figures of what was learned: the latch, the remedies, norms beyond the training length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import MARKERS, STYLES, legend, letters, log_ticks, panels
from seqjax.gradients.lessons.norms import Norms
from seqjax.gradients.lessons.recall import Recall
from seqjax.gradients.lessons.remedies import Trial


def latch(lengths: Sequence[int], probabilities: Mapping[str, Sequence[float]]) -> Any:
    """The share of runs that learned to store a bit against how long they had to.

    Args:
      lengths: T.
      probabilities: ``name -> one number a length``.

    Returns:
      A figure.
    """
    figure, axes = panels(height=3.0, width=5.2)
    panel = axes[0, 0]
    for (name, line), colour, marker, style in zip(probabilities.items(), COLOURS, MARKERS, STYLES):
        panel.plot(lengths, line, color=colour, marker=marker, linestyle=style, markersize=5, label=name, clip_on=False)
    panel.set(xlabel="ticks T the bit must be kept", ylabel="runs that learn it (fraction)", ylim=(0, 1), xscale="log")
    panel.set_xticks(lengths, [str(length) for length in lengths])
    panel.minorticks_off()
    legend(panel, loc="lower center", bbox_to_anchor=(0.5, 1.03), ncols=len(probabilities))
    return figure


def remedies(trials: Mapping[str, Trial], chance: float, *, smooth: int = 20) -> Any:
    """The learning curves of all remedies, a panel each, over the first one in grey.

    Args:
      trials: ``name -> Trial``, the untreated network first.
      chance: the error of an answer that never looks.
      smooth: updates averaged into one point.

    Returns:
      A figure.
    """
    first, *others = trials
    columns = 3
    rows = -(-len(others) // columns)
    figure, axes = panels(rows, columns, height=0.5 + 2.0 * rows, width=7.2, sharex=True, sharey=True)

    def curve(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
        loss = np.asarray(trial.loss)
        count = len(loss) // smooth
        return smooth * (np.arange(count) + 0.5), loss[: count * smooth].reshape(count, smooth).mean(1)

    for panel, name in zip(axes.flat, others):
        panel.plot(*curve(trials[first]), color="0.6", linewidth=1.0, label=first)
        panel.plot(*curve(trials[name]), color=COLOURS[0], linewidth=1.4)
        panel.axhline(chance, color="black", linestyle=":", linewidth=0.9, label="chance")
        panel.set_title(f"{name}: {float(trials[name].test_error):.4f}", fontsize="small", loc="left")
        panel.set_yscale("log")
    for panel in axes.flat[len(others) :]:
        panel.axis("off")
    lowest = min(curve(trial)[1].min() for trial in trials.values())
    axes[0, 0].set_ylim(0.7 * lowest, 6 * chance)
    log_ticks(axes[0, 0].yaxis)
    axes[0, 0].margins(x=0)
    legend(axes[0, 0], loc="upper right", ncols=2)
    figure.supxlabel("updates", fontsize="medium")
    figure.supylabel("squared error", fontsize="medium")
    return figure


def recall(problems: Mapping[str, Mapping[str, tuple[Recall, int]]]) -> Any:
    """The training loss of several methods against what it cost, a panel a problem.

    Args:
      problems: ``problem -> method -> (Recall, gradients an update)``.

    Returns:
      A figure.
    """
    figure, axes = panels(1, len(problems), height=2.9, width=1.0 + 2.8 * len(problems))
    for panel, (problem, methods) in zip(axes[0], problems.items()):
        for (name, (run, cost)), colour, style in zip(methods.items(), COLOURS, STYLES):
            loss = np.asarray(run.loss)
            panel.plot(cost * np.arange(len(loss)), loss, color=colour, linestyle=style, label=name)
        panel.set(yscale="log", xlabel="gradients and products")
        panel.set_title(problem, fontsize="medium")
        panel.margins(x=0)
    axes[0, 0].set_ylabel("training loss")
    if len(problems) > 1:
        letters(axes)
    legend(axes[0, 0])
    return figure


def norms(runs: Mapping[str, Norms], trained: int) -> Any:
    """‖h_t‖ and the loss against t, far beyond the training length.

    Args:
      runs: ``name -> Norms``.
      trained: ticks of the sequences in training.

    Returns:
      A figure of two panels; lines are means over examples, bands the middle eight tenths.
    """
    figure, axes = panels(1, 2, height=3.0)
    for (name, run), colour, style in zip(runs.items(), COLOURS, STYLES):
        norm = np.asarray(run.norm)
        ticks = np.arange(1, len(norm) + 1)
        low, high = np.quantile(norm, (0.1, 0.9), axis=1)
        axes[0, 0].fill_between(ticks, low, high, color=colour, alpha=0.2, linewidth=0)
        axes[0, 0].plot(ticks, norm.mean(1), color=colour, linestyle=style, label=name)
        block = max(1, len(norm) // 50)
        count = len(norm) // block
        nats = np.asarray(run.loss).mean(1)[: count * block].reshape(count, block).mean(1)
        axes[0, 1].plot(block * (np.arange(count) + 0.5), nats, color=colour, linestyle=style)
    for panel, label in zip(axes[0], (r"norm of the state $\|h_t\|$", "cross-entropy (nats/symbol)")):
        panel.axvspan(0, trained, color="0.88", linewidth=0)
        panel.set(xlabel="tick t", ylabel=label, xlim=(0, None))
        panel.margins(x=0)
    axes[0, 0].set_yscale("log")
    letters(axes)
    legend(axes[0, 0])
    return figure


def table(trials: Mapping[str, Trial]) -> str:
    """The remedies as a table in Markdown: error, clip rate, gradient at the first tick before and after learning.

    Args:
      trials: ``name -> Trial``.

    Returns:
      The table.
    """
    lines = [
        "| remedy | test error | largest norm of g | ‖dL/ds₁‖/‖dL/ds_T‖ before | after |",
        "|---|---|---|---|---|",
    ]
    for name, trial in trials.items():
        ratios = [float((g[0] / g[-1]).mean()) for g in (trial.first_gradient, trial.last_gradient)]
        largest = float(trial.gradient_norm.max())
        lines.append(f"| {name} | {float(trial.test_error):.4f} | {largest:.3g} | {ratios[0]:.1e} | {ratios[1]:.1e} |")
    return "\n".join(lines)
