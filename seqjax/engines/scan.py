"""The plain engine: `jax.lax.scan` over the step, differentiated by JAX. Every other engine is compared with it."""

from collections.abc import Callable

import jax

from seqjax.base import PyTree


def scan(
    step: Callable, params: PyTree, state: PyTree, xs: PyTree, *, length: int, reverse: bool
) -> tuple[PyTree, PyTree]:
    """Runs ``step`` over time, keeping everything that its gradient needs."""
    return jax.lax.scan(lambda s, x: step(params, s, x), state, xs, length=length, reverse=reverse)
