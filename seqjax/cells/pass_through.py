"""Pass-through gating, the idea behind the GRU."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax.base import Array, Cell
from seqjax.cells.factory import WeightOptions, from_gates, weighted
from seqjax.products import Bias, preactivation
from seqjax.records import maker


class PassThroughParams(NamedTuple):
    """``w_x [d, 2h]``, ``w_h [h, 2h]``, ``b [2h]``; the candidate n, then the gate z."""

    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted()
def pass_through(
    input_size: int,
    hidden_size: int,
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    **options: Unpack[WeightOptions],
) -> Cell[PassThroughParams, Array]:
    """A recurrent layer with a gate that lets the old state pass through: a GRU without its reset gate.

        n = φ(x W + h U + b)        z = σ(x W_z + h U_z + b_z)
        h' = z ⊙ h + (1-z) ⊙ n      y = h'

    At z = 1 the state is held exactly, at z = 0 the unit is an Elman unit. Gate order n, z. With
    ``b_init=seqjax.initializers.chrono(longest)`` the gate starts by holding.

    Args:
      activation: φ of the candidate.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.pass_through(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 4)

    References:
      Zhou, Wu, Zhang and Zhou (2016), Minimal gated unit for recurrent neural networks (the same unit with a
      reset by its one gate). https://arxiv.org/abs/1603.09420
    """

    def step(params: PassThroughParams, h: Array, x: Array) -> tuple[Array, Array]:
        n, z = jnp.split(preactivation(x, h, *params, options["compute_dtype"]), 2, axis=-1)
        z = jax.nn.sigmoid(z)
        h = z * h + (1 - z) * activation(n)
        return h, h

    return from_gates("pass_through", ("n", "z"), input_size, hidden_size, step, options, record=PassThroughParams)
