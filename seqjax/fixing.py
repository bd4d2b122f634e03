"""Parameters that stay as they were drawn, whatever trains the rest."""

import contextlib
import contextvars
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import PyTree

_marks: contextvars.ContextVar[list | None] = contextvars.ContextVar("marks", default=None)


def fixed(model: Any, params: PyTree) -> PyTree:
    """Which parameters of a model stay as they were drawn: True at the weights of a reservoir.

    `jax.lax.stop_gradient` alone does not hold them: weight decay shrinks what has no gradient, a noisy optimizer moves
    it. `seqjax.objective`, `seqjax.over_chunks` and `seqjax.truncated` tell `seqjax.train_step`, which leaves these
    leaves alone; an objective of your own is given ``train_step(…, fixed=fixed(model, params))``.

    A cell says so in its ``init``, by `seqjax.fixing.stays`. Whatever draws its parameters by that ``init`` passes it
    on, for the tree that comes out is looked through: stacks, `seqjax.serial`, transforms, what is made by hand.

    Args:
      model: a cell, layer or model.
      params: its parameters; leaves that its ``init`` does not draw are not fixed.

    Returns:
      A tree of bool like ``params``.

    Example:
      >>> import jax, seqjax as sj
      >>> model = sj.serial(sj.recurrent(sj.echo_state(1, 20)), sj.dense(20, 1))
      >>> sj.fixed(model, model.init(jax.random.key(0)))
      (EchoStateParams(w_x=True, w_h=True, b=True), DenseParams(w=False, b=False))
    """
    held = _held(model.init)
    return jax.tree_util.tree_map_with_path(lambda path, _: path in held, params)


def stays(params: PyTree) -> PyTree:
    """Marks parameters as fixed, as they leave the ``init`` that draws them.

    >>> import jax.numpy as jnp, seqjax as sj
    >>> shift = sj.pointwise(lambda params, x: x + params, lambda key: stays(jnp.ones(3)))
    >>> fixed(sj.serial(shift), (jnp.ones(3),))
    (True,)
    """
    marks = _marks.get()
    if marks is not None:
        marks += jax.tree.leaves(params)
    return params


def asked() -> bool:
    """Whether ``init`` is only asked what it marks: what is computed on the host may then be any array of the shape."""
    return _marks.get() is not None


@functools.lru_cache(maxsize=256)
def _held(init: Callable) -> frozenset:
    """The paths of the leaves that an ``init`` marks."""
    paths: list = []

    def draw(key: jax.Array) -> None:
        token = _marks.set([])
        try:
            params, marks = init(key), _marks.get() or []
        finally:
            _marks.reset(token)
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        paths[:] = [path for path, leaf in leaves if any(leaf is mark for mark in marks)]

    try:
        jax.eval_shape(draw, jax.random.key(0))
    except Exception:  # an init for the host: it draws
        with contextlib.suppress(Exception), jax.ensure_compile_time_eval():
            draw(jax.random.key(0))
    return frozenset(paths)


def differentiable(params: PyTree, values: PyTree | None = None) -> PyTree:
    """The leaves that have a gradient, None at the others: integers, flags and keys among the parameters.

    ``values``, a tree like ``params``, is taken apart in its place.
    """
    values = params if values is None else values
    has_gradient = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    return jax.tree.map(lambda leaf, value: value if has_gradient(leaf) else None, params, values)


def completed(leaves: PyTree, params: PyTree) -> PyTree:
    """What `differentiable` has taken apart: ``leaves``, and those of ``params`` where they are None."""
    return jax.tree.map(lambda old, new: old if new is None else new, params, leaves)


def flags_of(fixed: PyTree) -> tuple:
    """A tree of bool as something to hash."""
    leaves, tree = jax.tree.flatten(fixed)
    for leaf in leaves:
        if not isinstance(leaf, bool | np.bool_):
            raise TypeError(
                f"train_step: expected fixed to be a tree of bool, got {type(leaf).__name__} in it. "
                "Make it with seqjax.fixed(model, params), or by jax.tree.map."
            )
    return tuple(map(bool, leaves)), tree


def flags_on(flags: tuple, params: PyTree) -> PyTree:
    """`flags_of` as a tree like the parameters."""
    leaves, tree = flags
    try:
        return jax.tree.broadcast(tree.unflatten(leaves), params)
    except ValueError as error:
        raise ValueError(
            f"train_step: expected fixed like the parameters {jax.tree.structure(params)}, got {tree}. "
            "Make it with seqjax.fixed(model, params), or by jax.tree.map."
        ) from error
