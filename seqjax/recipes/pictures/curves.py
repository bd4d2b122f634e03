"""Quantities against training, or against anything else, and levels to beat."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import log_ticks
from seqjax.recipes.pictures.style import MARKERS, draw_levels, few_ticks, legend_above, open_frame, wrapped
from seqjax.recipes.running import drawing
from seqjax.recipes.running.run import Run

MOST = 20  # markers of a line, about


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    levels: Mapping[str, float],
    *,
    x_label: str,
    y_label: str,
    y_scale: str = "linear",
    x_scale: str = "linear",
    marks: Mapping[str, float] | None = None,
) -> Any:
    """Draws lines, and levels to beat as dashed ones.

    Args:
      lines: ``name -> (x, y)``; the first is drawn as a plain line, the others with markers.
      levels: ``name -> y`` of baselines.
      x_label: with the unit.
      y_label: with the unit.
      y_scale: ``"linear"`` or ``"log"``.
      x_scale: the same for x.
      marks: ``name -> x`` of places to point out by a vertical line.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, (x, y)), colour, marker in zip(lines.items(), COLOURS, MARKERS):
        alone = marker or ("o" if len(x) == 1 else "")  # a line of one point is none
        often = max(1, len(x) // MOST)
        axes.plot(x, y, color=colour, marker=alone, markersize=3.5, markevery=often, linewidth=1.2, label=name)
    draw_levels(axes, levels)
    for name, place in (marks or {}).items():
        axes.axvline(place, color="0.6", linewidth=1.0, label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(wrapped(y_label))
    axes.margins(x=0.01)
    axes.set_yscale(y_scale)
    if y_scale == "log":
        log_ticks(axes.yaxis)
    if x_scale == "log":
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
    else:
        few_ticks(axes.xaxis, [value for x, _ in lines.values() for value in x])
    open_frame(axes)
    legend_above(figure, axes, most=2)
    return figure


def draw(
    run: Run,
    lines: Mapping[str, str],
    *,
    levels: Mapping[str, float],
    y_label: str,
    x_label: str = "updates",
    x_scale: float = 1,
    y_scale: str = "linear",
    name: str = "loss",
) -> Path:
    """The learning curve: numbers of the run's records against its steps.

    Args:
      run: whose records.
      lines: what the legend says, and the record's field.
      levels: baselines by name, as in `curves`.
      y_label: with the unit.
      x_label: with the unit.
      x_scale: units of x in one update.
      y_scale: ``"linear"`` or ``"log"``.
      name: of the figure in the run's folder.

    Returns:
      Its path.
    """
    series = {}
    for label, field in lines.items():
        found = {int(record["step"]): record[field] for record in run.metrics() if field in record}
        series[label] = [step * x_scale for step in found], list(found.values())
    told = {"x_label": x_label, "y_label": y_label, "y_scale": y_scale}
    return drawing.save(run, name, "learning curve", lines=series, levels=levels, **told)
