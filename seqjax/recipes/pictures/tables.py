"""Tables in shades: what a classifier takes for what, and where a decoder looks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LETTER = 0.085  # inches, of a letter of a word


def confusion(
    tables: Mapping[str, Sequence[Sequence[int]]], names: Sequence[str], *, x_label: str, y_label: str
) -> Any:
    """Draws how often each true class was taken for which, a panel a model.

    Args:
      tables: ``title -> [classes, classes]`` of counts; rows are true classes.
      names: of the classes.
      x_label: of the classes found.
      y_label: of the true classes.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    side, room = max(2.0, 0.27 * len(names)), 0.5 + LETTER * max(map(len, names))
    figure = Figure(figsize=(room + (side + 0.25) * len(tables) + 0.9, room + side + 0.4), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
    for axes, (title, counts) in zip(panels, tables.items()):
        shares = 100 * np.array(counts) / np.maximum(np.sum(counts, 1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 1:
                colour = "white" if share > 60 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize="small", parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize="small", parse_math=False)
        axes.tick_params(length=0)
        axes.set_xlabel(x_label)
        axes.set_title(title, fontsize="medium")
    panels[0].set_ylabel(y_label)
    figure.colorbar(image, ax=panels, label="% of the true class", shrink=0.8)
    return figure


def attention(weights: Sequence[Sequence[float]], read: Sequence[str], written: Sequence[str]) -> Any:
    """Draws where a decoder looks: a row a word written, a column a word read.

    Args:
      weights: ``[written, read]``, rows sum to 1.
      read: the words of the source.
      written: the words of the translation.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    cells = max(0.3 * len(read), 0.6), max(0.3 * len(written), 1.2)
    beside, above = (0.3 + LETTER * max(map(len, words), default=0) for words in (written, read))
    size = beside + cells[0] + 0.7 * above + 0.9, cells[1] + 0.7 * above + 0.3
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(read)), read, rotation=45, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(written)), written, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.9, pad=0.02)
    return figure
