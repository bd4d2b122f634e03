"""Figures of what was learned: the latch, norms beyond the training length, capacity, a tagger; and of clipping."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import MARKERS, STYLES, legend, letters, log_ticks, panels
from seqjax.gradients.lessons.latch import wilson
from seqjax.gradients.lessons.norms import Norms
from seqjax.gradients.lessons.recall import Recall


def latch(lengths: Sequence[int], probabilities: Mapping[str, Sequence[float]], runs: int | None = None) -> Any:
    """The share of runs that learned to store a bit against how long they had to.

    Args:
      lengths: T.
      probabilities: ``name -> one number a length``.
      runs: networks behind each number, for error bars that cover 95 % (`seqjax.gradients.lessons.wilson`).

    Returns:
      A figure.
    """
    figure, axes = panels(height=3.2, width=5.6)
    panel = axes[0, 0]
    for index, (name, line) in enumerate(probabilities.items()):
        look = {"color": COLOURS[index], "marker": MARKERS[index], "linestyle": STYLES[index], "markersize": 4.5}
        beside = np.array(lengths) * 1.012 ** (index - (len(probabilities) - 1) / 2)  # so that bars do not overlap
        shares = np.asarray(line, float)
        panel.plot(beside, shares, label=name, clip_on=False, **look)
        if runs is not None:
            ends = np.array([wilson(share, runs) for share in shares]).T
            panel.vlines(beside, *ends, color=COLOURS[index], linewidth=0.9, alpha=0.7)
    panel.set(xlabel="ticks T the bit must be kept", ylabel="runs that learn it (fraction)", ylim=(0, 1), xscale="log")
    panel.set_xticks(lengths, [str(length) for length in lengths])
    panel.minorticks_off()
    legend(panel, loc="lower center", bbox_to_anchor=(0.5, 1.03), ncols=len(probabilities))
    return figure


def clipping(
    thresholds: Sequence[float],
    mean: float,
    sizes: Mapping[str, Sequence[float]],
    cosines: Mapping[str, Sequence[float]],
    rates: Mapping[str, Sequence[float]],
) -> Any:
    """The mean of clipped gradients against the clipped mean gradient, against the threshold.

    Args:
      thresholds: η ``[K]``.
      mean: the norm of the mean gradient.
      sizes: ``name -> [K]``, the norm of the mean of clipped gradients.
      cosines: ``name -> [K]``, between that mean and the mean gradient.
      rates: ``name -> [K]``, the share that is clipped.

    Returns:
      A figure of three panels.
    """
    figure, axes = panels(1, 3, height=3.1, width=8.6, sharex=True)
    axes[0, 0].plot(thresholds, np.minimum(thresholds, mean), color="black", linewidth=1.0, label="clipped mean")
    for name, colour, style in zip(sizes, COLOURS, STYLES[1:]):
        axes[0, 0].plot(thresholds, sizes[name], color=colour, linestyle=style, label=name)
        axes[0, 1].plot(thresholds, cosines[name], color=colour, linestyle=style)
        axes[0, 2].plot(thresholds, rates[name], color=colour, linestyle=style)
    axes[0, 0].set(xscale="log", yscale="log", ylabel="norm of the mean")
    axes[0, 1].axhline(1, color="black", linewidth=1.0)
    axes[0, 1].set(ylabel="cosine with the mean", ylim=(min(0, *map(min, cosines.values())), 1.03))
    axes[0, 2].set(ylabel="clipped (share)", ylim=(0, 1.03))
    for panel in axes[0]:
        panel.set_xlabel(r"threshold $\eta$")
        panel.margins(x=0)
    letters(axes)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), frameon=False, fontsize="small", ncols=4, loc="outside upper center"
    )
    return figure


def recall(problems: Mapping[str, Mapping[str, tuple[Recall, int]]]) -> Any:
    """The training loss of several methods against what it cost, a panel a problem.

    Args:
      problems: ``problem -> method -> (Recall, gradients an update)``.

    Returns:
      A figure.
    """
    figure, axes = panels(1, len(problems), height=2.9, width=1.0 + 2.8 * len(problems))
    for panel, (problem, methods) in zip(axes[0], problems.items()):
        for (name, (run, cost)), colour, style in zip(methods.items(), COLOURS, STYLES):
            loss = np.asarray(run.loss)
            panel.plot(cost * np.arange(len(loss)), loss, color=colour, linestyle=style, label=name)
        panel.set(yscale="log", xlabel="gradients and products")
        panel.set_title(problem, fontsize="medium")
        panel.margins(x=0)
    axes[0, 0].set_ylabel("training loss")
    if len(problems) > 1:
        letters(axes)
    legend(axes[0, 0])
    return figure


def norms(runs: Mapping[str, Norms], trained: int) -> Any:
    """‖h_t‖ and the loss against t, far beyond the training length.

    Args:
      runs: ``name -> Norms``.
      trained: ticks of the sequences in training.

    Returns:
      A figure of two panels; lines are means over examples, bands the middle eight tenths.
    """
    figure, axes = panels(1, 2, height=3.0)
    for (name, run), colour, style in zip(runs.items(), COLOURS, STYLES):
        norm = np.asarray(run.norm)
        ticks = np.arange(1, len(norm) + 1)
        low, high = np.quantile(norm, (0.1, 0.9), axis=1)
        axes[0, 0].fill_between(ticks, low, high, color=colour, alpha=0.2, linewidth=0)
        axes[0, 0].plot(ticks, norm.mean(1), color=colour, linestyle=style, label=name)
        block = max(1, len(norm) // 50)
        count = len(norm) // block
        nats = np.asarray(run.loss).mean(1)[: count * block].reshape(count, block).mean(1)
        axes[0, 1].plot(block * (np.arange(count) + 0.5), nats, color=colour, linestyle=style)
    for panel, label in zip(axes[0], (r"norm of the state $\|h_t\|$", "cross-entropy (nats/symbol)")):
        panel.axvspan(0, trained, color="0.88", linewidth=0)
        panel.set(xlabel="tick t", ylabel=label, xlim=(0, None))
        panel.margins(x=0)
    axes[0, 0].set_yscale("log")
    letters(axes)
    legend(axes[0, 0])
    return figure


def capacity(
    counts: Mapping[str, Sequence[float]],
    bits: Mapping[str, Sequence[Sequence[float]]],
    parameters: Mapping[str, Sequence[int]],
    best: Mapping[str, Sequence[Sequence[float]]],
) -> Any:
    """How many random bits networks learn by heart: against how many they are shown, and against their parameters.

    Args:
      counts: ``name -> [N]``, bits shown to the largest networks.
      bits: ``name -> [seeds, N]``, bits learned of them.
      parameters: ``name -> [P]``, of each size of network.
      best: ``name -> [seeds, P]``, most bits learned by each size.

    Returns:
      A figure of two panels: medians over seeds, bars from the least to the most.
    """
    figure, axes = panels(1, 2, height=3.1, width=7.0)
    for panel, xs, ys in ((axes[0, 0], counts, bits), (axes[0, 1], parameters, best)):
        for name, colour, marker, style in zip(xs, COLOURS, MARKERS, STYLES):
            found = np.asarray(ys[name], float)
            panel.vlines(xs[name], found.min(0), found.max(0), color=colour, linewidth=0.9)
            panel.plot(xs[name], np.median(found, 0), color=colour, marker=marker, linestyle=style, label=name)
        panel.set(ylim=(0, None), xlim=(0, 1.05 * max(map(max, xs.values()))))
    end = max(max(line) for line in counts.values())
    axes[0, 0].plot((0, end), (0, end), color="0.5", linewidth=0.8, zorder=0, label="all of them")
    axes[0, 0].set(
        xlabel="bits shown", ylabel="bits learned", ylim=(0, 1.15 * max(np.max(line) for line in bits.values()))
    )
    axes[0, 1].set(xlabel="parameters", ylabel="most bits learned")
    letters(axes)
    names = axes[0, 0].get_legend_handles_labels()
    figure.legend(*names, loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    return figure


def tagger(
    words: Sequence[str],
    tags: Sequence[str],
    beliefs: Mapping[str, Sequence[Sequence[float]]],
    updates: Sequence[int],
    confidence: Sequence[float],
    exact: float,
) -> Any:
    """What taggers believe of a sentence, and how the confidence of a learned one comes to the exact filter's.

    Args:
      words: T of them.
      tags: N names.
      beliefs: ``tagger -> [T, N]``.
      updates: ``[K]``.
      confidence: ``[K]``, mean probability of the likeliest tag after so many updates.
      exact: that of the exact filter.

    Returns:
      A figure, a panel a tagger and one for learning.
    """
    figure, axes = panels(1, len(beliefs) + 1, height=2.9, width=2.3 * len(beliefs) + 3.0)
    for panel, (name, table) in zip(axes[0], beliefs.items()):
        for tag, (line, colour) in enumerate(zip(np.asarray(table, float).T, COLOURS)):
            panel.bar(np.arange(len(words)) + 0.26 * (tag - 1), line, 0.24, color=colour, label=tags[tag])
        panel.set_xticks(range(len(words)), words, rotation=45)
        panel.set(ylim=(0, 1.02))
        panel.set_title(name, fontsize="medium")
    axes[0, 0].set_ylabel("probability of the tag")
    learned = axes[0, -1]
    learned.plot(updates, confidence, color=COLOURS[3], label="network")
    learned.axhline(exact, color="black", linestyle="--", linewidth=1.0, label="exact filter")
    learned.set(xlabel="updates", ylabel="mean confidence", ylim=(0, 1.02))
    learned.margins(x=0)
    legend(learned, loc="lower right")
    names = axes[0, 0].get_legend_handles_labels()
    figure.legend(*names, frameon=False, fontsize="small", ncols=len(tags), loc="outside upper center")
    return figure


def reset_activity(lengths: Sequence[float], activity: Sequence[float], correlation: float) -> Any:
    """How much the reset gate of a unit shuts out against how long its update gate keeps.

    Args:
      lengths: of each unit's memory, in ticks.
      activity: mean of 1 - r.
      correlation: of the ranks of both.

    Returns:
      A figure.
    """
    figure, axes = panels(height=3.1, width=4.6)
    panel = axes[0, 0]
    panel.plot(lengths, activity, "o", color=COLOURS[0], markersize=4, alpha=0.7)
    panel.set(xscale="log", xlabel="memory of the unit (ticks)", ylabel="reset activity, mean 1 - r", ylim=(0, 1))
    panel.set_title(f"rank correlation {correlation:+.2f}, {len(lengths)} units", fontsize="medium")
    log_ticks(panel.xaxis)
    return figure
