"""What factories of cells share: their keywords, the draws of weights by gates, zero states and checks.

A cell states its gates' names and its step, ``(params, state, x) -> (state, y)``; `from_gates` makes the rest, or
`from_heads` where U is block-diagonal.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, get_args

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell, Key
from seqjax.cells.states import zeros
from seqjax.initializers import BiasInitializer, GateWeights, Initializer, gate_weights, head_weights

Activation = Callable[[Array], Array]
Options = ParamSpec("Options")
P = TypeVar("P")
S = TypeVar("S")


class DtypeOptions(TypedDict, total=False):
    """`WeightOptions` of a cell that draws its weights in a way of its own."""

    dtype: jnp.dtype | None
    compute_dtype: jnp.dtype | None


class ChannelOptions(DtypeOptions, total=False):
    """`WeightOptions` of a cell whose gates are drawn as its paper says: W brings inputs to h channels."""

    w_x_init: Initializer


class InputOptions(ChannelOptions, total=False):
    """`WeightOptions` of a cell whose gates see the input only: there is no U."""

    b_init: BiasInitializer | None


class ProductOptions(DtypeOptions, total=False):
    """`WeightOptions` of a cell that has no bias."""

    w_x_init: Initializer
    w_h_init: Initializer


class WeightOptions(ProductOptions, total=False):
    """Keywords of every cell, beside its sizes: ``input_size``, d numbers of an input, and ``hidden_size``, h units.

    A size below 1 raises a ValueError, as do inputs of another size in the first step; an unknown keyword a TypeError.

    Attributes:
      w_x_init: initialiser of each gate's block ``[d, h]`` of W; Glorot's uniform one.
      w_h_init: initialiser of each gate's block ``[h, h]`` of U, of each head's where there are heads; orthogonal.
      b_init: initialiser of the bias, such as `seqjax.initializers.chrono` or, for a bias in some gates,
        `seqjax.initializers.only`; None for no bias at all. Zeros, with 1 in the forget gate of an LSTM.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None. Sums and states stay in float32 or wider.
    """

    b_init: BiasInitializer | None


class GateOptions(WeightOptions, total=False):
    """`WeightOptions` and the functions of a gated cell.

    Attributes:
      activation: φ of the candidate, written tanh in the equations, and of the memory where an LSTM gives it out.
      gate_activation: of the gates, written σ in the equations, such as `jax.nn.hard_sigmoid`.
    """

    activation: Activation
    gate_activation: Activation


DEFAULTS = {
    "w_x_init": initializers.input_weights,
    "w_h_init": initializers.recurrent_weights,
    "b_init": initializers.zero_bias,
    "dtype": None,
    "compute_dtype": None,
    "activation": jnp.tanh,
    "gate_activation": jax.nn.sigmoid,
}


def weighted(**defaults: Any) -> Callable[[Callable[Options, P]], Callable[Options, P]]:
    """Fills in the shared keywords of a factory, shows them in its signature and refuses any other in its name.

    Args:
      **defaults: where they differ from `DEFAULTS`.

    Returns:
      A decorator of a function that ends in ``**options: Unpack[WeightOptions]``, a base or a heir of it.

    Example:
      >>> import seqjax as sj
      >>> sj.cells.lstm(3, 4, b_initt=None)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      TypeError: lstm: expected one of the keywords ..., got 'b_initt'. Correct it.
    """

    def decorate(make: Callable[Options, P]) -> Callable[Options, P]:
        *own, shared = inspect.signature(make).parameters.values()
        types = inspect.get_annotations(get_args(shared.annotation)[0])
        filled = {name: value for name, value in (DEFAULTS | defaults).items() if name in types}
        parameters = own + [
            inspect.Parameter(name, shared.KEYWORD_ONLY, default=value, annotation=types[name])
            for name, value in filled.items()
        ]
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

        @functools.wraps(make)
        def made(*args: Options.args, **kwargs: Options.kwargs) -> P:
            for name in kwargs:
                if name not in known and name not in (p.name for p in own):
                    raise TypeError(
                        f"{make.__name__}: expected one of the keywords {', '.join(known)}, got {name!r}. Correct it."
                    )
            return make(*args, **(filled | kwargs))

        made.__signature__ = inspect.signature(make).replace(parameters=parameters)  # type: ignore[attr-defined]
        return made

    return decorate


def drawing(options: WeightOptions) -> dict[str, Any]:
    """The options of the draw."""
    drawn = ("w_x_init", "w_h_init", "b_init", "dtype")
    return {name: value for name, value in options.items() if name in drawn}


def checked(
    who: str,
    input_size: int,
    init: Callable[[Key], P],
    start: Callable[[P, tuple[int, ...]], S],
    step: Callable[[P, S, Array], tuple[S, Any]],
    unit_axes: int = 1,
) -> Cell[P, S]:
    """A cell whose step looks at the shape of its inputs first; ``start(params, batch_shape)`` is the state at rest."""

    def initial_state(params: P, batch_shape: tuple[int, ...] = (), *, key: Key | None = None) -> S:
        return start(params, batch_shape)

    def checked_step(params: P, state: S, x: Array) -> tuple[S, Any]:
        h: Any = state[0] if isinstance(state, tuple) else state
        checks.inputs(who, x, h.shape[:-unit_axes], input_size)
        return step(params, state, x)

    return Cell(init, initial_state, checked_step)


def from_gates(
    who: str,
    gates: tuple[str, ...],
    input_size: int,
    hidden_size: int,
    step: Callable[[P, S, Array], tuple[S, Array]],
    options: WeightOptions,
    *,
    record: Callable[..., P] = GateWeights,  # type: ignore[assignment]
    state: Callable[[tuple[int, ...], int, Array], S] = zeros,  # type: ignore[assignment]
) -> Cell[P, S]:
    """A cell of ``x W + h U + b``, all gates side by side.

    Args:
      who: its name in errors.
      gates: their names, in order; what a bias initialiser knows them by.
      step: the recurrence.
      options: the shared keywords, as `weighted` fills them in.
      record: makes the parameters of ``(w_x, w_h, b)``.
      state: makes the state before the first tick of ``(batch_shape, h, w_h)``.

    Returns:
      The cell.

    Raises:
      ValueError: a size below 1.
    """
    checks.sizes(who, input_size=input_size, hidden_size=hidden_size)

    def init(key: Key) -> P:
        return record(*gate_weights(key, gates, input_size, hidden_size, **drawing(options)))

    return checked(who, input_size, init, lambda params, batch: state(batch, hidden_size, params.w_h), step)  # type: ignore[attr-defined]


def from_heads(
    who: str,
    gates: tuple[str, ...],
    input_size: int,
    hidden_size: int,
    heads: int,
    step: Callable[[P, S, Array], tuple[S, Array]],
    options: WeightOptions,
    *,
    record: Callable[..., P],
    state: Callable[[tuple[int, ...], int, Array], S],
) -> Cell[P, S]:
    """As `from_gates`, in heads of k = h / heads units: U is ``[heads, k, gates · k]``, states ``[*B, heads, k]``."""
    checks.sizes(who, input_size=input_size)
    checks.heads(who, hidden_size, heads)
    draws = drawing(options)
    w_h_init = draws.pop("w_h_init")

    def init(key: Key) -> P:
        own, recurrent = jax.random.split(key)
        w_x, _, b = gate_weights(own, gates, input_size, hidden_size, **draws)
        return record(w_x, head_weights(recurrent, gates, hidden_size, heads, init=w_h_init, dtype=draws["dtype"]), b)

    def start(params: P, batch_shape: tuple[int, ...]) -> S:
        return state((*batch_shape, heads), hidden_size // heads, params.w_h)  # type: ignore[attr-defined]

    return checked(who, input_size, init, start, step, unit_axes=2)
