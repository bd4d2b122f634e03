"""Checks raised at trace time: who, what was expected, what came, and the remedy."""

import functools
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import records, symbolic


def sizes(who: str, **named: int) -> None:
    """Every named size is a whole number of at least 1."""
    for name, value in named.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{who}: expected {name} to be a whole number of at least 1, got {value!r}. Set {name}.")


def heads(who: str, hidden_size: int, heads: int) -> None:
    """Heads of equal size."""
    sizes(who, hidden_size=hidden_size, heads=heads)
    if hidden_size % heads:
        raise ValueError(f"{who}: expected heads to divide hidden_size={hidden_size}, got {heads}. Change one of them.")


def rate(who: str, value: float, name: str = "rate", remedy: str = "Set rate=0 to switch off.") -> None:
    """A number such as the probability of dropping something: at least 0 and below 1."""
    if not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f"{who}: expected a {name} of at least 0 and below 1, got {value!r}. {remedy}")


def choice(who: str, name: str, value: Any, options: Iterable[Any]) -> None:
    """A value out of a fixed list."""
    options = list(options)
    if value not in options:
        listed = ", ".join(map(repr, options))
        raise ValueError(f"{who}: expected {name} to be one of {listed}, got {value!r}. Choose one of them.")


def inputs(who: str, x: Any, batch: tuple[int, ...], size: int) -> None:
    """One tick's input is ``[*B, size]`` and agrees with the batch axes of the state."""
    shape = np.shape(x)
    if len(shape) == 0 or shape[-1] != size:
        got = shape[-1] if shape else "a scalar"
        remedy = f"Set input_size={got} or project the inputs." if shape else "Add a feature axis."
        raise ValueError(f"{who}: expected inputs of size {size}, got {got} (one tick has shape {shape}). {remedy}")
    if shape[:-1] != tuple(batch):
        raise ValueError(
            f"{who}: expected inputs of batch shape {tuple(batch)} like the state, got {shape[:-1]} "
            f"(one tick has shape {shape}). Make the state with initial_state(params, {shape[:-1]})."
        )


def instance(who: str, value: Any, kind: type, remedy: str) -> None:
    """A cell where a cell belongs, a layer where a layer belongs."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{who}: expected {article} {kind.__name__}, got {type(value).__name__}. {remedy}")


def parts(who: str, count: int, params: Any, state: Any) -> None:
    """Params and state have one entry for each of the parts a module is made of."""
    for name, value in (("params", params), ("state", state)):
        if not isinstance(value, tuple | list) or len(value) != count:
            got = len(value) if isinstance(value, tuple | list) else f"a {type(value).__name__}"
            raise ValueError(
                f"{who}: expected {name} with an entry for each of the {count} parts, got {got}. "
                "Make params with init(key) and the state with initial_state(params, batch_shape)."
            )


def params_of(who: str, module: Any, params: Any) -> None:
    """Parameters are of the kind that the cell or layer draws: not another one's, and not its state.

    Types and sizes of tuples are compared, not shapes: what a sequence brings along travels in parameters too. Nothing
    is asked of a module made by hand, or of one whose ``init`` can't be traced.
    """
    expected = drawn(module) if records.call_of(module) else None
    if expected is None or (found := _unlike(expected, params, "params")) is None:
        return
    where, kind, got = found
    raise TypeError(
        f"{who}: expected parameters of {module.name}, {kind} at {where}, got {got}. "
        f"Draw them with init(key) of this {type(module).__name__.lower()}, and keep the order: params, then state."
    )


@functools.lru_cache(maxsize=256)
def drawn(module: Any) -> Any:
    """The types of a module's parameters; None where they cannot be traced."""
    try:
        return jax.eval_shape(module.init, jax.random.key(0))
    except Exception:
        return None  # an init for the host


def _unlike(expected: Any, got: Any, where: str) -> tuple[str, str, str] | None:
    """The first node of two trees that is a tuple of another type or size: where, which was expected, which came."""
    if not isinstance(expected, tuple) or not expected:
        return None
    fields = getattr(expected, "_fields", None)
    kind = type(expected).__name__ if fields else f"{len(expected)} parts"
    if not isinstance(got, tuple | list):
        is_array = hasattr(got, "shape") and hasattr(got, "dtype")
        return where, kind, f"an array of shape {got.shape}" if is_array else type(got).__name__
    another = type(expected) is not type(got) and hasattr(got, "_fields")  # a plain tuple may stand for any record
    if another or len(expected) != len(got):
        return where, kind, type(got).__name__ if hasattr(got, "_fields") or fields else f"{len(got)} parts"
    names = [f".{name}" for name in fields] if fields else [f"[{i}]" for i in range(len(expected))]
    pairs = (_unlike(a, b, where + name) for a, b, name in zip(expected, got, names))
    return next((found for found in pairs if found), None)


def mask_or_lengths(who: str, mask: Any, lengths: Any) -> None:
    """Two ways to say which ticks are real, of which one is given."""
    if mask is not None and lengths is not None:
        raise ValueError(f"{who}: expected mask or lengths, got both. Leave one out.")


def lengths(who: str, lengths: Any, length: int) -> jax.Array:
    """How many ticks of each sequence are real: integers from 0 to T, where their values are known while tracing."""
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"{who}: expected lengths of integers, got {lengths.dtype}. Cast them to int32.")
    if not isinstance(lengths, jax.core.Tracer):
        values = np.asarray(lengths)
        least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if least < 0 or (symbolic.known(length) and most > length):
            raise ValueError(
                f"{who}: expected lengths from 0 to the {length} ticks of xs, got {least if least < 0 else most}. "
                "Cut the lengths with the inputs, or pad the inputs further."
            )
    return jnp.asarray(lengths)


def features(who: str, xs: Any, size: int) -> None:
    """A chunk's inputs are ``[T, *B, size]``."""
    shape = np.shape(xs)
    if len(shape) < 2 or shape[-1] != size:
        raise ValueError(
            f"{who}: expected inputs [T, *batch, {size}], got shape {shape}. "
            "Make the size agree with what comes before, or add the missing axis."
        )


def integers(who: str, xs: Any) -> None:
    """Symbols are integers."""
    if not jnp.issubdtype(jnp.result_type(xs), jnp.integer):
        raise TypeError(f"{who}: expected integers, got {jnp.result_type(xs)}. Cast the symbols to int32.")


def symbols(who: str, xs: Any) -> jax.Array:
    """Integers as an array of at least 32 bits: in fewer, a comparison with a size that does not fit goes wrong."""
    xs = jnp.asarray(xs)
    integers(who, xs)
    return xs if xs.dtype.itemsize >= 4 else xs.astype(jnp.int32)


def floats(who: str, xs: Any) -> None:
    """Numbers that can be scaled."""
    if not jnp.issubdtype(jnp.result_type(xs), jnp.inexact):
        raise TypeError(f"{who}: expected floats, got {jnp.result_type(xs)}. Embed or cast them first.")


def ticks(who: str, name: str, flags: Any, xs: Any) -> Any:
    """A mask or reset is ``[T, *B]`` of bool, its axes the leading ones of every input; None passes."""
    if flags is None:
        return None
    flags = flags if hasattr(flags, "dtype") else np.asarray(flags)
    if flags.dtype != jnp.bool_:
        raise TypeError(f"{who}: expected {name} of bool, got {flags.dtype}. Compare with 0 or cast it to bool.")
    for path, leaf in jax.tree_util.tree_flatten_with_path(xs)[0]:
        if np.ndim(flags) == 0 or np.shape(leaf)[: np.ndim(flags)] != np.shape(flags):
            raise ValueError(
                f"{who}: expected {name} [T, *batch] like the leading axes of xs"
                f"{jax.tree_util.keystr(path)}, which has shape {np.shape(leaf)}, got {np.shape(flags)}. "
                "Time first, then the batch axes."
            )
    return jnp.asarray(flags)


def length(who: str, tree: Any) -> int:
    """T, the length of the first axis of every leaf."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    lengths = {jax.tree_util.keystr(path): np.shape(leaf)[:1] for path, leaf in leaves}
    if len(set(lengths.values())) != 1 or () in lengths.values() or (0,) in lengths.values():
        got = ", ".join(f"{where or 'array'} {size[0] if size else 'a scalar'}" for where, size in lengths.items())
        raise ValueError(
            f"{who}: expected leaves with one number of ticks, at least 1, on their first axis, got "
            f"{got or 'none'}. Put time first and cut all leaves alike."
        )
    return next(iter(lengths.values()))[0]


def shapes(who: str, name: str, got: tuple[int, ...], like: str, expected: tuple[int, ...]) -> None:
    """Two shapes that must be equal."""
    if tuple(got) != tuple(expected):
        raise ValueError(
            f"{who}: expected {name} of shape {tuple(expected)} like {like}, got {tuple(got)}. "
            "Add, drop or move axes so that they agree."
        )


def same_shapes(who: str, xs: Any, ys: Any) -> None:
    """Two trees of arrays that will be added leaf by leaf."""
    before, after = jax.tree.map(np.shape, xs), jax.tree.map(np.shape, ys)
    if before != after:
        raise ValueError(
            f"{who}: expected outputs of the inputs' shape {before}, got {after}. Make input and output size agree."
        )


def same_state(who: str, before: Any, after: Any) -> None:
    """A step returns a state of the structure, shapes and dtypes it was given."""
    expected, got = jax.tree.structure(before), jax.tree.structure(after)
    if expected != got:
        raise TypeError(
            f"{who}: expected step to return a state of structure {expected}, got {got}. "
            "Return the same tree of arrays that initial_state makes."
        )
    paths = jax.tree_util.tree_flatten_with_path(before)[0]
    for (path, old), new in zip(paths, jax.tree.leaves(after)):
        old_type, new_type = jax.typeof(old), jax.typeof(new)
        if old_type.shape != new_type.shape or old_type.dtype != new_type.dtype:
            raise TypeError(
                f"{who}: expected step to keep the state's type {old_type.str_short()} at "
                f"state{jax.tree_util.keystr(path)}, got {new_type.str_short()}. "
                "Cast it back in step, or make initial_state agree."
            )
