"""What the figures share: marks, levels to beat, ticks, a legend that hides nothing."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

MARKERS = ("", "o", "s", "^", "D")
LEVELS = ("--", ":", "-.")
WIDE = 12  # letters of a legend to an inch, beside the line they name


def open_frame(*panels: Any) -> None:
    """No upper and no right side."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)


def draw_levels(axes: Any, levels: Mapping[str, float]) -> None:
    """Baselines, as black lines that differ in their dashes."""
    for index, (name, level) in enumerate(levels.items()):
        axes.axhline(level, color="black", linestyle=LEVELS[index % len(LEVELS)], linewidth=1.0, label=name)


def few_ticks(axis: Any, values: Sequence[float], most: int = 6) -> None:
    """Ticks of a linear axis: at whole numbers if all its values are, and few enough not to touch each other."""
    from matplotlib.ticker import MaxNLocator

    whole = all(float(value).is_integer() for value in values)
    axis.set_major_locator(MaxNLocator(most, integer=whole, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]))


def wrapped(label: str, most: int = 34) -> str:
    r"""A label in lines that are no longer than an axis of two and a half inches.

    >>> wrapped("wrong symbols, held back (share of those said)")
    'wrong symbols, held back\n(share of those said)'
    """
    quantity, bracket, unit = label.partition(" (")
    lines = [*textwrap.wrap(quantity, most), *([f"({unit}"] if bracket else [])]
    return label if len(label) <= most else "\n".join(lines)


def legend_above(figure: Any, axes: Any, *, most: int, more: Mapping[str, Any] | None = None) -> Any:
    """A legend of what is in a panel, and more, above all panels, in as many columns as there is room for.

    Names that are wider than the figure are broken into lines.
    """
    handles, names = axes.get_legend_handles_labels()
    handles, names = [*handles, *(more or {}).values()], [*names, *(more or {})]
    broken = [textwrap.fill(name, int(WIDE * figure.get_figwidth())) for name in names]
    counts = [(columns, names) for columns in range(min(len(names), most), 0, -1)]
    for columns, shown in [*counts, (1, broken)]:
        legend = figure.legend(
            handles, shown, frameon=False, fontsize="small", ncols=columns, loc="outside upper center"
        )
        if shown is broken or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            break
        legend.remove()
    return legend
