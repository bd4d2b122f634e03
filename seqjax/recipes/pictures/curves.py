"""Pictures of a run, fit to print: axes with units, and colours that colour-blind readers can tell apart."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqjax.colours import COLOURS
from seqjax.recipes.running.run import Run

MARKERS = ("", "o", "s", "^", "D")


def curves(
    path: Path,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    levels: Mapping[str, float],
    x_label: str,
    y_label: str,
    y_scale: str = "linear",
    x_scale: str = "linear",
    marks: Mapping[str, float] | None = None,
) -> None:
    """Draws quantities against training, and levels to beat as dashed lines.

    Args:
      path: of the picture; its ending decides the format.
      lines: ``name -> (x, y)``; the first is drawn as a plain line, the others with markers.
      levels: ``name -> y`` of baselines.
      x_label: with the unit.
      y_label: with the unit.
      y_scale: ``"linear"`` or ``"log"``.
      x_scale: the same for x.
      marks: ``name -> x`` of places to point out by a vertical line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, (x, y)), colour, marker in zip(lines.items(), COLOURS, MARKERS):
        axes.plot(x, y, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=name)
    for index, (name, level) in enumerate(levels.items()):
        axes.axhline(level, color="black", linestyle=("--", ":", "-.")[index % 3], linewidth=1.0, label=name)
    for name, place in (marks or {}).items():
        axes.axvline(place, color="0.6", linewidth=1.0, label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if x_scale == "log":
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yscale(y_scale)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    names = axes.get_legend_handles_labels()
    figure.legend(*names, frameon=False, fontsize="small", ncols=2, loc="outside upper center")  # hides no line
    figure.savefig(path, dpi=200)


def draw(
    run: Run,
    lines: Mapping[str, str],
    *,
    levels: Mapping[str, float],
    y_label: str,
    x_label: str = "updates",
    x_scale: float = 1,
    y_scale: str = "linear",
    name: str = "loss.png",
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
      name: of the picture in the run's folder.

    Returns:
      Its path. ``curve.json`` beside it says what it shows, for pictures of several runs.
    """
    series = {}
    for label, field in lines.items():
        found = values_of(run, field)
        series[label] = [step * x_scale for step in found], list(found.values())
    path = run.folder / name
    told: dict[str, Any] = {"x_label": x_label, "y_label": y_label, "y_scale": y_scale}
    curves(path, series, levels=levels, **told)
    described = {"lines": lines, "levels": levels, "x_scale": x_scale, **told}
    (run.folder / "curve.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def values_of(run: Run, field: str) -> dict[int, float]:
    """A number of the run's records by step."""
    return {int(record["step"]): record[field] for record in run.metrics() if field in record}


def over_seeds(path: Path, runs: Sequence[Run]) -> Path:
    """Draws the learning curve that each of several runs has drawn: its median, and from the lowest to the highest.

    Beside it, on a scale of its own, is every run's last value. Shown are the steps that all runs have come to.

    Args:
      path: of the picture; its ending decides the format.
      runs: alike but for the seed, each with the ``curve.json`` of `draw`.

    Returns:
      The path.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    told = [json.loads((run.folder / "curve.json").read_text("utf-8")) for run in runs]
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    lines, ends = list(told[0]["lines"].items()), list[float]()
    left, right = figure.subplots(1, 2, width_ratios=(5, 0.8 + 0.35 * len(lines)))
    for place, ((label, field), colour, marker) in enumerate(zip(lines, COLOURS, MARKERS)):
        found = [values_of(run, field) for run in runs]
        steps = sorted(set.intersection(*map(set, found)))
        x = [step * told[0]["x_scale"] for step in steps]
        y = np.array([[values[step] for step in steps] for values in found])
        left.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.25, linewidth=0)
        left.plot(x, np.median(y, 0), color=colour, marker=marker, markersize=3.5, linewidth=1.3, label=label)
        last = y[:, -1]
        ends.extend(last)
        beside = place + 0.12 * (np.arange(len(last)) - (len(last) - 1) / 2)
        right.plot(beside, last, "o", color=colour, markersize=3.5, alpha=0.8, markeredgewidth=0)
        right.plot([place - 0.3, place + 0.3], [np.median(last)] * 2, color=colour, linewidth=1.6)
    for index, name in enumerate(told[0]["levels"]):
        level, style = np.median([one["levels"][name] for one in told]), ("--", ":", "-.")[index % 3]
        left.axhline(level, color="black", linestyle=style, linewidth=1.0, label=name)
    left.set_xlabel(told[0]["x_label"])
    left.set_ylabel(told[0]["y_label"])
    left.margins(x=0.01)
    right.margins(y=0.15)
    if np.ptp(ends) == 0:  # no scale of its own
        right.set_ylim(left.get_ylim())
    right.set_xlim(-0.6, len(lines) - 0.4)
    right.set_xticks([])
    right.set_xlabel("each seed,\nat the end")
    for axes in (left, right):
        axes.set_yscale(told[0]["y_scale"])
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = left.get_legend_handles_labels()
    handles.append(Patch(color="0.8", linewidth=0))
    names.append(f"lowest to highest of {len(runs)} seeds, around their median")
    figure.legend(handles, names, frameon=False, fontsize="small", ncols=2, loc="outside upper center")
    figure.savefig(path, dpi=200)
    return path


def confusion(
    path: Path, tables: Mapping[str, np.ndarray], names: Sequence[str], *, x_label: str, y_label: str
) -> None:
    """Draws how often each true class was taken for which, a panel a model.

    Args:
      path: of the picture.
      tables: ``title -> [classes, classes]`` of counts; rows are true classes.
      names: of the classes.
      x_label: of the classes found.
      y_label: of the true classes.
    """
    from matplotlib.figure import Figure

    size = 1.3 + 0.27 * len(names)
    figure = Figure(figsize=(0.9 + size * len(tables), size + 0.4), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
    for axes, (title, counts) in zip(panels, tables.items()):
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.01:
                colour = "white" if share > 0.6 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize="small", parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize="small", parse_math=False)
        axes.tick_params(length=0)
        axes.set_xlabel(x_label)
        axes.set_title(title, fontsize="medium")
    panels[0].set_ylabel(y_label)
    figure.colorbar(image, ax=panels, label="share of the true class", shrink=0.8)
    figure.savefig(path, dpi=200)


def attention(path: Path, weights: np.ndarray, read: Sequence[str], written: Sequence[str]) -> None:
    """Draws where a decoder looks: a row a word written, a column a word read.

    Args:
      path: of the picture.
      weights: ``[written, read]``, rows sum to 1.
      read: the words of the source.
      written: the words of the translation.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.9 + 0.3 * len(read), 1.2 + 0.3 * len(written)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(read)), read, rotation=45, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(written)), written, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.7)
    figure.savefig(path, dpi=200)
