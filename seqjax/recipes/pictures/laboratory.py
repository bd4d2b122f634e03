"""Figures of the laboratory of gradients that show records, from the numbers that are kept of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.gradients import Flow, figures, lessons


def products(lengths: Sequence[int], found: Mapping[str, Sequence[Sequence[Any]]]) -> Any:
    """Products of random factors: `seqjax.gradients.figures.products`."""
    rows = {float(scale): [lessons.RandomProducts(*numbers) for numbers in row] for scale, row in found.items()}
    return figures.products(lengths, rows)


def basins(first: Any, second: Any, found: Mapping[str, Any], ends: Any, path: Any = None) -> Any:
    """The basins of two units: `seqjax.gradients.figures.basins`."""
    grids = {int(length): lessons.Basins(end, jnp.array(log)) for length, (end, log) in found.items()}
    return figures.basins(first, second, grids, lessons.Attractors(*map(np.array, ends)), path)


def flow(reports: Mapping[str, Mapping[str, Any]]) -> Any:
    """Norm and stretch of the gradient: `seqjax.gradients.figures.flow`."""
    nothing = dict.fromkeys(Flow._fields)
    return figures.flow(
        {name: Flow(**nothing | {part: np.array(v, float) for part, v in of.items()}) for name, of in reports.items()}
    )
