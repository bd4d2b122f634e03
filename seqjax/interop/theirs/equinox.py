"""Outputs of Equinox cells."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seqjax.interop import verified


def outputs_of(rows: Sequence[Sequence[Any]]) -> verified.Run:
    """The outputs of cells as they stand, layer by layer."""

    def scanned(cell: Any) -> Any:
        def tick(carry: Any, x: Any) -> tuple[Any, Any]:
            carry = jax.vmap(cell)(x, carry)
            return carry, carry[0] if isinstance(carry, tuple) else carry

        return lambda xs, state: jax.lax.scan(tick, state if len(state) == 2 else state[0], xs)[1]

    def run(xs: np.ndarray, states: Any) -> Any:
        with jax.enable_x64(True):
            return verified.through([[scanned(cell) for cell in row] for row in rows], xs, states)

    return run
