"""Arrays of any framework: read as NumPy's or JAX's, their gates in another order, their names and shapes checked."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.products import Biases

Array = Any  # NumPy's or JAX's


def array(who: str, name: str, value: Any) -> Array:
    """One array of floats as NumPy's or JAX's, in its own dtype; torch's tensors and variables of frameworks are read.

    Raises:
      TypeError: something else than floating point numbers.

    Example:
      >>> array("torch", "weight_ih_l0", [[1.0, 2.0]]).shape
      (1, 2)
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (
            value.view(_int16(value)).numpy().view(jnp.bfloat16) if "bfloat16" in str(value.dtype) else value.numpy()
        )
    if not isinstance(value, jax.Array | np.ndarray):
        value = np.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"{who}: expected floating point numbers in {name}, got {value.dtype}. Quantised weights and counters are "
            "no weights of a recurrent layer; convert them first."
        )
    return value


def _int16(tensor: Any) -> Any:
    import torch

    return torch.int16


def of(*arrays: Array) -> Any:
    """`jax.numpy` where an array is JAX's, else NumPy: results stay where their arguments are."""
    return jnp if any(isinstance(each, jax.Array) for each in arrays) else np


def joined(blocks: Sequence[Array], axis: int = -1) -> Array:
    """Blocks side by side."""
    return of(*blocks).concatenate(list(blocks), axis=axis)


def blocks(w: Array, names: Iterable[str], axis: int = -1) -> dict[str, Array]:
    """The gates' equal blocks of an array, by name."""
    names = list(names)
    return dict(zip(names, of(w).split(w, len(names), axis=axis)))


def reordered(w: Array, given: Iterable[str], wanted: Iterable[str], axis: int = -1) -> Array:
    """Blocks of gates in another order.

    Example:
      >>> reordered(np.array([1, 2, 3]), "zrn", "rzn").tolist()
      [2, 1, 3]
    """
    given, wanted = list(given), list(wanted)
    if given == wanted:
        return w
    parts = blocks(w, given, axis)
    return joined([parts[gate] for gate in wanted], axis)


def transposed(w: Array) -> Array:
    """A matrix the other way round, in memory of its own order."""
    return of(w).ascontiguousarray(w.T) if isinstance(w, np.ndarray) else w.T


def halves(who: str, b: Any, gates: int, like: Array) -> tuple[Array, Array] | None:
    """A bias of the package, of whatever form, as the two that others add: beside x W, beside h U. None for none.

    One bias is the first, and the second is zero.
    """
    if b is None:
        return None
    zero = of(like).zeros(like.shape[-1] // gates, like.dtype)
    if isinstance(b, Biases):
        return b.input, b.recurrent
    if isinstance(b, tuple):
        pairs = [each if isinstance(each, Biases) else (zero if each is None else each, zero) for each in b]
        first, second = zip(*pairs)
        return joined(first), joined(second)
    return b, of(b).zeros_like(b)


def host(values: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Arrays as NumPy's, in memory that may be written to."""
    return {name: np.array(value, order="C") for name, value in values.items()}


def taken(who: str, entries: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]], remedy: str) -> dict[str, Array]:
    """The entries of just these names and shapes.

    Args:
      who: the passport, in errors.
      entries: what was given.
      wanted: names and shapes.
      remedy: what to do where they differ.

    Raises:
      ValueError: entries that are missing, unknown, or of another shape.
      TypeError: entries that are no floating point numbers.
    """
    missing = [name for name in wanted if name not in entries]
    extra = [name for name in entries if name not in wanted]
    if missing or extra:
        differ = [f"{listed(missing)} missing"] * bool(missing) + [f"{listed(extra)} unknown"] * bool(extra)
        raise ValueError(
            f"{who}: expected the entries {listed(wanted)}, got {listed(entries) or 'none'}: {', '.join(differ)}. "
            + remedy
        )
    found = {name: array(who, name, entries[name]) for name in wanted}
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise ValueError(f"{who}: expected {name} of shape {shape}, got {found[name].shape}. {remedy}")
    dtypes = {str(value.dtype) for value in found.values()}
    if len(dtypes) > 1:
        raise ValueError(f"{who}: expected entries of one dtype, got {', '.join(sorted(dtypes))}. Convert them to one.")
    return found


def shape(who: str, entries: Mapping[str, Any], name: str, axes: int, remedy: str) -> tuple[int, ...]:
    """The shape of an entry from which sizes are read."""
    if name not in entries:
        raise ValueError(f"{who}: expected an entry {name}, got {listed(entries) or 'none'}. {remedy}")
    found = tuple(np.shape(entries[name]))
    if len(found) != axes or 0 in found:
        raise ValueError(f"{who}: expected {name} with {axes} axes, none of them empty, got shape {found}. {remedy}")
    return found


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names side by side, a few of many."""
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def single(who: str, b: Any, gates: int, like: Array) -> Array:
    """A bias of whatever form as one array: two are added, none is zero."""
    both = halves(who, b, gates, like)
    if both is None:
        return of(like).zeros(like.shape[-1], like.dtype)
    return both[0] if not isinstance(b, tuple) else both[0] + both[1]
