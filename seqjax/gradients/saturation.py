"""Gates of any cell and their saturation, read off the equations of its step."""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from seqjax import base
from seqjax.base import Array, Cell, Params, PyTree, State
from seqjax.engines.equations import jaxprs
from seqjax.records import maker

# The range of a squashing function; a value is saturated in the lowest or highest part of it.
RANGES = {"logistic": (0.0, 1.0), "tanh": (-1.0, 1.0)}


class Saturation(NamedTuple):
    """The fraction of units near the ends of a squashing function's range, ``[T, *B]`` each.

    Attributes:
      low: near 0 for σ, near -1 for tanh.
      high: near 1.
    """

    low: Array
    high: Array


@maker
def with_gates(cell: Cell[Params, State]) -> Cell[Params, State]:
    """A cell that gives out, beside its output, every σ and tanh of its step, unit by unit.

    Found are all σ and tanh of the traced step that depend on the state or the input; not those inside loops or
    functions with a derivative rule of their own, and no other squashing function.

    Args:
      cell: any cell.

    Returns:
      A cell with output ``(y, {name: value})``, named ``"0 logistic"``, ``"1 tanh"`` … in the order of the step's
      equations, values ``[*B, k]``.

    Example:
      The forget gate of an LSTM comes first in its equations, then i, g, o and tanh(c'):

      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.gradients.with_gates(sj.lstm(1, 2))
      >>> params = cell.init(jax.random.key(0))
      >>> _, (y, gates) = cell.step(params, cell.initial_state(params), jnp.zeros(1))
      >>> list(gates), gates["0 logistic"].round(3).tolist()
      (['0 logistic', '1 logistic', '2 tanh', '3 logistic', '4 tanh'], [0.7310000061988831, 0.7310000061988831])

    References:
      Karpathy, Johnson and Fei-Fei (2015), Visualizing and understanding recurrent networks.
      https://arxiv.org/abs/1506.02078
    """

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, tuple[PyTree, dict[str, Array]]]:
        closed, out = jax.make_jaxpr(cell.step, return_shape=True)(params, state, x)
        flat = jaxprs.inlined(closed)
        moving = flat.jaxpr.invars[len(jax.tree.leaves(params)) :]
        varying = jaxprs.dependent(flat.jaxpr.eqns, moving)
        found: dict[str, Array] = {}

        def rule(equation: jaxprs.Equation, inputs: list) -> Sequence | None:
            name = equation.primitive.name
            if name not in RANGES or equation.outvars[0] not in varying:
                return None
            value = equation.primitive.bind(*inputs, **equation.params)
            found[f"{len(found)} {name}"] = value
            return [value]

        values = jax.tree.leaves((params, state, x))
        leaves = jaxprs.interpret(flat.jaxpr, flat.consts, values, rule)
        state, y = jax.tree.structure(out).unflatten(leaves)
        return state, (y, found)

    return Cell(cell.init, cell.initial_state, step)


@maker
def with_saturation(cell: Cell[Params, State], part: float = 0.1) -> Cell[Params, State]:
    """A cell that gives out, beside its output, how saturated each gate of `with_gates` is.

        low = fraction of units in the lowest part of the range      high = in the highest

    With ``part=0.1`` a σ is saturated below 0.1 and above 0.9, a tanh below -0.8 and above 0.8.

    Args:
      cell: any cell.
      part: the part of the range at each end that counts as saturated.

    Returns:
      A cell with output ``(y, {name: Saturation})``.

    Raises:
      ValueError: a part outside (0, 0.5].

    References:
      Karpathy, Johnson and Fei-Fei (2015), Visualizing and understanding recurrent networks.
      https://arxiv.org/abs/1506.02078
    """
    if not 0 < part <= 0.5:
        raise ValueError(f"with_saturation: expected a part in (0, 0.5], got {part!r}. Use 0.1 for 10% at each end.")
    gated = with_gates(cell)

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, tuple[PyTree, dict[str, Saturation]]]:
        batch_axes = len(base.batch_shape(cell, params, state) or ())
        state, (y, gates) = gated.step(params, state, x)
        found = {name: _saturation(value, RANGES[name.split()[1]], part, batch_axes) for name, value in gates.items()}
        return state, (y, found)

    return Cell(cell.init, cell.initial_state, step)


def _saturation(value: Array, ends: tuple[float, float], part: float, batch_axes: int) -> Saturation:
    low, high = ends
    margin, units = part * (high - low), tuple(range(batch_axes, value.ndim))
    fraction = lambda saturated: saturated.astype(value.dtype).mean(units)
    return Saturation(fraction(value < low + margin), fraction(value > high - margin))
