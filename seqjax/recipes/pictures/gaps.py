"""How far a verb hears its noun."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.colours import COLOURS
from seqjax.recipes.pictures.style import MARKERS, few_ticks, legend_above, open_frame


def gaps(
    gaps: Sequence[int], shares: Mapping[str, Sequence[float]], odds: Mapping[str, Sequence[float]], trained: int
) -> Any:
    """Draws accuracy, and the mean odds, against the gap; the gaps of training shaded.

    Args:
      gaps: words between noun and verb.
      shares: ``model -> right verbs at each gap``.
      odds: ``model -> mean ln p(right) / p(wrong)``.
      trained: the longest gap of training.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, values in ((left, shares), (right, odds)):
        axes.axvspan(0, trained, color="0.93", linewidth=0)
        for (name, y), colour, marker in zip(values.items(), COLOURS, MARKERS[1:]):
            axes.plot(gaps, y, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=name)
        axes.set_xlabel("gap (words; shaded: in training)")
        axes.margins(x=0.02)
        few_ticks(axes.xaxis, gaps)
    open_frame(left, right)
    left.axhline(0.5, color="black", linestyle="--", linewidth=1.0, label="chance")
    left.set_ylim(min([0.4, *(share - 0.05 for line in shares.values() for share in line)]), 1.02)
    left.set_ylabel("right verbs (share)")
    right.axhline(0, color="black", linestyle="--", linewidth=1.0)
    right.set_ylabel("mean ln p(right) / p(wrong)")
    legend_above(figure, left, most=5)
    return figure
