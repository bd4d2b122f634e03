"""Figures of an iterated map: its iterates one after the other, and the cobweb by which they are drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.base import Array
from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import MARKERS, STYLES, legend, letters, panels, whole_ticks


def iterates(rate: float, orbits: Mapping[str, Array], cycle: Array) -> Any:
    """The iterates of x ← r x (1 - x) as curves, and the first of them as a cobweb.

    A cobweb goes up to the parabola and across to the diagonal, again and again: across is x ← f(x).

    Args:
      rate: r.
      orbits: ``name -> [T + 1]``, from its beginning.
      cycle: ``[p]``, the values that are taken in the end.

    Returns:
      A figure of two panels.
    """
    figure, axes = panels(1, 2, height=3.1, width=7.0, width_ratios=(1.35, 1))
    curves, web = axes[0]
    for value in cycle:
        curves.axhline(float(value), color="0.8", linewidth=0.8, zorder=0)
    for (name, orbit), colour, style, marker in zip(orbits.items(), COLOURS, STYLES, MARKERS):
        curves.plot(orbit, color=colour, linestyle=style, marker=marker, markersize=3, linewidth=1.0, label=name)
    curves.set(xlabel="iteration t", ylabel="$x_t$", ylim=(0, 1))
    curves.margins(x=0.02)
    whole_ticks(curves)
    legend(curves, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(orbits))

    x = np.linspace(0, 1, 201)
    web.plot(x, x, color="0.5", linewidth=0.8)
    web.plot(x, rate * x * (1 - x), color="black", linewidth=1.2)
    first = np.asarray(next(iter(orbits.values())), float)
    corners = np.repeat(first, 2)
    web.plot(corners[:-1], np.append(0, corners[2:]), color=COLOURS[0], linewidth=0.8)
    web.plot(
        cycle, rate * np.asarray(cycle, float) * (1 - np.asarray(cycle, float)), "o", color=COLOURS[1], markersize=4
    )
    web.set(xlabel="$x_t$", ylabel="$x_{t+1}$", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    letters(axes)
    return figure
