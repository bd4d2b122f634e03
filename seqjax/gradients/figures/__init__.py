"""The figures of the laboratory, fit to print; they need matplotlib.

Every function takes the arrays of an experiment and returns a `matplotlib.figure.Figure`: show it in a notebook, or
``figure.savefig(path)`` it. What `seqjax.gradients.flow` reports is drawn by `flow`, for example; a recipe that watches
its training draws `training`.

In order of reading:

1. `canvas`: panels side by side with letters, one legend, the colours of the package.
2. `time`: what happens along time: `chains`, `products`, `flow`, `distance`, `depth`, `bounded`, `training`.
3. `orbits`: `iterates` of a map as curves and as a cobweb.
4. `planes`: what lies in a plane: `bifurcation`, `basins`, `cliff`, `gates`.
5. `learning`: what was learned: `latch`, `recall`, `norms`, `clipping`, `capacity`, `tagger`, `reset_activity`.
6. `remedies`, the table beside them, and what is `told` of it.
7. `graphs`: a recurrence `unrolled`, and the five `shapes` of problem.
"""

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import legend, letters, panels
from seqjax.gradients.figures.graphs import shapes, unrolled
from seqjax.gradients.figures.learning import capacity, clipping, latch, norms, recall, reset_activity, tagger
from seqjax.gradients.figures.orbits import iterates
from seqjax.gradients.figures.planes import basins, bifurcation, cliff, gates
from seqjax.gradients.figures.remedies import curves, remedies, remedy_curves, table, told
from seqjax.gradients.figures.time import bounded, chains, depth, distance, flow, products, training

__all__ = [
    "COLOURS",
    "basins",
    "bifurcation",
    "bounded",
    "capacity",
    "chains",
    "cliff",
    "clipping",
    "curves",
    "depth",
    "distance",
    "flow",
    "gates",
    "iterates",
    "latch",
    "legend",
    "letters",
    "norms",
    "panels",
    "products",
    "recall",
    "remedies",
    "remedy_curves",
    "reset_activity",
    "shapes",
    "table",
    "tagger",
    "told",
    "training",
    "unrolled",
]
