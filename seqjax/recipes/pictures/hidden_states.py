"""What the states of a hidden Markov model stand for: where each goes, and what it emits."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def hidden_states(
    transition: Sequence[Sequence[float]], emission: Sequence[Sequence[float]], symbols: Sequence[str]
) -> Any:
    """Draws both tables in shades, a row a state.

    Args:
      transition: ``[N, N]``, p(next state | state).
      emission: ``[N, V]``, p(symbol | state).
      symbols: their V names.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    states, rows = [str(i + 1) for i in range(len(transition))], np.arange(len(transition))
    wide = max(0.3 * len(states), 0.9), max(0.19 * len(symbols), 1.5)
    figure = Figure(figsize=(sum(wide) + 2.2, 0.3 * len(states) + 1.1), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, width_ratios=wide)
    for axes, shares, names, label in zip(
        panels, (transition, emission), (states, symbols), ("next state", "symbol that it emits")
    ):
        image = axes.imshow(shares, cmap="Blues", vmin=0, aspect="auto")
        axes.set_xticks(range(len(names)), names, parse_math=False)
        axes.set_yticks(rows, states)
        axes.tick_params(length=0)
        axes.set_xlabel(label)
        figure.colorbar(image, ax=axes, label="probability", shrink=0.9, pad=0.03)
    panels[0].set_ylabel("state")
    return figure
