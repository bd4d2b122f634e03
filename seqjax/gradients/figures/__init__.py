"""The figures of the laboratory, fit to print; they need matplotlib.

Every function takes the arrays of an experiment and returns a `matplotlib.figure.Figure`: show it in a notebook, or
``figure.savefig(path)`` it. What `seqjax.gradients.flow` reports is drawn by `flow`, for example; a recipe that watches
its training draws `training`.

In order of reading:

1. `canvas`: panels side by side with letters, one legend, the colours of the package.
2. `time`: what happens along time: `chains`, `products`, `flow`, `distance`, `depth`, `training`.
3. `planes`: what lies in a plane: `bifurcation`, `basins`, `cliff`, `gates`.
4. `learning`: what was learned: `latch`, `recall`, `norms`, `remedies` and the table beside them.
"""

from seqjax.colours import COLOURS
from seqjax.gradients.figures.canvas import legend, letters, panels
from seqjax.gradients.figures.learning import latch, norms, recall, remedies, table
from seqjax.gradients.figures.planes import basins, bifurcation, cliff, gates
from seqjax.gradients.figures.time import chains, depth, distance, flow, products, training

__all__ = [
    "COLOURS",
    "basins",
    "bifurcation",
    "chains",
    "cliff",
    "depth",
    "distance",
    "flow",
    "gates",
    "latch",
    "legend",
    "letters",
    "norms",
    "panels",
    "products",
    "recall",
    "remedies",
    "table",
    "training",
]
