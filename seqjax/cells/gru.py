"""The gated recurrent unit, in its two variants."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, add_bias, dot, recurrent_input

GATES = ("r", "z", "n")


class GRUParams(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [h, 3h]``, ``b [3h]`` or None; gates in the order r, z, n.

    ``b_n [h]`` is c_n, the candidate's bias inside the reset; None where the variant has none.
    """

    w_x: Array
    w_h: Array
    b: Bias
    b_n: Array | None


def gru(
    input_size: int,
    hidden_size: int,
    *,
    reset: str = "after",
    inner_bias: bool | None = None,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[GRUParams, Array]:
    """The gated recurrent unit: z copies the old state, r decides how much of it the candidate sees.

        r, z = σ(x W + h U + b)
        n = tanh(x Wₙ + bₙ + r ⊙ (h Uₙ + cₙ))      reset after the recurrent product (torch, cuDNN)
        n = tanh(x Wₙ + bₙ + (r ⊙ h) Uₙ)           reset before it (the paper; no cₙ)
        h' = z ⊙ h + (1-z) ⊙ n                     y = h'

    Other texts write h' = (1-z) ⊙ h + z ⊙ n: their z is 1-z here. `swap_update_gate` maps one's parameters to
    the other's. Gate order r, z, n as in torch.

    Args:
      input_size: d.
      hidden_size: h.
      reset: ``"after"`` or ``"before"`` the recurrent product of the candidate.
      inner_bias: whether there is a cₙ; if None, where reset is after the product and there is a bias at all.
        Without it the cell has 3h(d+h+1) parameters, with it h more.
      w_x_init: initialiser of each gate's block of W.
      w_h_init: initialiser of each gate's block of U.
      b_init: bias initialiser; None for no bias at all.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1, an unknown ``reset``, an inner bias with reset before the product, or inputs
        of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.gru(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 6)

    References:
      Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
      https://arxiv.org/abs/1406.1078
    """
    checks.sizes("gru", input_size=input_size, hidden_size=hidden_size)
    checks.choice("gru", "reset", reset, ("after", "before"))
    if inner_bias and reset == "before":
        raise ValueError(
            "gru: expected no inner bias with reset='before', where cₙ and bₙ would be one and the same, got "
            "inner_bias=True. Leave it out or use reset='after'."
        )
    if inner_bias is None:
        inner_bias = reset == "after" and b_init is not None
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> GRUParams:
        weights = draw(key, GATES, input_size, hidden_size)
        return GRUParams(*weights, jnp.zeros(hidden_size, weights.w_h.dtype) if inner_bias else None)

    def initial_state(params: GRUParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> Array:
        return zeros(batch_shape, hidden_size, params.w_h)

    def step(params: GRUParams, h: Array, x: Array) -> tuple[Array, Array]:
        checks.inputs("gru", x, h.shape[:-1], input_size)
        h_in = recurrent_input(h)
        a_r, a_z, a_n = jnp.split(add_bias(dot(x, params.w_x, compute_dtype), params.b), 3, axis=-1)
        if reset == "after":
            u_r, u_z, u_n = jnp.split(dot(h_in, params.w_h, compute_dtype), 3, axis=-1)
            r, z = jax.nn.sigmoid(a_r + u_r), jax.nn.sigmoid(a_z + u_z)
            n = jnp.tanh(a_n + r * add_bias(u_n, params.b_n))
        else:
            w_rz, w_n = jnp.split(params.w_h, [2 * hidden_size], axis=-1)
            u_r, u_z = jnp.split(dot(h_in, w_rz, compute_dtype), 2, axis=-1)
            r, z = jax.nn.sigmoid(a_r + u_r), jax.nn.sigmoid(a_z + u_z)
            n = jnp.tanh(a_n + dot(r * h_in, w_n, compute_dtype))
        h = z * h + (1 - z) * n
        return h, h

    return Cell(init, initial_state, step)


def swap_update_gate(params: GRUParams) -> GRUParams:
    """Parameters of h' = (1-z) ⊙ h + z ⊙ n as parameters of h' = z ⊙ h + (1-z) ⊙ n, and back.

    1 - σ(a) = σ(-a), so the update gate's weights and bias change sign.
    """

    def flip(w: Array) -> Array:
        r, z, n = jnp.split(w, 3, axis=-1)
        return jnp.concatenate([r, -z, n], axis=-1)

    b = params.b
    if isinstance(b, tuple):
        r, z, n = b
        b = (r, None if z is None else -z, n)
    elif b is not None:
        b = flip(b)
    return params._replace(w_x=flip(params.w_x), w_h=flip(params.w_h), b=b)
