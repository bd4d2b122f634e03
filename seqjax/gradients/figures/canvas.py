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


def legend(panel: Any, **options: Any) -> None:
    """A legend without a frame."""
    panel.legend(**{"frameon": False, "fontsize": "small", **options})
