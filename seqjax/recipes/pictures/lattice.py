"""The picture of a lattice: every tag at every word, and the most probable path through them."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax import hmm
from seqjax.colours import COLOURS
from seqjax.recipes.pictures.style import legend_above

WIDEST = 60.0  # inches; a picture has at most 2¹⁶ pixels a side
ALL, RARE = 5, 0.01  # of more tags than ALL, those that are nowhere more probable than RARE are left out


def numbers(model: hmm.HMM, tags: Sequence[str], words: Sequence[str], xs: np.ndarray) -> dict[str, Any]:
    """What `lattice` shows of a sentence.

    Args:
      model: over tags and symbols.
      tags: their names.
      words: of the sentence.
      xs: their symbols ``[T]``.

    Returns:
      Its arguments.
    """
    marginals = np.exp(np.asarray(hmm.posterior(model, xs).log_marginals))
    best = np.asarray(hmm.viterbi(model, xs).states)
    few = len(tags) <= ALL
    shown = np.flatnonzero((marginals.max(0) >= RARE) | np.isin(np.arange(len(tags)), best) | few).tolist()
    pairs = pair_marginals(model, xs)[:, shown][:, :, shown]
    told = {"marginals": marginals[:, shown], "pairs": np.where((pairs >= RARE) | few, pairs, np.nan)}
    return {"words": list(words), "tags": [tags[i] for i in shown], "best": np.searchsorted(shown, best), **told}


def lattice(
    words: Sequence[str],
    tags: Sequence[str],
    best: Sequence[int],
    marginals: Sequence[Sequence[float]],
    pairs: Sequence[Sequence[Sequence[float | None]]],
) -> Any:
    """Draws discs as large as p(tag | words), lines as wide as p(tag, next tag | words), the best path on top.

    Args:
      words: T of them.
      tags: n that are shown.
      best: the most probable path ``[T]``.
      marginals: ``[T, n]``.
      pairs: ``[T-1, n, n]``, None for lines that are left out.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    sizes = np.array(marginals)
    figure = Figure(figsize=(min(1.4 + 1.0 * len(words), WIDEST), 1.1 + 0.48 * len(tags)), layout="constrained")
    axes = figure.add_subplot()
    step: dict[str, Any] = {"color": "0.72", "zorder": 1, "solid_capstyle": "butt"}
    for t, i, j in np.ndindex(max(len(words) - 1, 0), len(tags), len(tags)):
        width = pairs[t][i][j]
        if width is not None:
            axes.plot([t, t + 1], [i, j], linewidth=0.5 + 5 * width, **step)
    axes.plot(best, color=COLOURS[1], linewidth=1.6, linestyle="--", zorder=2)
    ticks, rows = np.indices(sizes.shape)
    axes.scatter(ticks, rows, s=6 + 220 * sizes, color=COLOURS[0], zorder=3, linewidths=0)
    for t, i in np.argwhere(sizes > 0.05):
        axes.annotate(
            f"{sizes[t, i]:.2f}",
            (t, i),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize="x-small",
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
    axes.set_xticks(range(len(words)), words, parse_math=False)
    axes.set_yticks(range(len(tags)), tags, parse_math=False)
    axes.set_xlim(-0.35, len(words) - 0.65)
    axes.set_ylim(len(tags) - 0.6, -0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.plot([], [], "o", color=COLOURS[0], markersize=7, label="p(tag | sentence)")
    axes.plot([], [], linewidth=4, label="p(tag, next tag | sentence)", **step)
    axes.plot([], [], color=COLOURS[1], linewidth=1.6, linestyle="--", label="most probable path")
    legend_above(figure, axes, most=3)
    return figure


def pair_marginals(model: hmm.HMM, xs: np.ndarray) -> np.ndarray:
    """p(z_t = i, z_{t+1} = j | x), ``[T-1, N, N]``: what was before, the step, and what comes after."""
    before = np.asarray(hmm.forward(model, xs).log_filtered)[:-1, :, None]
    after = np.asarray(hmm.backward(model, xs).log_messages + model.evidence(jnp.asarray(xs)))[1:, None, :]
    joint = before + np.asarray(model.log_transition) + after
    weights = np.exp(joint - joint.max((1, 2), keepdims=True))
    return weights / weights.sum((1, 2), keepdims=True)
