"""A series and what a network makes of its future: forecasts, and a reservoir on its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import log_ticks
from seqjax.recipes.pictures.style import MARKERS, few_ticks, open_frame

FAR = 1e30  # farther away, and a line cannot be drawn


def forecast(
    past: Sequence[float],
    future: Sequence[float],
    found: Mapping[str, Sequence[float | None]],
    errors: Mapping[str, Sequence[float | None]],
) -> Any:
    """Draws one forecast beside what came, and the errors of all against the distance.

    Args:
      past: what was known.
      future: what came.
      found: ``model -> what it said would come``.
      errors: ``model -> its error at each tick ahead``.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    ahead, shown = np.arange(1, len(future) + 1), min(len(past), max(1, len(future) // 2))
    series = np.array([*past[-shown:], *future])
    left.plot(np.arange(1 - shown, len(future) + 1), series, color="black", linewidth=1.6, label="series")
    styles = list(zip(COLOURS[1:], ("--", ":", "-.")))
    for (name, ys), (colour, style) in zip(found.items(), styles):
        left.plot(ahead, drawable(ys), color=colour, linestyle=style, linewidth=1.3, label=name)
    margin = 0.3 * np.ptp(series) or 1.0
    left.set_ylim(series.min() - margin, series.max() + margin)  # a forecast that runs away leaves the picture
    left.axvline(0.5, color="0.7", linewidth=0.8)
    left.set_ylabel("value (standard deviations)")
    left.legend(frameon=False, fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    for (name, error), (colour, _), marker in zip(errors.items(), styles, MARKERS[1:]):
        dots = {"marker": marker, "markersize": 3.5, "markevery": max(1, len(error) // 10)}
        right.plot(ahead, drawable(error), color=colour, linewidth=1.2, label=name, **dots)
    right.axhline(1, color="black", linestyle="--", linewidth=1.0, label="mean of the series")
    right.set_yscale("log")
    right.set_ylim(top=10)
    log_ticks(right.yaxis)
    right.set_ylabel("error (standard deviations)")
    right.legend(frameon=False, fontsize="small")
    open_frame(left, right)
    for axes in (left, right):
        axes.set_xlabel("ticks ahead")
        axes.margins(x=0.01)
        few_ticks(axes.xaxis, range(len(ahead)))
    return figure


def free_run(truth: Sequence[float], run: Sequence[float | None]) -> Any:
    """Draws the series and a reservoir's run on its own, and how far apart they are.

    Args:
      truth: the series.
      run: of the reservoir, from the same tick.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    series, said = np.array(truth), drawable(run)
    above.plot(series, color="black", linewidth=1.6, label="series")
    above.plot(said, color=COLOURS[1], linewidth=1.2, linestyle="--", label="reservoir on its own")
    margin = 0.25 * np.ptp(series) or 1.0
    above.set_ylim(series.min() - margin, series.max() + margin)  # a run that explodes leaves the picture
    above.set_ylabel("value")
    above.legend(frameon=False, fontsize="small", ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    below.plot(np.abs(said - series), color=COLOURS[0], linewidth=0.9)
    below.axhline(series.std(), color="black", linewidth=1.0, linestyle=":", label="standard deviation of the series")
    below.set_yscale("log")
    below.yaxis.set_major_locator(LogLocator(numticks=6))
    below.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    below.set_ylabel("absolute error")
    below.set_xlabel("ticks since the teacher left")
    open_frame(above, below)
    for axes in (above, below):
        axes.margins(x=0.01)
    few_ticks(below.xaxis, range(len(series)))
    return figure


def drawable(values: Sequence[float | None]) -> np.ndarray:
    """Numbers, with a gap where one is not finite or too far away to be drawn."""
    numbers = np.array(values, float)
    return np.where(np.abs(numbers) < FAR, numbers, np.nan)
