"""Strips of digits with what a network says of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.colours import COLOURS


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
    figure = Figure(figsize=(6.4, rows * (3.0 * height / width + 0.36)), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flat
    for axes in panels[len(images) :]:
        axes.axis("off")
    for axes, image, caption, good in zip(panels, images, said, right):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("0.7")
        axes.set_xlabel(
            caption if good else f"{caption} (wrong)", fontsize="small", color="black" if good else COLOURS[1]
        )
    return figure
