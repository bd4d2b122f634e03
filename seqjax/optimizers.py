"""What Optax's transformations are told beside the gradient."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from seqjax.base import Array, PyTree


def told(look: Callable, loss: Array, gradient: PyTree) -> dict[str, Any]:
    """What Optax's transformations ask for by name, beside the gradient."""

    @jax.custom_vjp
    def value(leaves: PyTree) -> Array:
        return look(leaves)[0]

    def backward(gradient: PyTree, bar: Array) -> tuple[PyTree]:
        return (jax.tree.map(lambda g: g * bar.astype(g.dtype), gradient),)

    value.defvjp(lambda leaves: look(leaves)[:2], backward)
    again = lambda leaves, *_: look(leaves)[1]
    return {"value": loss, "grad": gradient, "value_fn": value, "obj_fn": value, "grad_fn": again}


def wide(leaves: PyTree) -> PyTree:
    """What optimizers see: parameters and gradients of float16 as float32.

    Adam's ε of 1e-8 is 0 in float16, and so are most squares of gradients: it divides 0 by 0.
    """
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float16 else leaf, leaves)


def narrow(leaves: PyTree, like: PyTree) -> PyTree:
    """`wide` undone, as ``like`` has it."""
    return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), leaves, like)


def update(
    optimizer: optax.GradientTransformation, gradient: PyTree, state: PyTree, params: PyTree, extra: dict[str, Any]
) -> tuple[PyTree, PyTree]:
    """The optimizer's update, told what it has a name for, and behind a chain what Optax's line searches take.

    They refuse what they do not know, so that an estimate of curvature is told its function only where it asks.
    """
    change: Callable = optax.with_extra_args_support(optimizer).update
    parameters = inspect.signature(change).parameters
    names = set(parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        names |= {"value", "grad", "value_fn"}
    given = {name: value for name, value in extra.items() if name in names}
    try:
        return change(gradient, state, params, **given)
    except ValueError as error:
        if "obj_fn" in given or "obj_fn" not in str(error):
            raise
        return change(gradient, state, params, **given, obj_fn=extra["obj_fn"])
