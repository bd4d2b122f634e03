"""Figures of what becomes of a gradient over ticks, distance or depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.base import Array
from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import STYLES, legend, letters, log_ticks, panels, whole_ticks
from seqjax.gradients.flow import Flow
from seqjax.gradients.lessons.chains import RandomProducts


def chains(factors: Mapping[str, Array]) -> Any:
    """The size of dh_t/dh_0 of linear chains against t, on a logarithmic scale.

    Args:
      factors: ``name -> [T + 1]``, as of `seqjax.gradients.scalar_chain`, or norms of matrices.

    Returns:
      A figure.
    """
    figure, axes = panels(height=3.0, width=5.0)
    panel = axes[0, 0]
    for (name, factor), colour, style in zip(factors.items(), COLOURS, STYLES):
        panel.plot(np.abs(factor), color=colour, linestyle=style, linewidth=1.6)
        panel.annotate(f" {name}", (len(factor) - 1, abs(float(factor[-1]))), color=colour, va="center")
    panel.set(yscale="log", xlabel="ticks t", ylabel=r"$\|dh_t / dh_0\|$", xlim=(0, None))
    panel.margins(x=0)
    whole_ticks(panel)
    return figure


def products(lengths: Sequence[int], found: Mapping[float, Sequence[RandomProducts]]) -> Any:
    """Products of random factors against their number: what is expected, and what happens.

    Args:
      lengths: T of every product.
      found: ``scale -> one RandomProducts a length``.

    Returns:
      A figure of two panels with one scale: the root of the second moment, and the median.
    """
    figure, axes = panels(1, 2, height=3.0, sharey=True)
    for (scale, row), colour, style in zip(found.items(), COLOURS, STYLES):
        theory = [float(p.expected_second_moment) ** 0.5 for p in row]
        axes[0, 0].plot(lengths, theory, color=colour, linestyle=style, label=f"s = {scale:g}")
        axes[0, 0].plot(lengths, [float(p.second_moment) ** 0.5 for p in row], "o", color=colour, markersize=3.5)
        axes[0, 1].plot(lengths, np.exp(np.array(lengths) * _mean_log(scale)), color=colour, linestyle=style)
        axes[0, 1].plot(lengths, [float(p.typical) for p in row], "o", color=colour, markersize=3.5)
    axes[0, 0].set(yscale="log", xlabel="factors T", ylabel=r"size of the product $|\prod w_t|$")
    axes[0, 1].set(xlabel="factors T")
    letters(axes)
    axes[0, 0].set_title("root mean square", fontsize="medium")
    axes[0, 1].set_title("median", fontsize="medium")
    legend(axes[0, 0])
    return figure


def distance(norms: Mapping[str, Array]) -> Any:
    """What each tick gives to the weights' gradient, against its distance from the loss.

    Args:
      norms: ``name -> [T, B]``, as of `seqjax.gradients.weight_gradient_norms` for a loss after the last tick.

    Returns:
      A figure: the median over examples as a line, the middle eight tenths as a band.
    """
    figure, axes = panels(height=3.2, width=5.4)
    panel = axes[0, 0]
    for (name, norm), colour, style in zip(norms.items(), COLOURS, STYLES):
        low, middle, high = np.quantile(np.asarray(norm, float)[::-1], (0.1, 0.5, 0.9), axis=1)
        panel.fill_between(range(len(middle)), low, high, color=colour, alpha=0.2, linewidth=0)
        panel.plot(middle, color=colour, linestyle=style, label=name)
    panel.set(yscale="log", xlabel="distance T - t (ticks)", ylabel=r"$\|\partial L / \partial \theta_t\|$")
    panel.margins(x=0)
    whole_ticks(panel)
    legend(panel)
    return figure


def flow(reports: Mapping[str, Flow]) -> Any:
    """Where the gradient goes, of several networks: its norm, and the stretch of the run to the end.

    Args:
      reports: ``name -> Flow`` with one batch axis.

    Returns:
      A figure of two panels against the distance from the end.
    """
    figure, axes = panels(1, 2, height=3.2)
    for (name, report), colour, style in zip(reports.items(), COLOURS, STYLES):
        for panel, values in zip(axes[0], (report.loss_gradient, np.exp(report.log_stretch))):
            low, middle, high = np.quantile(np.asarray(values, float)[::-1], (0.1, 0.5, 0.9), axis=1)
            panel.fill_between(range(len(middle)), low, high, color=colour, alpha=0.2, linewidth=0)
            panel.plot(middle, color=colour, linestyle=style, label=name)
    axes[0, 1].axhline(np.exp(-1), color="0.5", linewidth=0.8)
    axes[0, 1].annotate(" 1/e", (1, np.exp(-1)), xycoords=("axes fraction", "data"), va="center", color="0.3")
    for panel, label in zip(axes[0], (r"$\|dL / ds_t\|$", r"stretch $\|ds_T / ds_t\|_F / \sqrt{n}$")):
        panel.set(yscale="log", xlabel="distance T - t (ticks)", ylabel=label)
        panel.margins(x=0)
    whole_ticks(*axes[0])
    letters(axes)
    legend(axes[0, 0])
    return figure


def depth(stretches: Mapping[str, Array]) -> Any:
    """The singular values of dx_l/dx_0 against depth, a panel a network.

    Args:
      stretches: ``name -> [L, n]`` of logarithms, as of `seqjax.gradients.depth_stretch`.

    Returns:
      A figure: largest, middle and smallest singular value as lines, all of them between as a band.
    """
    figure, axes = panels(1, len(stretches), height=3.0, sharey=True)
    for panel, (name, logs), colour in zip(axes[0], stretches.items(), COLOURS):
        tens = np.asarray(logs, float) / np.log(10)
        layers = np.arange(1, len(tens) + 1)
        panel.fill_between(layers, tens[:, 0], tens[:, -1], color=colour, alpha=0.2, linewidth=0)
        shown = {"largest": tens[:, 0], "middle": np.median(tens, 1), "smallest": tens[:, -1]}
        for (which, line), style in zip(shown.items(), ("-", "--", ":")):
            panel.plot(layers, line, color=colour, linestyle=style, label=which)
        panel.axhline(0, color="0.5", linewidth=0.8)
        panel.set_title(name, fontsize="medium")
        panel.set(xlabel="layer l")
        panel.margins(x=0)
    whole_ticks(*axes[0])
    legend(axes[0, -1], loc="lower left")
    axes[0, 0].set_ylabel(r"$\log_{10}$ singular values of $dx_l / dx_0$")
    return figure


def bounded(bound: float, norms: Mapping[str, Array], logs: Mapping[str, Array]) -> Any:
    """The norm of a state against its bound, and the size of its derivative, which has none.

    Args:
      bound: of the norm, √n.
      norms: ``name -> [T + 1]``, ‖h_t‖.
      logs: ``name -> [T + 1]``, ln ‖dh_t/dh_0‖.

    Returns:
      A figure of two panels.
    """
    figure, axes = panels(1, 2, height=3.0)
    for name, colour, style in zip(norms, COLOURS, STYLES):
        axes[0, 0].plot(norms[name], color=colour, linestyle=style, label=name)
        axes[0, 1].plot(np.asarray(logs[name], float) / np.log(10), color=colour, linestyle=style)
    axes[0, 0].axhline(bound, color="0.5", linewidth=0.8)
    axes[0, 0].annotate(r"$\sqrt{n}$", (0.98, bound), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes[0, 0].set(xlabel="ticks t", ylabel=r"$\|h_t\|$", ylim=(0, 1.2 * bound))
    axes[0, 1].axhline(0, color="0.5", linewidth=0.8)
    axes[0, 1].set(xlabel="ticks t", ylabel=r"$\log_{10} \|dh_t / dh_0\|$")
    for panel in axes[0]:
        panel.margins(x=0)
    whole_ticks(*axes[0])
    letters(axes)
    legend(axes[0, 1], *axes[0, 0].get_legend_handles_labels(), loc="best")
    return figure


def training(
    steps: Sequence[int], gradient: np.ndarray, stretch: np.ndarray, memory: np.ndarray, saturation: Mapping[str, Any]
) -> Any:
    """Where the gradient went while a network learned.

    Args:
      steps: the S updates that were watched.
      gradient: ``[S, T]``, ‖dL/ds_t‖, mean over examples.
      stretch: ``[S, T]``, natural logarithms.
      memory: ``[S]``, effective memory in ticks.
      saturation: ``gate -> [S]``, the fraction of saturated units.

    Returns:
      A figure of four panels.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    figure, axes = panels(2, 2, height=5.2, width=7.2)
    colours, norm = colormaps["viridis_r"], Normalize(min(steps), max(max(steps), min(steps) + 1))
    for step, g, s in zip(steps, gradient, stretch):
        axes[0, 0].plot(g[::-1], color=colours(float(norm(step))), linewidth=1.0)
        axes[0, 1].plot(np.exp(s[::-1]), color=colours(float(norm(step))), linewidth=1.0)
    axes[0, 1].axhline(np.exp(-1), color="0.5", linewidth=0.8)
    axes[0, 1].annotate(" 1/e", (1, np.exp(-1)), xycoords=("axes fraction", "data"), va="center", color="0.3")
    for panel, label in zip(axes[0], (r"$\|dL / ds_t\|$", r"stretch $\|ds_T / ds_t\|_F / \sqrt{n}$")):
        panel.set(xlabel="ticks from the window's end", ylabel=label)
        panel.margins(x=0)
    axes[0, 0].set_ylim(0, None)
    axes[0, 1].set_yscale("log")
    log_ticks(axes[0, 1].yaxis)
    bar = figure.colorbar(
        ScalarMappable(norm, colours), ax=axes[0], location="top", shrink=0.6, aspect=40, label="update"
    )
    bar.locator = MaxNLocator(5, integer=True)
    marker = "o" if len(steps) < 30 else ""
    axes[1, 0].plot(steps, memory, color=COLOURS[0], marker=marker, markersize=3.5)
    axes[1, 0].set(xlabel="update", ylabel="effective memory (ticks)", ylim=(0, None))
    for (name, fraction), colour, style in zip(saturation.items(), COLOURS, STYLES):
        axes[1, 1].plot(steps, fraction, color=colour, linestyle=style, label=name)
    axes[1, 1].set(xlabel="update", ylabel="saturated units (fraction)", ylim=(0, None))
    for panel in axes[1]:
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[1, 1].set_ylim(0, 1.25 * max(axes[1, 1].get_ylim()[1], 0.04))  # room for the legend
    legend(axes[1, 1], loc="upper center", ncols=3, columnspacing=1, handlelength=1.6)
    letters(axes)
    return figure


def _mean_log(scale: float) -> float:
    """E ln |w| of w ~ N(0, s²): ln s - (γ + ln 2) / 2."""
    return np.log(scale) - (np.euler_gamma + np.log(2)) / 2
