"""Graphs: a recurrence folded and unrolled, and the five shapes of problem."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import DPI

INPUT, STATE, OUTPUT = COLOURS[0], COLOURS[2], COLOURS[4]


def unrolled(along: Sequence[float], shares: Sequence[float]) -> Any:
    """A recurrence as a loop, and the same unrolled, with the gradients of a loss on its last output.

    Args:
      along: ``[T]``, ‖dL/ds_t‖.
      shares: ``[T]``, ‖∂L/∂θ_t‖, of every tick's copy of the parameters.

    Returns:
      A figure: black arrows forwards, dashed ones backwards.
    """
    ticks = len(along)
    figure, panel = _blank(2.6 + 1.35 * ticks, 2.6, (-3.0, 1.5 * ticks + 0.5), (-1.65, 1.75))
    _tick(panel, -2.0, "x_t", "s_t", "y_t")
    loop = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-2.1", "linewidth": 1.2, "color": "black"}
    panel.annotate("", (-2.26, 0.42), (-2.26, -0.08), arrowprops=loop | {"shrinkA": 0, "shrinkB": 0})
    panel.text(-1.02, 0.17, "=", fontsize="x-large", ha="center", va="center")
    _node(panel, -0.35, 0.17, "s_0", "0.85")
    for t in range(1, ticks + 1):
        place = 1.5 * t - 0.55
        _tick(panel, place, f"x_{t}", f"s_{t}", f"y_{t}")
        _arrow(panel, (-0.05 if t == 1 else place - 1.2, 0.27), (place - 0.3, 0.27))
        if t > 1:
            _arrow(panel, (place - 0.3, 0.05), (place - 1.2, 0.05), COLOURS[1], "--")
            panel.text(place - 0.75, -0.2, f"{along[t - 2]:.2g}", fontsize="small", color=COLOURS[1], ha="center")
        panel.text(place, -1.45, f"{shares[t - 1]:.2g}", fontsize="small", color=COLOURS[1], ha="center")
    end = 1.5 * ticks - 0.55
    _arrow(panel, (end - 0.13, 1.02), (end - 0.13, 0.46), COLOURS[1], "--")
    panel.text(end - 0.2, 0.74, f"{along[-1]:.2g}", fontsize="small", color=COLOURS[1], ha="right", va="center")
    panel.text(end + 0.75, 1.3, "L", fontsize="large", ha="center", va="center", fontstyle="italic")
    _arrow(panel, (end + 0.3, 1.37), (end + 0.62, 1.37))
    _arrow(panel, (end + 0.62, 1.22), (end + 0.3, 1.22), COLOURS[1], "--")
    panel.text(-0.35, -1.45, r"$\|\partial L/\partial\theta_t\|$", fontsize="small", color=COLOURS[1], ha="center")
    panel.text(0.2, -0.2, r"$\|dL/ds_t\|$", fontsize="small", color=COLOURS[1], ha="center")
    return figure


def shapes(problems: Mapping[str, Mapping[str, Sequence[int]]], told: Mapping[str, str]) -> Any:
    """The shapes of problem: which ticks have an input and which an output.

    Args:
      problems: ``name -> {"inputs": ticks, "states": ticks, "outputs": ticks}``.
      told: ``name -> words`` below it.

    Returns:
      A figure, a panel a problem.
    """
    spans = [max(graph["states"]) for graph in problems.values()]
    widths = [max(span + 1.6, 3.3) for span in spans]  # room for the words
    figure, panel = _blank(0.5 * sum(widths), 2.4, (0, sum(widths)), (-1.55, 2.5))
    offset = 0.0
    for (name, graph), width, span in zip(problems.items(), widths, spans):
        middle, first = offset + width / 2, offset + (width - span) / 2
        panel.text(middle, 2.0, name, ha="center", va="bottom", fontsize="medium")
        panel.text(middle, -0.75, told[name], ha="center", va="top", fontsize="small", color="0.3")
        for t in graph["states"]:
            _square(panel, first + t, 0.75, STATE)
            if t + 1 in graph["states"]:
                _arrow(panel, (first + t + 0.24, 0.75), (first + t + 0.76, 0.75))
        for t in graph["inputs"]:
            _square(panel, first + t, 0.0, INPUT)
            _arrow(panel, (first + t, 0.2), (first + t, 0.55))
        for t in graph["outputs"]:
            _square(panel, first + t, 1.5, OUTPUT)
            _arrow(panel, (first + t, 0.95), (first + t, 1.3))
        offset += width
    return figure


def _blank(width: float, height: float, x: tuple[float, float], y: tuple[float, float]) -> tuple[Any, Any]:
    """A figure with nothing in it but the coordinates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set(xlim=x, ylim=y)
    panel.axis("off")
    return figure, panel


def _tick(panel: Any, x: float, read: str, state: str, said: str) -> None:
    """An input below, the step with its parameters, an output above."""
    for y, name, colour in ((-1.0, read, INPUT), (0.17, state, STATE), (1.3, said, OUTPUT)):
        _node(panel, x, y, name, colour)
    _arrow(panel, (x, -0.74), (x, -0.12))
    _arrow(panel, (x, 0.46), (x, 1.02))
    panel.text(x + 0.1, -0.47, r"$\theta$", fontsize="medium", va="center")


def _node(panel: Any, x: float, y: float, name: str, colour: str) -> None:
    box = {"boxstyle": "round,pad=0.28", "facecolor": colour, "edgecolor": "none", "alpha": 0.35}
    panel.text(x, y, f"${name}$", ha="center", va="center", fontsize="large", bbox=box)


def _square(panel: Any, x: float, y: float, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = FancyBboxPatch((x - 0.15, y - 0.12), 0.3, 0.24, boxstyle="round,pad=0.06", facecolor=colour, alpha=0.55)
    shape.set_edgecolor("none")
    panel.add_patch(shape)


def _arrow(
    panel: Any, start: tuple[float, float], end: tuple[float, float], colour: str = "black", style: str = "-"
) -> None:
    look = {"arrowstyle": "-|>", "linewidth": 1.2, "color": colour, "linestyle": style, "shrinkA": 0, "shrinkB": 0}
    panel.annotate("", end, start, arrowprops=look)
