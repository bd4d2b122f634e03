"""The one style of all figures."""

from typing import Any

import numpy as np

WIDTH = 6.4  # inches, a text's width
DPI = 110  # of pictures in a notebook
STYLES = ("-", "--", "-.", ":", (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v")


def panels(rows: int = 1, columns: int = 1, *, height: float = 3.0, width: float = WIDTH, **shared: Any) -> tuple:
    """A figure and its panels ``[rows, columns]``, without the frame's upper and right side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def letters(axes: np.ndarray) -> None:
    """a, b, c … at the upper left of the panels."""
    for letter, panel in zip("abcdefghij", axes.flat):
        panel.set_title(letter, loc="left", fontweight="bold", fontsize="medium")


def log_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis where its limits are now: at least two, as plain numbers where those are short."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    if decades < 0.8:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.6 else (1,)))
    axis.set_minor_formatter(NullFormatter())
    if low >= 1e-3 and high <= 1e5:
        axis.set_major_formatter("{x:g}")


def whole_ticks(*panels: Any) -> None:
    """Ticks of x at whole numbers: there is no tick, layer or update between two."""
    from matplotlib.ticker import MaxNLocator

    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def legend(panel: Any, *shown: Any, **options: Any) -> None:
    """A legend without a frame."""
    panel.legend(*shown, **{"frameon": False, "fontsize": "small", **options})
