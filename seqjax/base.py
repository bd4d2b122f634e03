"""The contract: a `Cell` is one tick of a recurrence, a `Layer` a chunk of ticks; both know their maker."""

import functools
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import chex
import jax
import numpy as np

from seqjax import places, records

Array = jax.Array
Key: TypeAlias = chex.PRNGKey
PyTree = Any
Params = TypeVar("Params")
State = TypeVar("State")
Drawn = TypeVar("Drawn", covariant=True)
Given = TypeVar("Given", contravariant=True)
# Parameters and states of the parts of a whole.
P1 = TypeVar("P1")
S1 = TypeVar("S1")
P2 = TypeVar("P2")
S2 = TypeVar("S2")
P3 = TypeVar("P3")
S3 = TypeVar("S3")
P4 = TypeVar("P4")
S4 = TypeVar("S4")


class Init(Protocol[Drawn]):
    """``init(key) -> params``."""

    def __call__(self, key: Key, /) -> Drawn:
        """Draws the parameters."""


class InitialState(Protocol[Given, Drawn]):
    """``initial_state(params, batch_shape=(), *, key=None) -> state``."""

    def __call__(self, params: Given, /, batch_shape: tuple[int, ...] = (), *, key: Key | None = None) -> Drawn:
        """The state before the first tick."""


class Step(Protocol[Given, State]):
    """``step(params, state, x) -> (state, y)``."""

    def __call__(self, params: Given, state: State, x: Any, /) -> tuple[State, Any]:
        """One tick."""


class Apply(Protocol[Given, State]):
    """``apply(params, state, xs, *, mask=None, lengths=None, reset=None, key=None) -> (state, ys)``."""

    def __call__(
        self,
        params: Given,
        state: State,
        xs: Any,
        /,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Key | None = None,
    ) -> tuple[State, Any]:
        """A chunk of ticks."""


class Cell(NamedTuple, Generic[Params, State]):
    """One tick of a recurrence: ``state', y = step(params, state, x)``.

    A cell holds functions only, no arrays: it is hashable and can be a static argument of `jax.jit`. Cells that one
    `maker` made of equal options are equal, so a model built anew inside a helper compiles once; they pickle, and print
    as the call that makes them.

    Attributes:
      init: ``(key) -> params`` draws the parameters.
      initial_state: ``(params, batch_shape=(), *, key=None) -> state`` is the state before the first tick.
        Every leaf has shape ``batch_shape + ...``. Without a key nothing random is drawn.
      step: ``(params, state, x) -> (state, y)`` is the recurrence. It never takes a key; randomness inside a
        recurrence is part of the state (`Noise`).

    Example:
      A running sum, written by hand:

      >>> import jax.numpy as jnp, seqjax as sj
      >>> total = sj.Cell(
      ...     init=lambda key: (),
      ...     initial_state=lambda params, batch_shape=(), *, key=None: jnp.zeros(batch_shape),
      ...     step=lambda params, state, x: (state + x, state + x),
      ... )
      >>> state, ys = sj.unroll(total, (), total.initial_state(()), jnp.arange(4.0))
      >>> ys.tolist()
      [0.0, 1.0, 3.0, 6.0]

      And one by its maker:

      >>> sj.stack(sj.lstm(3, 4), sj.gru(4, 4, reset="before"))
      stack(lstm(3, 4), gru(4, 4, reset='before'))
    """

    init: Init[Params]
    initial_state: InitialState[Params, State]
    step: Step[Params, State]

    @property
    def name(self) -> str:
        """The name of its maker, ``"cell"`` where it was made by hand."""
        return records.name(self, "cell")

    def __repr__(self) -> str:
        """The call that makes it, or its three functions where it was made by hand."""
        return records.printed(self)


class Layer(NamedTuple, Generic[Params, State]):
    """A chunk of ticks: ``state', ys = apply(params, state, xs)`` with time leading, ``xs [T, *B, d]``.

    Attributes:
      init: ``(key) -> params``.
      initial_state: ``(params, batch_shape=(), *, key=None) -> state``.
      apply: ``(params, state, xs, *, mask=None, lengths=None, reset=None, key=None) -> (state, ys)``. ``mask [T, *B]``
        is True at real ticks; ``lengths [*B]`` says the same of right-padded sequences; ``reset [T, *B]`` is True at
        the first tick of a segment. ``key`` draws what is random between recurrences (dropout) for this chunk; what
        is random inside one lives in the state (`Noise`). Devices that share a batch are given the same key: what
        differs from example to example is drawn by `seqjax.transforms.example_keys`.

    Example:
      >>> import seqjax as sj
      >>> sj.serial(sj.embedding(65, 8), sj.recurrent(sj.lstm(8, 16), memory="sqrt"), sj.dense(16, 65))
      serial(embedding(65, 8), recurrent(lstm(8, 16), memory='sqrt'), dense(16, 65))
    """

    init: Init[Params]
    initial_state: InitialState[Params, State]
    apply: Apply[Params, State]

    @property
    def name(self) -> str:
        """The name of its maker, ``"layer"`` where it was made by hand."""
        return records.name(self, "layer")

    def __repr__(self) -> str:
        """The call that makes it, or its three functions where it was made by hand."""
        return records.printed(self)


class Noise(NamedTuple):
    """Random leaves of a state: a reset leaves them alone, `redraw` replaces them, without a key they are None."""

    value: PyTree = None


def is_noise(leaf: PyTree) -> bool:
    """Whether a node of a state is `Noise`; pass it as ``is_leaf`` to `jax.tree.map`."""
    return isinstance(leaf, Noise)


def single_state(module: Cell | Layer, params: PyTree) -> PyTree:
    """The types of one sequence's initial state; looked up where the same has been asked before."""
    leaves, tree = jax.tree.flatten(params)
    return _single_state(module, tree, tuple(map(jax.typeof, leaves)))


@functools.lru_cache(maxsize=256)
def _single_state(module: Cell | Layer, tree: Any, types: tuple) -> PyTree:
    shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in types]
    return jax.eval_shape(lambda p: module.initial_state(p), tree.unflatten(shapes))


def batch_shape(module: Cell | Layer, params: PyTree, state: PyTree) -> tuple[int, ...] | None:
    """The batch axes of a state, read off against the state of a single sequence; None where no leaf tells."""
    for one, many in zip(_leaves(single_state(module, params)), _leaves(state)):
        return many.shape[: many.ndim - one.ndim]
    noisy = jax.eval_shape(lambda p: module.initial_state(p, key=jax.random.key(0)), params)
    for one, many in zip(jax.tree.leaves(noisy), jax.tree.leaves(state)):
        return many.shape[: many.ndim - one.ndim]
    return None


def redraw(module: Cell | Layer, params: PyTree, state: PyTree, key: Key) -> PyTree:
    """Draw a state's `Noise` anew from ``key`` and keep everything else.

    Called once a window or a sequence in truncated backpropagation through time, so that dropout masks and zoneout
    keys change while the state is carried.

    Args:
      module: the cell or layer the state belongs to.
      params: its parameters.
      state: any state of it, with or without noise.
      key: one JAX key.

    Returns:
      The state with new noise.

    Raises:
      ValueError: the state has no leaf that tells the batch shape.
    """
    if not any(is_noise(leaf) for leaf in jax.tree.leaves(state, is_leaf=is_noise)):
        return state
    shape = batch_shape(module, params, state)
    if shape is None:
        raise ValueError(
            "redraw: expected a state with at least one leaf that shows its batch shape, got none. "
            "Use initial_state(params, batch_shape, key=key)."
        )
    fresh = drawn_state(module, params, shape, key)
    return jax.tree.map(lambda old, new: new if is_noise(old) else old, state, fresh, is_leaf=is_noise)


def drawn_state(module: Cell | Layer, params: PyTree, batch_shape: tuple[int, ...], key: Key | None) -> PyTree:
    """A state inside a training step: on one device or many, whoever draws, each example's noise is its own."""
    begin = lambda shape: module.initial_state(params, shape, key=key)
    return begin(batch_shape) if key is None else places.drawn(begin, batch_shape)


def without_noise(state: PyTree) -> PyTree:
    """A state with None in the place of `Noise`."""
    return jax.tree.map(lambda leaf: None if is_noise(leaf) else leaf, state, is_leaf=is_noise)


def described(tree: PyTree) -> str:
    """A tree by the types and shapes of its arrays, as an error shows it.

    >>> described({"h": jax.numpy.zeros((2, 3)), "n": None})
    "{'h': [2, 3], 'n': None}"
    """
    return str(jax.tree.map(lambda leaf: list(np.shape(leaf)), tree))


def _leaves(state: PyTree) -> list[Array]:
    return jax.tree.leaves(without_noise(state))
