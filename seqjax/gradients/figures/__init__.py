"""The figures of the experiments, fit to print; they need matplotlib.

Every function takes the arrays of an experiment and returns a `matplotlib.figure.Figure`: show it in a notebook, or
``figure.savefig(path)`` it.
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
