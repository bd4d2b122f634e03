"""Values of a tick that do not depend on the state, for all ticks; of one entry along axes where they are the same."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Jaxpr, Var
from seqjax.engines.linear.matrix.forms import Known, Pairs, UnstructuredError, Value, said

POINTWISE = {
    "abs", "add", "add_any", "and", "convert_element_type", "copy", "cos", "div", "eq", "erf", "exp", "exp2", "expm1",
    "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne",
    "neg", "not", "or", "pow", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "sub", "tan", "tanh",
    "xor",
}  # fmt: skip
MOVES = {"broadcast_in_dim", "expand_dims", "reshape", "squeeze", "transpose"}


def literal(v: Var) -> Known:
    """A constant written into an equation; a NumPy array, so that a zero can be told."""
    return Known(np.asarray(v.val, v.aval.dtype).reshape((1,) * (1 + v.aval.ndim)))  # type: ignore[arg-type]


def is_zero(x: jax.Array | np.ndarray) -> bool:
    """Whether a value is the constant zero."""
    return isinstance(x, np.ndarray) and x.size == 1 and not x.any()


def made(template: Jaxpr, e: Equation, arrays: list, v: Var, state: tuple[int, ...]) -> Known | Pairs:
    """One of an equation's results.

    Args:
      template: the jaxpr that the equation comes from.
      e: the equation.
      arrays: its operands, ``[C or 1, …]``.
      v: which result.
      state: the shape of S.

    Raises:
      UnstructuredError: a value as large as S that is no outer product.
    """
    name, large = e.primitive.name, math.prod(v.aval.shape) >= math.prod(state)
    if name in MOVES and (there := moved(e, arrays[0], e.invars[0].aval.shape)) is not None:
        return Known(there)
    if name in POINTWISE:
        rank = 1 + v.aval.ndim
        arrays = [x.reshape((1,) * (rank - x.ndim) + x.shape) if x.ndim < rank else x for x in arrays]
        shape = jnp.broadcast_shapes(*(x.shape for x in arrays))
        dense = large and all(math.prod(x.shape[1:]) < math.prod(shape[1:]) for x in arrays)
        if dense and name == "mul":
            return Pairs(((arrays[0], arrays[1]),))
        if dense and name in ("add", "sub", "add_any"):
            x, y = arrays
            one = jnp.ones((1,) * rank, x.dtype)
            return Pairs(((x, one), (one, -y if name == "sub" else y)))
        if not dense:
            return Known(e.primitive.bind(*(jnp.broadcast_to(x, shape) for x in arrays), **e.params))
    if name == "dot_general" and large and (pair := outer(e, arrays)) is not None:
        return Pairs((pair,))
    if large:
        raise UnstructuredError(f"{said(e)}, as large as the state, which is no outer product")
    length = max(x.shape[0] for x in arrays)
    full = [jnp.broadcast_to(x, (x.shape[0], *u.aval.shape)) for x, u in zip(arrays, e.invars)]
    ticks = [0 if x.shape[0] == length else None for x in full]
    place = e.outvars.index(v)

    def one_tick(*values: jax.Array) -> jax.Array:
        return jaxprs.evaluate(template, e, values)[place]

    return Known(
        jax.vmap(one_tick, ticks, axis_size=length)(*(x if tick == 0 else x[0] for x, tick in zip(full, ticks)))
    )


def pairs(value: Value) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """A known value as a sum of products."""
    if isinstance(value, Known):
        return ((value.array, jnp.ones((1,) * value.array.ndim, value.array.dtype)),)
    assert isinstance(value, Pairs)
    return value.pairs


def pairs_times(x: Value, y: Value, e: Equation) -> Pairs:
    """Σ x ⊙ y times a known value, which joins the factor that varies wherever it does."""
    pairs, factor = (x, y) if isinstance(x, Pairs) else (y, x)
    if not isinstance(factor, Known) or not isinstance(pairs, Pairs):
        raise UnstructuredError(f"{said(e)}: a product of matrices")
    made = []
    for a, b in pairs.pairs:
        shape = factor.array.shape
        if jnp.broadcast_shapes(a.shape[1:], shape[1:]) == a.shape[1:]:
            made.append((a * factor.array, b))
        elif jnp.broadcast_shapes(b.shape[1:], shape[1:]) == b.shape[1:]:
            made.append((a, b * factor.array))
        else:
            wide = jnp.broadcast_shapes(a.shape[1:], shape[1:])
            if sum(n > 1 for n in wide) >= e.outvars[0].aval.ndim:
                raise UnstructuredError(f"{said(e)}: a factor that varies along both axes of the state")
            made.append((a * factor.array, b))
    return Pairs(tuple(made))


def sourced(x: jax.Array, sources: list[int | None]) -> jax.Array:
    """An array whose axes behind the first are those of another, by their places, or new."""
    order = [0, *(1 + s for s in sources if s is not None)]
    dropped = [i for i in range(1, x.ndim) if i not in order]
    x = x.reshape([n for i, n in enumerate(x.shape) if i not in dropped])
    rank = {place: i for i, place in enumerate(sorted(order))}
    x = x.transpose([rank[place] for place in order])
    sizes = iter(x.shape[1:])
    return x.reshape(x.shape[0], *(1 if s is None else next(sizes) for s in sources))


def same_but_ones(before: tuple[int, ...], after: tuple[int, ...]) -> list[int | None] | None:
    """Of each axis behind a reshape the one before, where only axes of one entry come and go."""
    wide = [i for i, n in enumerate(before) if n != 1]
    if [before[i] for i in wide] != [n for n in after if n != 1]:
        return None
    left = iter(wide)
    return [None if n == 1 else next(left) for n in after]


def moved(e: Equation, x: jax.Array, shape: tuple[int, ...]) -> jax.Array | None:
    """A known value moved, with one entry kept where it is the same; None where that does not do."""
    name, after = e.primitive.name, e.outvars[0].aval.shape
    if name == "broadcast_in_dim":
        places = e.params["broadcast_dimensions"]
        return sourced(x, [places.index(d) if d in places else None for d in range(len(after))])
    if name == "transpose":
        return sourced(x, list(e.params["permutation"]))
    sources = same_but_ones(shape, after)
    return None if sources is None else sourced(x, sources)


def outer(e: Equation, arrays: list[jax.Array]) -> tuple[jax.Array, jax.Array] | None:
    """The factors of a product without a sum, in the axes of the result."""
    (left, right), (left_batch, right_batch) = e.params["dimension_numbers"]
    if any(e.invars[0].aval.shape[i] != 1 for i in left):
        return None
    gone = [{*left_batch, *left}, {*right_batch, *right}]
    free = [[i for i in range(v.aval.ndim) if i not in some] for v, some in zip(e.invars, gone)]
    first = [*left_batch, *free[0], *(None for _ in free[1])]
    second = [*right_batch, *(None for _ in free[0]), *free[1]]
    dtype = e.outvars[0].aval.dtype
    x, y = sourced(arrays[0], first), sourced(arrays[1], second)
    return x.astype(dtype), y.astype(dtype)
