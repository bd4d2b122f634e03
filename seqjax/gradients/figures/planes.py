"""Figures over two coordinates: bifurcations, basins, the cliff, gates over a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax import checks
from seqjax.base import Array
from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import DPI, WIDTH, legend, letters, panels
from seqjax.gradients.lessons.cliff import Point
from seqjax.gradients.lessons.maps import Attractors, Basins


def bifurcation(rates: Array, orbit: Array, exponents: Array) -> Any:
    """The attractor of a map against its parameter, and its Lyapunov exponent below.

    Args:
      rates: ``[R]``.
      orbit: ``[keep, R]``, as of `seqjax.gradients.bifurcation`.
      exponents: ``[R]``, in nats an iteration.

    Returns:
      A figure.
    """
    figure, axes = panels(2, 1, height=4.6, sharex=True, height_ratios=(2, 1))
    places = np.broadcast_to(rates, np.shape(orbit))
    axes[0, 0].scatter(places, orbit, s=0.3, color=COLOURS[0], linewidths=0, alpha=0.5, rasterized=True)
    axes[0, 0].set(ylabel="$x$ on the attractor", ylim=(0, 1))
    found = np.asarray(exponents, float)
    above = found > 0
    axes[1, 0].axhline(0, color="0.5", linewidth=0.8)
    axes[1, 0].plot(rates, np.where(above, np.nan, found), color=COLOURS[0], linewidth=0.9, label="forgets")
    axes[1, 0].plot(rates, np.where(above, found, np.nan), color=COLOURS[1], linewidth=0.9, label="chaos")
    axes[1, 0].set(xlabel="$r$", ylabel="exponent (nats)", ylim=(-2, 1), xlim=(float(rates[0]), float(rates[-1])))
    legend(axes[1, 0], loc="lower left", ncols=2)
    letters(axes)
    return figure


def basins(
    first: Array, second: Array, found: Mapping[int, Basins], ends: Attractors, path: Array | None = None
) -> Any:
    """The basins of a network of two units, and how much the end of a run moves with its beginning.

    Args:
      first: ``[M]``, the first unit's values along the grid.
      second: ``[N]``, the second unit's.
      found: ``T -> Basins`` of states ``[N, M, 2]``.
      ends: the attractors of the longest run.
      path: ``[t, 2]`` or ``[t, runs, 2]``, runs to draw over the basins.

    Returns:
      A figure: basins with their attractors, then ln ‖ds_T/ds_0‖ for every T.
    """
    from matplotlib.colors import ListedColormap

    figure, axes = panels(1, 1 + len(found), height=2.9, width=2.45 * (1 + len(found)) + 0.6, sharey=True)
    box = {"extent": (first[0], first[-1], second[0], second[-1]), "origin": "lower", "aspect": "equal"}
    pale = ListedColormap([_pale(colour) for colour in COLOURS])
    basin = axes[0, 0]
    basin.imshow(np.minimum(ends.index, len(COLOURS) - 1), cmap=pale, vmin=0, vmax=len(COLOURS) - 1, **box)
    if path is not None:
        runs = np.reshape(path, (len(path), -1, 2))
        for run in runs.transpose(1, 0, 2):
            basin.plot(*run.T, color="0.25", linewidth=0.7, marker=".", markersize=2)
    counts = np.bincount(ends.index.ravel())
    for point, colour in zip(ends.points[counts >= 0.01 * counts.sum()], COLOURS):
        basin.plot(*point, "o", color=colour, markeredgecolor="black", markersize=8, clip_on=False, zorder=3)
    basin.set_title("basins and attractors", fontsize="medium")
    basin.set(xlabel="unit 1", ylabel="unit 2", xlim=box["extent"][:2], ylim=box["extent"][2:])
    for panel in axes[0]:
        panel.locator_params(nbins=3)
    for panel, (length, report) in zip(axes[0, 1:], found.items()):
        tens = np.asarray(report.log_gradient) / np.log(10)
        limit = np.abs(tens).max()
        image = panel.imshow(tens, cmap="PuOr_r", vmin=-limit, vmax=limit, **box)
        panel.set_title(rf"$\log_{{10}} \|ds_{{{length}}} / ds_0\|$", fontsize="medium")
        panel.set(xlabel="unit 1")
        figure.colorbar(image, ax=panel, shrink=0.75, pad=0.03)
    return figure


def cliff(grid: Point, losses: Array, paths: Mapping[str, tuple[Point, Array]]) -> Any:
    """The loss over recurrent weight and bias as a surface, and paths of gradient descent on its map.

    Args:
      grid: w and b ``[N, M]``, as of ``meshgrid``. It may be bent: a wall looks best where a line of the grid runs
        along it.
      losses: ``[N, M]``, as of `seqjax.gradients.cliff_loss`.
      paths: ``name -> (Point of [S], losses [S])``, as of `seqjax.gradients.cliff_descent`.

    Returns:
      A figure. Where a path leaves the map, an arrow shows the way it went.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH + 1.2, 3.4), dpi=DPI, layout="constrained")
    surface = figure.add_subplot(1, 2, 1, projection="3d")
    plane = figure.add_subplot(1, 2, 2)
    ws, bs = map(np.asarray, grid)
    heights = np.asarray(losses)
    surface.plot_surface(ws, bs, heights, cmap="cividis", rcount=200, ccount=200, linewidth=0, antialiased=False)
    surface.view_init(elev=35, azim=15)
    surface.set(xlabel="$w$", ylabel="$b$")
    surface.set_title("loss", fontsize="medium", y=0.96)
    surface.set_box_aspect((1, 1, 0.7), zoom=0.88)
    surface.locator_params(nbins=3)
    surface.tick_params(labelsize="small")
    image = plane.contourf(ws, bs, heights, levels=24, cmap="cividis")
    figure.colorbar(image, ax=plane, label="loss")
    left, right, low, high = (float(f(v)) for v in (ws, bs) for f in (np.min, np.max))
    for (name, (path, _)), colour, marker in zip(paths.items(), (COLOURS[1], "white"), ("s", "o")):
        x, y = map(np.asarray, path)
        inside = (left <= x) & (x <= right) & (low <= y) & (y <= high)
        leaves = len(x) if inside.all() else int(np.argmin(inside))
        plane.plot(x[:leaves], y[:leaves], color=colour, marker=marker, markersize=3, linewidth=1.0, label=name)
        if leaves < len(x):
            step = np.array([x[leaves] - x[leaves - 1], y[leaves] - y[leaves - 1]])
            start = np.array([x[leaves - 1], y[leaves - 1]])
            span = np.array([right - left, high - low])
            reach = 0.3 * step / np.abs(step / span).max()
            plane.annotate(
                "",
                tuple(start + reach),
                tuple(start),
                arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6},
            )
    plane.set(xlabel="recurrent weight $w$", ylabel="bias $b$", xlim=(left, right), ylim=(low, high))
    box = plane.legend(fontsize="small", facecolor="0.35", edgecolor="none", framealpha=0.9)
    for text in box.get_texts():
        text.set_color("white")
    return figure


def gates(values: Mapping[str, Array], symbols: Sequence[str], units: Mapping[str, Sequence[int]] | None = None) -> Any:
    """Gates over a sentence, a row a unit and a column a symbol; the symbols stand under the last gate.

    Args:
      values: ``gate -> [T, h]``, between 0 and 1, or between -1 and 1 where any is below 0.
      symbols: T of them.
      units: ``gate -> units`` to show, from top to bottom; all where the gate is missing.

    Returns:
      A figure.

    Raises:
      ValueError: a gate of another number of ticks than symbols.
    """
    for name, value in values.items():
        checks.shapes("gates", f"{name!r}", np.shape(value)[:1], "the symbols", (len(symbols),))
    chosen = {name: list((units or {}).get(name, range(np.shape(value)[1]))) for name, value in values.items()}
    turn = 45 if max(map(len, symbols)) > 2 else 0
    heights = [max(1.0, 0.125 * len(rows)) for rows in chosen.values()]
    width = max(WIDTH, 0.14 * len(symbols) + 1.4)
    figure, axes = panels(
        len(values),
        1,
        height=sum(heights) + 0.6 + 0.25 * len(values),
        width=width,
        height_ratios=heights,
        sharex=True,
    )
    for panel, (name, value), rows in zip(axes[:, 0], values.items(), chosen.values()):
        shown = np.asarray(value)[:, rows].T
        signed = int(shown.min() < 0)
        image = panel.imshow(
            shown, aspect="auto", interpolation="nearest", cmap="PuOr_r" if signed else "cividis", vmin=-signed, vmax=1
        )
        panel.set_xticks(range(len(symbols)), symbols, fontsize="small", rotation=turn)
        panel.set_yticks(range(len(rows)), [str(row) for row in rows], fontsize=7)
        panel.set(ylabel="unit")
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set_title(name, fontsize="medium", loc="left")
        figure.colorbar(image, ax=panel, pad=0.01)
    return figure


def _pale(colour: str) -> tuple[float, ...]:
    """A colour mixed with white."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return tuple(0.45 * part + 0.55 for part in parts)
