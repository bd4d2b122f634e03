"""What randomised cells share: one key an example, kept in the state as `Noise`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax import masks, places
from seqjax.base import Array, Cell, Noise, Params, PyTree, State


def per_example(draw: Callable[[Array], PyTree], keys: Array) -> PyTree:
    """``draw(key)`` for every key of an array ``[*B]``, so that a batch equals its examples one by one."""
    for _ in range(keys.ndim):
        draw = jax.vmap(draw)
    return draw(keys)


def example_keys(key: Array, batch_shape: tuple[int, ...]) -> Array:
    """One key an example, ``[*B]``, by its place in the whole batch, on however many devices.

    Raw keys (`jax.random.PRNGKey`) become typed ones, without an axis of their own.

    Example:
      >>> example_keys(jax.random.PRNGKey(0), (3, 2)).shape
      (3, 2)
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    kind = str(key.dtype).removeprefix("key<").removesuffix(">")
    if kind != "fry":
        raise ValueError(
            "noise: expected a threefry key, whose draws for a batch are those of its examples one by one, got "
            f"{kind}. Make it with jax.random.key(seed, impl='threefry2x32')."
        )
    return places.drawn(lambda shape: jax.random.split(key, shape), batch_shape) if batch_shape else key


def drop(x: Array, keys: Array, index: int, rate: float) -> Array:
    """Each number of ``x [*B, ...]`` zeroed with probability ``rate``, the rest scaled by 1/(1-rate).

    The same keys and index drop the same units: called at every tick with keys that stay, it is one mask a
    sequence.
    """

    def keep(key: Array) -> Array:
        return jax.random.bernoulli(jax.random.fold_in(key, index), 1 - rate, x.shape[keys.ndim :])

    return masks.select(per_example(keep, keys), x / (1 - rate), jnp.zeros_like(x))


def with_keys(cell: Cell[Params, State], step: Callable) -> Cell[Params, tuple[State, Noise]]:
    """A cell with state ``(state, Noise(keys))``, one key an example and None without a key."""

    def initial_state(
        params: Params, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> tuple[State, Noise]:
        if key is None:
            return cell.initial_state(params, batch_shape), Noise(None)
        inner, own = jax.random.split(key)
        return cell.initial_state(params, batch_shape, key=inner), Noise(example_keys(own, batch_shape))

    return Cell(cell.init, initial_state, step)
