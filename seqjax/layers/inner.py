"""A layer inside a layer: how masks, lengths, resets and keys get to it."""

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator

import jax

from seqjax import checks, masks
from seqjax.base import Array, Layer, Params, PyTree, State
from seqjax.buffers import owned


def run(
    layer: Layer[Params, State],
    params: Params,
    state: State,
    xs: PyTree,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    reset: Array | None = None,
    key: Array | None = None,
) -> tuple[State, PyTree]:
    """``layer.apply``, as every layer that holds others calls it.

    Lengths stay lengths on their way in, for kernels that need right-padded sequences and would refuse a mask. A layer
    whose ``apply`` takes none, written before there were any, gets the mask that they stand for.

    Args:
      layer: the inner layer.
      params: its parameters.
      state: its state.
      xs: its inputs.
      mask: ``[T, *B]``, True at real ticks.
      lengths: ``[*B]``, in place of a mask.
      reset: ``[T, *B]``, True at the first tick of a segment.
      key: its own.

    Returns:
      The state after the chunk and the outputs.

    Raises:
      ValueError: a mask and lengths at once.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> def apply(params, state, xs, *, mask=None, reset=None, key=None):
      ...     return state, jnp.where(mask, xs, 0)
      >>> old = sj.pointwise(lambda params, xs: xs)._replace(apply=apply)
      >>> run(old, (), (), jnp.ones((3, 2)), lengths=jnp.array([2, 0]))[1].tolist()
      [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    checks.mask_or_lengths(layer.name, mask, lengths)
    params, state, xs, mask, lengths, reset = owned((params, state, xs, mask, lengths, reset))
    apply: Callable = layer.apply
    if lengths is None:
        ticks = {"mask": mask}
    elif _takes_lengths(apply):
        ticks = {"lengths": lengths}
    else:
        ticks = {"mask": masks.given(layer.name, None, lengths, xs)}
    ticks["reset"] = reset
    whole, watch = functools.partial(apply, params, state, xs, **ticks, key=key), _WATCH.get()
    return whole() if watch is None else watch(layer, params, state, xs, ticks, whole)


_WATCH: contextvars.ContextVar[Callable | None] = contextvars.ContextVar("watch", default=None)


@contextlib.contextmanager
def watched(watch: Callable) -> Iterator[None]:
    """While it lasts, `run` leaves running to ``watch(layer, params, state, xs, ticks, apply)``.

    What that returns is taken for what ``apply()`` returns, the layer's state and outputs.
    """
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


_FORWARDS = contextvars.ContextVar("forwards", default=False)


@contextlib.contextmanager
def forwards_only() -> Iterator[None]:
    """While it lasts, layers run in reverse refuse: of one tick nobody can tell the direction."""
    token = _FORWARDS.set(True)
    try:
        yield
    finally:
        _FORWARDS.reset(token)


def check_whole(who: str) -> None:
    """Called by layers whose ticks and examples depend on each other.

    Raises:
      TypeError: inside `forwards_only`.
    """
    if _FORWARDS.get():
        raise TypeError(
            f"{who}: expected parameters with the statistics of training, to be run a tick at a time, got none, which "
            "takes those of the batch. Measure them, and put them in by layers.with_statistics(params, state)."
        )


def check_direction(who: str) -> None:
    """Called by layers that read from the end.

    Raises:
      TypeError: inside `forwards_only`.
    """
    if _FORWARDS.get():
        raise TypeError(
            f"{who}: expected a layer that reads forwards, to be run one tick at a time, got one run in reverse, which "
            "must see the whole sequence first. Decode or stream with a layer that is not reversed."
        )


def split(key: Array | None, parts: int) -> list:
    """One key a part; None for each where there is none."""
    return [None] * parts if key is None else list(jax.random.split(key, parts))


@functools.lru_cache(maxsize=256)
def _takes_lengths(apply: Callable) -> bool:
    parameters = inspect.signature(apply).parameters
    return "lengths" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
