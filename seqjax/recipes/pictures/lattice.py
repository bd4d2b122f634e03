"""The picture of a lattice: every tag at every word, and the most probable path through them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax import hmm
from seqjax.colours import COLOURS

WIDEST = 60.0  # inches; a picture has at most 2¹⁶ pixels a side
ROOMY = 4  # words beside each other that leave room for a legend of one line
ALL, RARE = 5, 0.01  # of more tags than ALL, those that are nowhere more probable than RARE are left out


def draw(path: Path, model: hmm.HMM, tags: Sequence[str], words: Sequence[str], xs: np.ndarray) -> None:
    """Draws discs as large as p(tag | words), lines as wide as p(tag, next tag | words), the best path on top.

    Args:
      path: of the picture.
      model: over tags and symbols.
      tags: their names.
      words: of the sentence.
      xs: their symbols ``[T]``.
    """
    from matplotlib.figure import Figure

    marginals = np.exp(np.asarray(hmm.posterior(model, xs).log_marginals))
    best = np.asarray(hmm.viterbi(model, xs).states)
    few = len(tags) <= ALL
    shown: list[int] = np.flatnonzero((marginals.max(0) >= RARE) | np.isin(np.arange(len(tags)), best) | few).tolist()
    row = {tag: i for i, tag in enumerate(shown)}
    figure = Figure(figsize=(min(1.4 + 1.0 * len(words), WIDEST), 1.1 + 0.48 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    step: dict[str, Any] = {"color": "0.72", "zorder": 1, "solid_capstyle": "butt"}
    for t, pairs in enumerate(pair_marginals(model, xs)):
        for i in shown:
            for j in shown:
                if few or pairs[i, j] >= RARE:
                    axes.plot([t, t + 1], [row[i], row[j]], linewidth=0.5 + 5 * pairs[i, j], **step)
    on_path = [row[int(tag)] for tag in best]
    axes.plot(on_path, color=COLOURS[1], linewidth=1.6, linestyle="--", zorder=2)
    ticks, rows = np.indices((len(words), len(shown)))
    axes.scatter(ticks, rows, s=6 + 220 * marginals[:, shown], color=COLOURS[0], zorder=3, linewidths=0)
    for t, i in np.argwhere(marginals[:, shown] > 0.05):
        axes.annotate(
            f"{marginals[t, shown[i]]:.2f}",
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
    axes.set_yticks(range(len(shown)), [tags[i] for i in shown], parse_math=False)
    axes.set_xlim(-0.35, len(words) - 0.65)
    axes.set_ylim(len(shown) - 0.6, -0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.plot([], [], "o", color=COLOURS[0], markersize=7, label="p(tag | sentence)")
    axes.plot([], [], linewidth=4, label="p(tag, next tag | sentence)", **step)
    axes.plot([], [], color=COLOURS[1], linewidth=1.6, linestyle="--", label="most probable path")
    names = axes.get_legend_handles_labels()
    columns = 3 if len(words) >= ROOMY else 1
    figure.legend(*names, frameon=False, fontsize="x-small", ncols=columns, loc="outside upper center")
    figure.savefig(path, dpi=200)


def pair_marginals(model: hmm.HMM, xs: np.ndarray) -> np.ndarray:
    """p(z_t = i, z_{t+1} = j | x), ``[T-1, N, N]``: what was before, the step, and what comes after."""
    before = np.asarray(hmm.forward(model, xs).log_filtered)[:-1, :, None]
    after = np.asarray(hmm.backward(model, xs).log_messages + model.evidence(jnp.asarray(xs)))[1:, None, :]
    joint = before + np.asarray(model.log_transition) + after
    weights = np.exp(joint - joint.max((1, 2), keepdims=True))
    return weights / weights.sum((1, 2), keepdims=True)
