"""The learning curves of several runs that differ in the seed."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import log_ticks
from seqjax.recipes.pictures.style import MARKERS, draw_levels, few_ticks, legend_above, open_frame, wrapped
from seqjax.recipes.running import drawing
from seqjax.recipes.running.options import BadInput
from seqjax.recipes.running.run import Run


def seeds(
    lines: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]],
    levels: Mapping[str, float],
    *,
    x_label: str,
    y_label: str,
    y_scale: str,
) -> Any:
    """Draws the median over runs, and from the lowest to the highest; beside it every run's last value.

    Args:
      lines: ``name -> (x, one y a run)``.
      levels: as in `curves.curves`, and the rest.
      x_label: with the unit.
      y_label: with the unit.
      y_scale: ``"linear"`` or ``"log"``.

    Returns:
      A figure of two panels, each with a scale of its own.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(5, 0.8 + 0.35 * len(lines)))
    ends, count = list[float](), 0
    for place, ((label, (x, each)), colour, marker) in enumerate(zip(lines.items(), COLOURS, MARKERS)):
        y = np.array(each, float)
        count = len(y)
        left.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.25, linewidth=0)
        left.plot(x, np.median(y, 0), color=colour, marker=marker, markersize=3.5, linewidth=1.3, label=label)
        last = y[:, -1]
        ends.extend(last)
        beside = place + 0.12 * (np.arange(count) - (count - 1) / 2)
        right.plot(beside, last, "o", color=colour, markersize=3.5, alpha=0.8, markeredgewidth=0)
        right.plot([place - 0.3, place + 0.3], [np.median(last)] * 2, color=colour, linewidth=1.6)
    draw_levels(left, levels)
    left.set_xlabel(x_label)
    left.set_ylabel(wrapped(y_label))
    left.margins(x=0.01)
    few_ticks(left.xaxis, [value for x, _ in lines.values() for value in x], most=5)
    right.margins(y=0.15)
    right.set_xlim(-0.6, len(lines) - 0.4)
    right.set_xticks([])
    right.set_xlabel("each seed,\nat the end")
    for axes in (left, right):
        axes.set_yscale(y_scale)
    if np.ptp(ends) == 0:  # no scale of its own
        right.set_ylim(left.get_ylim())
    if y_scale == "log":
        log_ticks(left.yaxis)
        log_ticks(right.yaxis)
    open_frame(left, right)
    band = Patch(color="0.8", linewidth=0)
    legend_above(figure, left, most=2, more={f"lowest to highest of {count} seeds, around their median": band})
    return figure


def draw(whole: Run, runs: Sequence[Run]) -> Path:
    """Draws the learning curve that each of the runs has drawn, at the steps that all have come to.

    Args:
      whole: the run of all seeds, in whose folder the figure is.
      runs: alike but for the seed.

    Returns:
      The path.
    """
    told = [learning_curve(run) for run in runs]
    lines = {}
    for label in told[0]["lines"]:
        found = [dict(zip(*one["lines"][label])) for one in told]
        x = sorted(set.intersection(*map(set, found)))
        lines[label] = x, [[values[place] for place in x] for values in found]
    levels = {name: float(np.median([one["levels"][name] for one in told])) for name in told[0]["levels"]}
    axes = {name: told[0][name] for name in ("x_label", "y_label", "y_scale")}
    return drawing.save(whole, "spread", "seeds", lines=lines, levels=levels, **axes)


def learning_curve(run: Run) -> dict[str, Any]:
    """The numbers of a run's learning curve."""
    for path in run.folder.glob("*.json"):
        with contextlib.suppress(BadInput):  # other files
            kind, numbers = drawing.read(path)
            if kind == "learning curve":
                return numbers
    raise FileNotFoundError(2, "the numbers of the learning curve are gone", str(run.folder))
