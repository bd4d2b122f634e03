"""The learning curves of several configurations over each other, a panel a unit."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import STYLES, log_ticks
from seqjax.recipes.pictures.style import LEVELS, MARKERS, few_ticks, legend_above, open_frame, wrapped


def compared(panels: Sequence[Mapping[str, Any]], *, x_label: str) -> Any:
    """Draws the median over seeds, and from the lowest to the highest: a colour a configuration, dashes by the model.

    Args:
      panels: ``y_label``, ``log`` whether its axis is logarithmic, ``levels`` by name, and ``lines``, each with its
        ``name``, its ``model``, ``x`` and ``y``, a list a seed.
      x_label: with the unit.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lines = [line for panel in panels for line in panel["lines"]]
    names = list(dict.fromkeys(line["name"] for line in lines))
    models = sorted(dict.fromkeys(line["model"] for line in lines), key=bool)  # the run's own first
    floors = dict.fromkeys(name for panel in panels for name in panel["levels"])
    dashes = dict(zip(floors, itertools.cycle(LEVELS)))
    several = max(len(line["y"]) for line in lines)
    of_model: dict[str, Any] = dict(zip(models, itertools.cycle(STYLES)))
    shown = {name: look(i) for i, name in enumerate(names if len(names) > 1 else models)}
    mark = functools.partial(Line2D, [], [], markersize=3.5)
    key: dict[str, Any] = {name or names[0]: mark(color=c, marker=m, linewidth=1.3) for name, (c, m) in shown.items()}
    key |= {name: mark(color="black", linestyle=style, linewidth=1.0) for name, style in dashes.items()}
    if len(names) > 1 and len(models) > 1:
        key |= {name: mark(color="0.4", linestyle=of_model[name]) for name in models if name}
    if several > 1:
        key[f"lowest to highest of {several} seeds"] = Patch(color="0.8", linewidth=0)
    height = 2.8 * len(panels)
    figure = Figure(figsize=(5.0, height), layout="constrained")
    columns = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(columns, panels):
        for line in panel["lines"]:
            colour, marker = shown[line["name"] if len(names) > 1 else line["model"]]
            x, y = line["x"], np.array(line["y"], float)
            style = of_model[line["model"]] if len(names) > 1 else "-"
            dots = {"marker": marker or ("o" if len(x) == 1 else ""), "markersize": 3.5}
            dots["markevery"] = max(1, len(x) // 10)
            axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.2, linewidth=0)
            axes.plot(x, np.median(y, 0), color=colour, linestyle=style, linewidth=1.3, **dots)
        for name, level in panel["levels"].items():
            axes.axhline(level, color="black", linestyle=dashes[name], linewidth=1.0)
        axes.set_ylabel(wrapped(panel["y_label"]))
        axes.margins(x=0.01)
        if panel["log"]:
            axes.set_yscale("log")
            log_ticks(axes.yaxis)
    few_ticks(columns[-1].xaxis, [value for line in lines for value in line["x"]])
    columns[-1].set_xlabel(x_label)
    open_frame(*columns)
    legend = legend_above(figure, columns[0], most=4, more=key)
    figure.set_figheight(height + legend.get_window_extent().height / figure.dpi)
    return figure


def look(place: int) -> tuple[str, str]:
    """A colour and a marker; those of the first five are those of all learning curves."""
    return COLOURS[place % len(COLOURS)], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
