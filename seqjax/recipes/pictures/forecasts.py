"""Forecasts beside what came, and their errors against the distance."""

from pathlib import Path

import numpy as np

from seqjax.colours import COLOURS
from seqjax.recipes.pictures.curves import MARKERS


def draw(
    path: Path, past: np.ndarray, future: np.ndarray, found: dict[str, np.ndarray], errors: dict[str, np.ndarray]
) -> None:
    """One forecast of the first value beside what came, and the errors against the distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    ahead, shown = np.arange(1, len(future) + 1), min(len(past), max(1, len(future) // 2))
    series = np.concatenate([past[-shown:, 0, 0], future[:, 0, 0]])
    left.plot(np.arange(1 - shown, len(future) + 1), series, color="black", linewidth=1.6, label="series")
    styles = list(zip(COLOURS[1:], ("--", ":", "-.")))
    for (name, ys), (colour, style) in list(zip(found.items(), styles))[:2]:
        left.plot(ahead, ys[:, 0, 0], color=colour, linestyle=style, linewidth=1.3, label=name)
    margin = 0.3 * np.ptp(series) or 1.0
    left.set_ylim(series.min() - margin, series.max() + margin)  # a forecast that runs away leaves the picture
    left.axvline(0.5, color="0.7", linewidth=0.8)
    left.set_xlabel("ticks ahead")
    left.set_ylabel("value (standard deviations)")
    left.legend(frameon=False, fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    for (name, error), (colour, _), marker in zip(errors.items(), styles, MARKERS[1:]):
        every = max(1, len(error) // 10)
        right.plot(
            ahead, error, color=colour, marker=marker, markersize=3.5, markevery=every, linewidth=1.2, label=name
        )
    right.axhline(1, color="black", linestyle="--", linewidth=1.0, label="mean of the series")
    right.set_yscale("log")
    right.set_ylim(top=10)
    right.set_xlabel("ticks ahead")
    right.set_ylabel("error (standard deviations)")
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    figure.savefig(path, dpi=200)
