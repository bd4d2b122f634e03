"""The picture of an automaton beside the states of a network that learned it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.automata import DFA
from seqjax.colours import COLOURS
from seqjax.recipes.pictures.style import open_frame

SHAPES = "osD^vP*X<>"
RADIUS = 0.17
BEND = 0.2  # of arrows
FEW = 8  # states with room in half a page's width
NAMED = 8  # symbols that are all named on one arrow
MOST = 50  # states that can be told apart
SIDES = {-1: "right", 0: "center", 1: "left"}


def numbers(dfa: DFA, points: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What `automaton` shows.

    Args:
      dfa: the automaton.
      points: states of the network, ``[P, h]``.
      labels: the automaton's states after the same strings, ``[P]``.

    Returns:
      Its arguments.
    """
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T if len(axes) > 1 else np.pad(centred, [(0, 0), (0, 1)])
    return {**dfa._asdict(), "points": flat, "labels": labels}


def automaton(
    *, points: Sequence[Sequence[float]], labels: Sequence[int], transition: Sequence, accepting: Sequence, **more: Any
) -> Any:
    """Draws the automaton's graph, and the network's states on their two principal axes.

    Args:
      points: ``[P, 2]``.
      labels: the automaton's states after the same strings, ``[P]``.
      transition: of the automaton.
      accepting: of the automaton.
      **more: of the automaton.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    dfa = DFA(transition=np.array(transition), accepting=np.array(accepting), **more)
    large = FEW < len(dfa.accepting) <= MOST  # a graph with a page's width of its own
    figure = Figure(figsize=(7.2, 9.4) if large else (7.2, 3.4), layout="constrained")
    left, right = figure.subplots(2, 1, height_ratios=(2, 1)) if large else figure.subplots(1, 2)
    graph(left, dfa)
    left.set_title("automaton (double circle: accepts)", fontsize="medium")
    right.set_title("states of the network, one point a string", fontsize="medium")
    for q in range(len(dfa.accepting)):
        chosen = np.array(points)[np.array(labels) == q]
        colour, shape = colours(q)
        right.scatter(*chosen.T, s=16, c=colour, marker=shape, linewidths=0, alpha=0.7, label=f"{q}")
    right.axis("equal")
    right.set_xlabel("first principal component")
    right.set_ylabel("second principal component")
    open_frame(right)
    if len(dfa.accepting) <= MOST:
        right.legend(
            title="automaton's\nstate",
            title_fontsize="small",
            frameon=False,
            fontsize="small",
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            ncols=1 + (len(dfa.accepting) - 1) // 12,
        )
    return figure


def colours(q: int) -> tuple[str, str]:
    """A pair of its own for each of fifty states, and for the first five another shape with every colour."""
    again, colour = divmod(q, len(COLOURS))
    return COLOURS[colour], SHAPES[(colour + again) % len(SHAPES)]


def arc(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Points along an arrow, ``[101, 2]``: a parabola, as matplotlib's arc3 is."""
    t = np.linspace(0, 1, 101)[:, None]
    along = end - start
    return start + t * along + 2 * t * (1 - t) * BEND * np.array([along[1], -along[0]])


def clearest(line: np.ndarray, others: Sequence[np.ndarray], taken: Sequence, places: np.ndarray) -> np.ndarray:
    """The spot for a label on an arrow: in its middle, or where states, other arrows and their labels are farther."""
    middle = line[15:86]
    rest = np.concatenate([places, *others, *map(np.atleast_2d, taken)])
    apart, outside = (np.linalg.norm(middle[:, None] - points, axis=-1).min(1) for points in (rest, places))
    apart = np.minimum.reduce([apart, outside - RADIUS, np.full_like(apart, RADIUS)])
    return middle[np.argmax(apart - 1e-3 * np.abs(np.arange(len(middle)) - len(middle) // 2))]


def graph(axes: Any, dfa: DFA) -> None:
    """The states on a circle, one arrow from state to state, its symbols on it."""
    from matplotlib.patches import Circle, FancyArrowPatch
    from matplotlib.path import Path as BezierPath

    count = len(dfa.accepting)
    axes.axis("off")
    if count > MOST:
        axes.annotate(f"{count:,} states, too many to draw", (0.5, 0.5), xycoords="axes fraction", ha="center")
        return
    size = max(1.0, count * RADIUS * 0.7) * (count > 1)
    angles = np.pi - 2 * np.pi * np.arange(count) / count
    places = size * np.stack([np.cos(angles), np.sin(angles)], -1)
    letters = "small"
    circles = [Circle(place, RADIUS, facecolor="white", edgecolor=colours(q)[0]) for q, place in enumerate(places)]
    for q, (place, circle) in enumerate(zip(places, circles)):
        circle.set_linewidth(1.6)
        axes.add_patch(circle)
        if dfa.accepting[q]:
            axes.add_patch(Circle(place, 0.8 * RADIUS, fill=False, edgecolor=colours(q)[0], linewidth=1.0))
        axes.annotate(str(q), place, ha="center", va="center", fontsize=letters)
    arrow: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "color": "0.25", "linewidth": 0.9}
    names: dict[tuple[int, int], list[str]] = {}
    for q, a in np.ndindex(dfa.transition.shape):
        names.setdefault((q, int(dfa.transition[q, a])), []).append(str(dfa.alphabet[a]))
    arcs = {(q, p): arc(places[q], places[p]) for q, p in names if q != p}
    labels: list[np.ndarray] = []
    for (q, p), symbols in names.items():
        if q == p:
            outwards = angles[q] if size else np.pi / 2
            rays = np.array([[np.cos(a), np.sin(a)] for a in outwards + np.array([0.55, 0.75, 0, -0.75, -0.55])])
            loop = places[q] + RADIUS * np.array([[1.0], [3.2], [2.6], [3.2], [1.1]]) * rays
            curve = BezierPath(loop[[0, 1, 3, 4]], [BezierPath.MOVETO] + [BezierPath.CURVE4] * 3)
            axes.add_patch(FancyArrowPatch(path=curve, **arrow))
            label, side = loop[2], round(float(np.cos(outwards)))
        else:
            ends: dict[str, Any] = {"patchA": circles[q], "patchB": circles[p], "shrinkA": 1, "shrinkB": 1}
            style = f"arc3,rad={BEND}"
            axes.add_patch(FancyArrowPatch(places[q], places[p], connectionstyle=style, **ends, **arrow))
            others = [arcs[pair] for pair in arcs if pair != (q, p)]
            label, side = clearest(arcs[q, p], others, labels, places), 0
            labels.append(label)
        gap = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        named = ",".join(symbols if len(symbols) <= NAMED else [*symbols[:3], "…", symbols[-1]])
        axes.annotate(named, label, ha=SIDES[side], va="center", fontsize=letters, bbox=gap, parse_math=False)
    start = places[dfa.start]
    angle = angles[dfa.start] + 0.3 * np.pi  # beside a loop of the start state, which points outwards
    entry = start + 4.2 * RADIUS * np.array([np.cos(angle), np.sin(angle)])
    axes.add_patch(FancyArrowPatch(entry, start, patchB=circles[dfa.start], shrinkA=0, shrinkB=1, **arrow))
    reach = size + 4.6 * RADIUS
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
