"""Reading a chunk in both directions."""

from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import base, checks, masks
from seqjax.base import Array, Cell, Layer, Params, PyTree, State, is_noise, without_noise
from seqjax.engines.plan import EngineName
from seqjax.layers import inner
from seqjax.layers.inner import split
from seqjax.layers.recurrence import recurrent
from seqjax.records import maker
from seqjax.settings.record import Settings

OtherParams = TypeVar("OtherParams")
OtherState = TypeVar("OtherState")


class BidirectionalParams(NamedTuple, Generic[Params, OtherParams]):
    """The parameters of both directions."""

    forward: Params
    backward: OtherParams


class BidirectionalState(NamedTuple, Generic[State]):
    """What goes from chunk to chunk.

    Attributes:
      forward: the forward reader's state.
      noise: the backward reader's `Noise`, None in place of everything else; or a whole state of it, to start from at
        the end of each chunk (`with_backward`).
    """

    forward: State
    noise: PyTree

    def with_backward(self, state: PyTree) -> "BidirectionalState[State]":
        """The same with a first state of the backward reader, which it then takes at the end of every chunk.

        Without, it starts from its own initial state. Where segments close inside a chunk it does so in any case.
        """
        return self._replace(noise=state)


class BidirectionalEnds(NamedTuple, Generic[State]):
    """A `BidirectionalState`, and where the backward reader arrived.

    Attributes:
      forward: as there.
      noise: as there.
      backward: the backward reader's state behind the chunk's first tick, the last that it reads, None in place of
        `Noise`: for others to read, not for the next chunk.
    """

    forward: State
    noise: PyTree
    backward: PyTree

    def with_backward(self, state: PyTree) -> "BidirectionalEnds[State]":
        """As there."""
        return self._replace(noise=state)


def reads_both_ways(state: PyTree) -> bool:
    """Whether a node of a state is that of a bidirectional layer."""
    return isinstance(state, BidirectionalState | BidirectionalEnds)


@overload
def bidirectional(
    forward: Cell[Params, State] | Layer[Params, State],
    backward: Cell[OtherParams, OtherState] | Layer[OtherParams, OtherState],
    *,
    keep_backward: Literal[False] = False,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    settings: Settings | None = None,
) -> Layer[BidirectionalParams[Params, OtherParams], BidirectionalState[State]]: ...
@overload
def bidirectional(
    forward: Cell[Params, State] | Layer[Params, State],
    backward: Cell[OtherParams, OtherState] | Layer[OtherParams, OtherState],
    *,
    keep_backward: Literal[True],
    engine: EngineName = "auto",
    memory: str | int = "auto",
    settings: Settings | None = None,
) -> Layer[BidirectionalParams[Params, OtherParams], BidirectionalEnds[State]]: ...
@maker
def bidirectional(
    forward: Cell[Params, State] | Layer[Params, State],
    backward: Cell[OtherParams, OtherState] | Layer[OtherParams, OtherState],
    *,
    keep_backward: bool = False,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    settings: Settings | None = None,
) -> Layer[BidirectionalParams[Params, OtherParams], Any]:
    """Two readers of the same chunk, one from each end; their outputs side by side.

        y_t = [forward(x_1 … x_t), backward(x_T … x_t)]

    Only the forward state goes from chunk to chunk: the backward reader starts anew at each chunk's last real
    tick, so a chunk must hold all the future that it should see. At a reset, forwards a tick opens a segment,
    and backwards the tick before it does.

    Padding told as ``lengths`` is handed to both cells as lengths.

    Args:
      forward: a cell, or a layer.
      backward: a cell, or a layer; both are written forwards.
      keep_backward: whether the state is a `BidirectionalEnds`, whose ``backward`` is the backward reader's last state,
        for a decoder to start from, as ``forward`` is the forward one's. It goes into no later chunk.
      engine: as in `seqjax.unroll`, for cells.
      memory: as in `seqjax.unroll`, for cells.
      settings: as in `seqjax.unroll`, for cells; measured forwards they hold for the backward reader too.

    Returns:
      A layer whose outputs are concatenated along the last axis, forward first. Its state is a
      `BidirectionalState`, or a `BidirectionalEnds`; ``state.with_backward(first)`` gives the backward reader a first
      state.

    Raises:
      TypeError: something else than cells or layers, or a state of another type, such as the forward one alone.
      ValueError: a forward layer without state, a first state that is none of the backward reader, or settings beside
        an engine or a memory.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.bidirectional(sj.gru(3, 4), sj.gru(3, 4))
      >>> params = layer.init(jax.random.key(0))
      >>> state, ys = layer.apply(params, layer.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.shape
      (5, 2, 8)

      The last states of both readers:

      >>> layer = sj.bidirectional(sj.gru(3, 4), sj.gru(3, 4), keep_backward=True)
      >>> state, ys = layer.apply(params, layer.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> bool((state.forward == ys[-1, :, :4]).all()), bool((state.backward == ys[0, :, 4:]).all())
      (True, True)

    References:
      Schuster and Paliwal (1997), Bidirectional recurrent neural networks. https://doi.org/10.1109/78.650093
    """
    for module in (forward, backward):
        if not isinstance(module, Cell):
            checks.instance("bidirectional", module, Layer, "Pass a cell or a layer for each direction.")
    options: dict[str, Any] = {"engine": engine, "memory": memory}
    ahead = recurrent(forward, settings=settings, **options) if isinstance(forward, Cell) else forward
    options["settings"] = settings and settings.backwards()
    back = recurrent(backward, reverse=True, **options) if isinstance(backward, Cell) else reverse(backward)

    def init(key: Array) -> BidirectionalParams[Params, OtherParams]:
        forward_key, backward_key = jax.random.split(key)
        return BidirectionalParams(ahead.init(forward_key), back.init(backward_key))

    def initial_state(
        params: BidirectionalParams[Params, OtherParams],
        batch_shape: tuple[int, ...] = (),
        *,
        key: Array | None = None,
    ) -> Any:
        forward_key, backward_key = split(key, 2)
        first = back.initial_state(params.backward, batch_shape, key=backward_key)
        state = BidirectionalState(ahead.initial_state(params.forward, batch_shape, key=forward_key), _noise_of(first))
        return BidirectionalEnds(*state, without_noise(first)) if keep_backward else state

    def apply(
        params: BidirectionalParams[Params, OtherParams],
        state: Any,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[Any, PyTree]:
        if not reads_both_ways(state):
            raise TypeError(
                f"bidirectional: expected a BidirectionalState, got {type(state).__name__}. Make it with "
                "initial_state(params, batch_shape), or carry on a forward one: BidirectionalState(forward, noise)."
            )
        forward_key, backward_key = split(key, 2)
        batch = base.batch_shape(ahead, params.forward, state.forward)
        if batch is None:
            raise ValueError(
                "bidirectional: expected a forward layer whose state shows its batch shape, got one without "
                "state. Put pointwise layers before or behind bidirectional."
            )
        start = _started(back.initial_state(params.backward, batch), state.noise)
        ticks: dict[str, Any] = {"mask": mask, "lengths": lengths, "reset": reset}
        after, ys = inner.run(ahead, params.forward, state.forward, xs, **ticks, key=forward_key)
        if reset is not None:  # which at the first tick would restart the state behind all that is read
            ticks["reset"] = jnp.asarray(reset).at[0].set(False)
        before, zs = inner.run(back, params.backward, start, xs, **ticks, key=backward_key)
        both = jax.tree.map(lambda y, z: jnp.concatenate([y, z], axis=-1), ys, zs)
        noise = jax.tree.map(lambda new, old: new if is_noise(new) else old, before, state.noise, is_leaf=is_noise)
        new = BidirectionalState(after, noise)
        return BidirectionalEnds(*new, without_noise(before)) if isinstance(state, BidirectionalEnds) else new, both

    return Layer(init, initial_state, apply)


def _noise_of(state: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf if is_noise(leaf) else None, state, is_leaf=is_noise)


def _started(fresh: PyTree, given: PyTree) -> PyTree:
    """The backward reader's first state: its own initial one where none is given."""
    try:
        start = jax.tree.map(
            lambda new, old: old if is_noise(new) or old is not None else new, fresh, given, is_leaf=is_noise
        )
        fits = jax.tree.map(np.shape, without_noise(start)) == jax.tree.map(np.shape, without_noise(fresh))
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"bidirectional: expected noise, or a first state, like the backward reader's state "
            f"{jax.tree.map(np.shape, without_noise(fresh))}, got {jax.tree.map(np.shape, without_noise(given))}. "
            "Make it with initial_state of the backward reader and the same batch shape."
        )
    return start


@maker
def reverse(layer: Layer[Params, State]) -> Layer[Params, State]:
    """The layer run from the last tick to the first; outputs stay at their ticks.

    The mask is turned round with the inputs; lengths become one, as padding comes first then. So is the reset, moved by
    a tick: read backwards, a segment opens where read forwards it closes.

    Args:
      layer: the layer, written forwards.

    Returns:
      A layer whose state goes from a later chunk to an earlier one.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> from seqjax import layers
      >>> start = lambda params, batch_shape=(), *, key=None: jnp.zeros(batch_shape)
      >>> total = sj.Cell(lambda key: (), start, lambda params, state, x: (state + x, state + x))
      >>> layers.reverse(sj.recurrent(total)).apply((), start(()), jnp.arange(4.0))[1].tolist()
      [6.0, 6.0, 5.0, 3.0]
    """

    def flip(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[::-1], tree)

    def apply(
        params: Params,
        state: State,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, PyTree]:
        inner.check_direction("reverse")
        mask = checks.ticks("reverse", "mask", masks.given("reverse", mask, lengths, xs), xs)
        reset = checks.ticks("reverse", "reset", reset, xs)
        opening = None if reset is None else jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])[::-1]
        state, ys = inner.run(layer, params, state, flip(xs), mask=flip(mask), reset=opening, key=key)
        if reset is not None:
            state = masks.restart(reset[0], layer.initial_state(params, reset.shape[1:]), state)
        return state, flip(ys)

    return Layer(layer.init, layer.initial_state, apply)
