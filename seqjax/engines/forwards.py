"""What runs where nothing is differentiated, and what only a gradient must not do."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax.custom_derivatives import SymbolicZero

from seqjax.base import PyTree
from seqjax.engines.equations import jaxprs

Result = TypeVar("Result")


def either(
    forwards: Callable[[PyTree], Result], differentiated: Callable[[PyTree], Result]
) -> Callable[[PyTree], Result]:
    """``forwards(values)`` where nothing is differentiated, else ``differentiated(values)``, which computes the same.

    Neither may close over a value that someone differentiates.
    """

    @jax.custom_jvp
    def run(values: PyTree) -> Result:
        return forwards(values)

    def rule(primals: tuple, tangents: tuple) -> tuple:
        values, tree = jax.tree.flatten(*primals)
        moved = jax.tree.leaves(tangents, is_leaf=lambda d: isinstance(d, SymbolicZero))
        varied = [i for i, d in enumerate(moved) if not isinstance(d, SymbolicZero) and d.dtype != jaxprs.float0]

        def of(*some: jax.Array) -> Result:
            full = list(values)
            for i, value in zip(varied, some):
                full[i] = value
            return differentiated(tree.unflatten(full))

        return jax.jvp(of, [values[i] for i in varied], [moved[i] for i in varied])

    run.defjvp(rule, symbolic_zeros=True)
    return run
