"""Strips of digits with what a network says of them."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.colours import COLOURS

WIDE, MOST = 38, 3  # letters of a line below a strip, and lines


def captions(images: Sequence[Sequence[Sequence[Any]]], said: Sequence[str], right: Sequence[bool]) -> Any:
    """Draws strips with what the network says below them, wrong captions in another colour.

    Args:
      images: ``[n, height, width]``, or of colours ``[n, height, width, 3]``.
      said: the n captions.
      right: whether each is.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    _, height, width = np.shape(images)[:3]
    rows = -(-len(images) // 2)
    below = [textwrap.fill(caption, WIDE, max_lines=MOST, placeholder=" …") for caption in said]
    lines = max(caption.count("\n") for caption in below)
    figure = Figure(figsize=(6.4, rows * (3.0 * height / width + 0.36 + 0.22 * lines)), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flat
    for axes in panels[len(images) :]:
        axes.axis("off")
    for axes, image, caption, good in zip(panels, images, below, right):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("0.7")
        axes.set_xlabel(
            caption if good else f"{caption} (wrong)", fontsize="small", color="black" if good else COLOURS[1]
        )
    return figure
