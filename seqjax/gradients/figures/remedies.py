"""The remedies side by side: learning curves, a table, and what can be said of both."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import log_ticks, panels
from seqjax.gradients.lessons.remedies import Trial

SOLVED, HELPED = 0.1, 0.6  # of a blind answer's error
LOST, KEPT = 1e-3, 1e-1  # of the gradient at the last tick


def remedies(trials: Mapping[str, Trial | Sequence[Trial]], chance: float, *, smooth: int = 20) -> Any:
    """The learning curves of all remedies, a panel each, over the first one in grey.

    Args:
      trials: ``name -> Trial``, or one a seed; the untreated network first.
      chance: the error of an answer that never looks.
      smooth: updates averaged into one point.

    Returns:
      A figure: medians over seeds, bands from the lowest to the highest.
    """
    return remedy_curves(*curves(trials, smooth), {name: errors(trial) for name, trial in trials.items()}, chance)


def curves(trials: Mapping[str, Trial | Sequence[Trial]], smooth: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Updates ``[P]`` and the mean loss around each, ``name -> [seeds, P]``."""
    found = {}
    for name, trial in trials.items():
        loss = np.stack([np.asarray(one.loss) for one in _seeds(trial)])
        count = loss.shape[1] // smooth
        found[name] = loss[:, : count * smooth].reshape(len(loss), count, smooth).mean(2)
    return smooth * (np.arange(count) + 0.5), found


def errors(trial: Trial | Sequence[Trial]) -> list[float]:
    """On the test sequences, one a seed."""
    return [float(one.test_error) for one in _seeds(trial)]


def remedy_curves(
    updates: Sequence[float] | np.ndarray,
    losses: Mapping[str, Any],
    errors: Mapping[str, Sequence[float]],
    chance: float,
) -> Any:
    """`remedies`, of smoothed losses ``name -> [seeds, P]`` at the updates ``[P]``."""
    first, *others = losses
    columns = 3
    rows = -(-len(others) // columns)
    figure, axes = panels(rows, columns, height=0.5 + 2.0 * rows, width=7.2, sharex=True, sharey=True)
    losses = {name: np.asarray(loss, float) for name, loss in losses.items()}
    for panel, name in zip(axes.flat, others):
        panel.plot(updates, np.median(losses[first], 0), color="0.6", linewidth=1.0, label=first)
        panel.fill_between(updates, losses[name].min(0), losses[name].max(0), color=COLOURS[0], alpha=0.25, linewidth=0)
        panel.plot(updates, np.median(losses[name], 0), color=COLOURS[0], linewidth=1.4)
        panel.axhline(chance, color="black", linestyle=":", linewidth=0.9, label="chance")
        panel.set_title(f"{name}: {np.median(errors[name]):.4f}", fontsize="small", loc="left")
        panel.set_yscale("log")
    for panel in axes.flat[len(others) :]:
        panel.axis("off")
    lowest = min(np.nanmin(loss) for loss in losses.values())
    ends = max(np.nanmax(loss[:, len(updates) // 2 :]) for loss in losses.values())  # where it begins may be far away
    axes[0, 0].set_ylim(0.7 * lowest, max(6 * chance, 1.2 * ends))
    log_ticks(axes[0, 0].yaxis)
    axes[0, 0].margins(x=0)
    names = axes[0, 0].get_legend_handles_labels()
    figure.legend(*names, loc="outside upper right", ncols=2, frameon=False, fontsize="small")
    figure.supxlabel("updates", fontsize="medium")
    figure.supylabel("squared error", fontsize="medium")
    return figure


def table(trials: Mapping[str, Trial | Sequence[Trial]]) -> str:
    """The remedies as a table in Markdown: error, largest norm, gradient at the first tick before and after learning.

    Args:
      trials: ``name -> Trial``, or one a seed.

    Returns:
      The table; medians over seeds, and the range of the error where there are several.
    """
    lines = [
        "| remedy | test error | largest norm of g | ‖dL/ds₁‖/‖dL/ds_T‖ before | after |",
        "|---|---|---|---|---|",
    ]
    for name, trial in trials.items():
        error = errors(trial)
        spread = f" ({min(error):.4f} to {max(error):.4f})" if len(error) > 1 else ""
        largest = np.median([float(one.gradient_norm.max()) for one in _seeds(trial)])
        before, after = (f"{ratio(trial, which):.1e}" for which in ("first_gradient", "last_gradient"))
        lines.append(f"| {name} | {np.median(error):.4f}{spread} | {largest:.3g} | {before} | {after} |")
    return "\n".join(lines)


def told(trials: Mapping[str, Trial | Sequence[Trial]], chance: float) -> str:
    """What the table says, in sentences made of its numbers.

    Args:
      trials: ``name -> Trial``, or one a seed.
      chance: the error of an answer that never looks.

    Returns:
      Three sentences: who learned, whose gradient came through before learning, and how the two go together.
    """
    error = {name: float(np.median(errors(trial))) / chance for name, trial in trials.items()}
    before = {name: ratio(trial, "first_gradient") for name, trial in trials.items()}
    solved = [name for name in error if error[name] < SOLVED]
    helped = [name for name in error if SOLVED <= error[name] < HELPED]
    blind = [name for name in error if not error[name] < HELPED]
    lost = [name for name in before if before[name] < LOST]
    kept = [name for name in before if before[name] > KEPT]
    learned = lambda names: f"{sum(name not in blind for name in names)} of {len(names)}"
    return (
        f"Below a tenth of a blind answer's error ({chance:.4f}): {_list(solved)}. Below six tenths of it: "
        f"{_list(helped)}. No better than that: {_list(blind)}. Before learning, what arrives at the first tick of the "
        f"gradient at the last is less than a thousandth with {_list(lost)} - of which {learned(lost)} learned "
        f"something - and more than a tenth with {_list(kept)}, of which {learned(kept)} did."
    )


def ratio(trial: Trial | Sequence[Trial], which: str) -> float:
    """‖dL/ds₁‖/‖dL/ds_T‖: mean over sequences, median over seeds."""
    found = [getattr(one, which) for one in _seeds(trial)]
    return float(np.median([float((g[0] / g[-1]).mean()) for g in found]))


def _seeds(trial: Trial | Sequence[Trial]) -> Sequence[Trial]:
    return [trial] if isinstance(trial, Trial) else trial


def _list(names: Sequence[str]) -> str:
    return "; ".join(names) if names else "none"
