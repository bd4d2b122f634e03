"""Pictures of a run, fit to print: axes with units, and colours that colour-blind readers can tell apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# Okabe and Ito (2008), Color universal design: blue, vermilion, bluish green, reddish purple, orange.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("", "o", "s", "^", "D")


def curves(
    path: Path,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    levels: Mapping[str, float],
    x_label: str,
    y_label: str,
) -> None:
    """Draws quantities against training, and levels to beat as dashed lines.

    Args:
      path: of the picture; its ending decides the format.
      lines: ``name -> (x, y)``; the first is drawn as a plain line, the others with markers.
      levels: ``name -> y`` of baselines.
      x_label: with the unit.
      y_label: with the unit.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, (x, y)), colour, marker in zip(lines.items(), COLOURS, MARKERS):
        axes.plot(x, y, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=name)
    for index, (name, level) in enumerate(levels.items()):
        axes.axhline(level, color="black", linestyle=("--", ":", "-.")[index % 3], linewidth=1.0, label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=200)
