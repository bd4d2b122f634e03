"""A recurrence written for one example: `jax.vmap` makes the batch, and its arrays are told from what is written in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Cell, Init, Key, PyTree
from seqjax.engines.equations import jaxprs


class Held:
    """A tree as an option of a maker: equal where its structure is equal and its arrays are the same objects.

    >>> import numpy as np
    >>> w = np.ones(2)
    >>> Held({"w": w, "size": 2}) == Held({"w": w, "size": 2}), Held({"w": w}) == Held({"w": np.ones(2)})
    (True, False)
    """

    __slots__ = ("leaves", "name", "structure")

    def __init__(self, tree: PyTree, name: str = "cell"):
        """``name`` is how it prints."""
        self.name = name
        leaves, self.structure = jax.tree.flatten(tree)
        self.leaves = tuple(leaves)

    @property
    def tree(self) -> PyTree:
        """What is held."""
        return self.structure.unflatten(self.leaves)

    def _key(self) -> tuple:
        return self.structure, *(id(leaf) if is_array(leaf) else leaf for leaf in self.leaves)

    def __eq__(self, other: object) -> bool:
        """Whether another holds the same arrays in an equal structure."""
        return isinstance(other, Held) and self._key() == other._key()

    def __hash__(self) -> int:
        """Of structure and identities; not all structures have one."""
        return hash(self._key())

    def __reduce__(self) -> tuple:
        """Pickled as what is held: not all structures can be."""
        return Held, (self.tree, self.name)

    def __repr__(self) -> str:
        """The name alone: structures are long."""
        return self.name


def is_array(leaf: Any) -> bool:
    """Whether a leaf has a shape and a dtype."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def cell_of(
    who: str,
    init: Init,
    start: Callable[[PyTree], PyTree],
    step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]],
    inputs: PyTree = None,
) -> Cell[Any, Any]:
    """A cell of functions of one example.

    Args:
      who: asks, for errors.
      init: ``(key) -> params``.
      start: ``(params) -> state`` before the first tick.
      step: ``(params, state, x) -> (state, y)``.
      inputs: types of one example's input at one tick, a tree of `jax.ShapeDtypeStruct`; None where nobody knows.

    Returns:
      The cell; a batch is as many examples as the state says, along any number of axes.

    Example:
      >>> import jax.numpy as jnp
      >>> total = cell_of("total", lambda key: jnp.ones(2), jnp.zeros_like, lambda w, s, x: (s + w * x, s @ x))
      >>> params = total.init(None)
      >>> state, y = total.step(params, total.initial_state(params, (3, 4)), jnp.ones((3, 4, 2)))
      >>> state.shape, y.shape
      ((3, 4, 2), (3, 4))
    """

    def initial_state(params: PyTree, batch_shape: tuple[int, ...] = (), *, key: Key | None = None) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *np.shape(leaf))), start(params))

    def batched(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        many: Callable = step
        for _ in _batch(who, jax.eval_shape(start, params), state, x, inputs):
            many = jax.vmap(many, (None, 0, 0))
        return many(params, state, x)

    return Cell(init, initial_state, batched)


def _batch(who: str, one: PyTree, state: PyTree, x: PyTree, inputs: PyTree) -> tuple[int, ...]:
    """The batch axes of a state beside one example's; the input has the same in front of its own."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(state))
    batches = [np.shape(many)[: np.ndim(many) - leaf.ndim] for leaf, many in pairs]
    known = [leaf.shape for leaf in jax.tree.leaves(inputs)]
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(x)]
    batches += [shape[: len(shape) - len(own)] for own, shape in zip(known, shapes)]
    if not batches:
        raise ValueError(
            f"{who}: expected a cell with a state, whose axes tell the batch, got one without. "
            "Make a function of one tick a cell with seqjax.memoryless."
        )
    batch = batches[0]
    for own, shape in zip(known or [None] * len(shapes), shapes):
        if own is not None and shape[max(len(shape) - len(own), 0) :] != own:
            size = _size(shape[len(batch) :])
            raise ValueError(
                f"{who}: expected inputs of size {_size(own)}, got one tick of shape {shape}. "
                f"Set input_size={size} or project the inputs."
            )
        got = shape[: len(batch)] if own is None else shape[: len(shape) - len(own)]
        if got != batch:
            raise ValueError(
                f"{who}: expected inputs of batch shape {batch} like the state, got one tick of shape {shape}. "
                f"Make the state with initial_state(params, {got})."
            )
    return batch


def _size(shape: tuple[int, ...]) -> Any:
    return shape[0] if len(shape) == 1 else shape


def inputs_of(who: str, input_size: Any) -> PyTree:
    """Types of one example's input at one tick: of a size, of a shape, or told as a tree of types.

    >>> inputs_of("from_linen", 3)
    ShapeDtypeStruct(shape=(3,), dtype=float32)
    >>> inputs_of("from_linen", (8, 8, 1)).shape
    (8, 8, 1)
    """
    is_size = lambda size: isinstance(size, int) and not isinstance(size, bool) and size > 0
    if is_size(input_size):
        input_size = (input_size,)
    if isinstance(input_size, tuple | list) and all(map(is_size, input_size)):
        return jax.ShapeDtypeStruct(tuple(map(int, input_size)), jnp.zeros(()).dtype)
    leaves = jax.tree.leaves(input_size)
    if not leaves or not all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        raise TypeError(
            f"{who}: expected input_size to be a size, a shape without batch, or a tree of jax.ShapeDtypeStruct, got "
            f"{input_size!r}. Say what one example brings at one tick, such as 64, (28, 28, 1)."
        )
    return input_size


def without_key(who: str, draw: Callable[[Key], PyTree]) -> PyTree:
    """What a function of a key returns, where it makes no use of the key.

    Raises:
      ValueError: it does.
    """
    draws = lambda key: jax.tree.leaves(draw(key))
    closed = jaxprs.inlined(jaxprs.trace(draws, jax.typeof(jax.random.key(0))))
    reached = jaxprs.dependent(closed.jaxpr.eqns, closed.jaxpr.invars)
    if any(not jaxprs.is_literal(v) and v in reached for v in closed.jaxpr.outvars):
        raise ValueError(
            f"{who}: expected a first state without randomness, got one that reads its key. "
            "Start from zeros (carry_init) and wrap the cell: seqjax.random_initial_state(cell, scale)."
        )
    return draw(jax.random.key(0))
