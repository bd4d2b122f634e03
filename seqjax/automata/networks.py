"""Recurrent networks whose weights are set by hand, or by a compiler, and which are exact at any length."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, initializers
from seqjax.automata.dfa import DFA
from seqjax.base import Array, Cell
from seqjax.products import accumulator, add_bias, dot
from seqjax.records import maker


class NetworkParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``b [h]``, ``h_0 [h]``, ``w_y [h, k]``, ``b_y [k]``."""

    w_x: Array
    w_h: Array
    b: Array
    h_0: Array
    w_y: Array
    b_y: Array


def threshold(a: Array) -> Array:
    """1 where a > 0, otherwise 0. Its gradient is zero."""
    return (a > 0).astype(a.dtype)


def identity(a: Array) -> Array:
    """The linear unit."""
    return a


@maker
def network(
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    hidden: Callable[[Array], Array] = threshold,
    output: Callable[[Array], Array] = threshold,
    dtype: jnp.dtype | None = None,
) -> Cell[NetworkParams, Array]:
    """The simple recurrent network with its readout and initial state, as the textbooks draw it.

        h' = φ(x W + h U + b)        y = ψ(h' V + c)        h_0 a parameter

    Args:
      input_size: d.
      hidden_size: h.
      output_size: k.
      hidden: φ, `threshold` by default.
      output: ψ, `threshold` by default.
      dtype: of the parameters; JAX's default float if None.

    Returns:
      A cell with state h ``[*B, h]`` and output y ``[*B, k]``. ``init`` draws random weights; `compile` and the
      functions beside it set them.
    """
    checks.sizes("network", input_size=input_size, hidden_size=hidden_size, output_size=output_size)

    def init(key: Array) -> NetworkParams:
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        keys = jax.random.split(key, 3)
        return NetworkParams(
            initializers.input_weights(keys[0], (input_size, hidden_size), kind),
            initializers.recurrent_weights(keys[1], (hidden_size, hidden_size), kind),
            jnp.zeros(hidden_size, kind),
            jnp.zeros(hidden_size, kind),
            initializers.input_weights(keys[2], (hidden_size, output_size), kind),
            jnp.zeros(output_size, kind),
        )

    def initial_state(params: NetworkParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> Array:
        return jnp.broadcast_to(params.h_0.astype(accumulator(params.h_0.dtype)), (*batch_shape, hidden_size))

    def step(params: NetworkParams, h: Array, x: Array) -> tuple[Array, Array]:
        checks.inputs("network", x, h.shape[:-1], input_size)
        h = hidden(add_bias(dot(x, params.w_x) + dot(h, params.w_h), params.b))
        return h, output(add_bias(dot(h, params.w_y), params.b_y))

    return Cell(init, initial_state, step)


def compile(dfa: DFA, dtype: jnp.dtype | None = None) -> tuple[Cell[NetworkParams, Array], NetworkParams]:
    """An automaton as a recurrent network of threshold units, exact on every string of any length.

    Unit (q, a) is on after a tick that left state q by symbol a. It adds the units that enter q and the input unit of
    a, and fires where both are on. One more unit stands for the start, before the first tick.

        h'_(q,a) = [Σ_{δ(p,b)=q} h_(p,b) + x_a > 3/2]        y = [Σ_{δ(q,a) accepts} h_(q,a) > 1/2]

    All sums are small whole numbers, so that any float type is exact, bfloat16 too.

    Args:
      dfa: the automaton, Q states over V symbols.
      dtype: of the parameters; JAX's default float if None.

    Returns:
      The cell, with Q·V + 1 units, and its parameters. Inputs are one-hot ``[*B, V]``
      (``jax.nn.one_hot(automata.encode(dfa, string), V)``), outputs ``[*B, 1]``, 1 where the string so far is
      accepted. Automata of equal Q and V share a cell: their parameters stack and run under `jax.vmap`
      (see `weights`).

    Example:
      >>> import jax, seqjax as sj
      >>> from seqjax import automata
      >>> dfa = automata.regex("(ab)*")
      >>> cell, params = automata.compile(dfa)
      >>> xs = jax.nn.one_hot(automata.encode(dfa, "abab"), 2)
      >>> _, ys = sj.unroll(cell, params, cell.initial_state(params), xs)
      >>> ys[:, 0].tolist()
      [0.0, 1.0, 0.0, 1.0]

    References:
      Minsky (1967), Computation: finite and infinite machines, chapter 3.
    """
    states, symbols = dfa.transition.shape
    params = weights(jnp.asarray(dfa.transition), jnp.asarray(dfa.accepting), dfa.start, dtype)
    return network(symbols, states * symbols + 1, 1, dtype=dtype), params


def weights(transition: Array, accepting: Array, start: int = 0, dtype: jnp.dtype | None = None) -> NetworkParams:
    """The weights of `compile` from a table; `jax.vmap` compiles many tables at once.

    Args:
      transition: ``[Q, V]`` of int.
      accepting: ``[Q]`` of bool.
      start: the state before the first symbol.
      dtype: JAX's default float if None.
    """
    kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
    states, symbols = np.shape(transition)
    units = states * symbols + 1
    enters = jnp.eye(states, dtype=kind)[jnp.append(jnp.ravel(transition), start)]  # the state a unit leads to
    return NetworkParams(
        w_x=jnp.pad(jnp.tile(jnp.eye(symbols, dtype=kind), states), [(0, 0), (0, 1)]),
        w_h=jnp.pad(jnp.repeat(enters, symbols, axis=1), [(0, 0), (0, 1)]),
        b=jnp.full(units, -1.5, kind),
        h_0=jnp.eye(units, dtype=kind)[-1],
        w_y=(enters @ jnp.asarray(accepting, kind))[:, None],
        b_y=jnp.full(1, -0.5, kind),
    )


def running_sum(dtype: jnp.dtype | None = None) -> tuple[Cell[NetworkParams, Array], NetworkParams]:
    """One linear unit that adds its inputs: h' = x + h, y = h'. Inputs ``[*B, 1]``.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> from seqjax import automata
      >>> cell, params = automata.running_sum()
      >>> _, ys = sj.unroll(cell, params, cell.initial_state(params), jnp.array([[2.0], [-0.5], [1.0]]))
      >>> ys[:, 0].tolist()
      [2.0, 1.5, 2.5]
    """
    params = _params([[1]], [[1]], [0], [[1]], [0], dtype)
    return network(1, 1, 1, hidden=identity, output=identity, dtype=dtype), params


def larger_total(dtype: jnp.dtype | None = None) -> tuple[Cell[NetworkParams, Array], NetworkParams]:
    """Which of two inputs has the larger total so far: h' = x_1 - x_2 + h, y = [h' > 0]. Inputs ``[*B, 2]``."""
    params = _params([[1], [-1]], [[1]], [0], [[1]], [0], dtype)
    return network(2, 1, 1, hidden=identity, dtype=dtype), params


def parity(dtype: jnp.dtype | None = None) -> tuple[Cell[NetworkParams, Array], NetworkParams]:
    """Whether the number of ones so far is odd. Inputs ``[*B, 1]`` of 0 and 1.

    The parity so far is p = h_or - h_and, and no single threshold unit computes p ⊕ x; two do:

        h'_or = [x + p > 1/2]        h'_and = [x + p > 3/2]        y = [h'_or - h'_and > 1/2]
    """
    params = _params([[1, 1]], [[1, 1], [-1, -1]], [-0.5, -1.5], [[1], [-1]], [-0.5], dtype)
    return network(1, 2, 1, dtype=dtype), params


def _params(w_x: list, w_h: list, b: list, w_y: list, b_y: list, dtype: jnp.dtype | None) -> NetworkParams:
    kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
    return NetworkParams(*(jnp.array(p, kind) for p in (w_x, w_h, b, [0] * len(b), w_y, b_y)))
