"""Echo-state reservoirs: recurrent weights that are drawn, scaled and left alone."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, fixing, initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import DtypeOptions, checked, weighted
from seqjax.cells.states import zeros
from seqjax.products import add_bias, along, dot, preactivation, recurrent_input
from seqjax.records import maker


class EchoStateParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``b [h]``."""

    w_x: Array
    w_h: Array
    b: Array


class SparseEchoStateParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [c, h]``: row i holds the weights over the i-th distance around the ring, ``b [h]``."""

    w_x: Array
    w_h: Array
    b: Array


@maker
@weighted()
def echo_state(
    input_size: int,
    hidden_size: int,
    *,
    leak: float = 1.0,
    radius: float = 0.9,
    input_scale: float | tuple[float, ...] = 0.5,
    bias_scale: float = 0.5,
    density: float = 1.0,
    trainable: bool = False,
    **options: Unpack[DtypeOptions],
) -> Cell[EchoStateParams, Array]:
    """The echo-state reservoir: leaky tanh units with random weights, of which only a readout is trained.

        h' = (1-a) h + a tanh(x W + h U + b)        y = h'

    W and b are uniform in ± their scale; U is uniform, scaled to a spectral radius. The weights are under
    `jax.lax.stop_gradient` and cost the backward pass nothing, and no optimizer moves them (`seqjax.fixed`); with
    ``trainable=True`` the same parameters can be fine-tuned. A reservoir with feedback reads its target beside its
    input, as an input of its own: `seqjax.reservoir`.

    Args:
      input_size: d, feedback included.
      leak: a in (0, 1], the share of the state that is new each tick.
      radius: the largest modulus of an eigenvalue of U. Below 1 the reservoir forgets its past on any input; above,
        only on inputs that drive it hard enough.
      input_scale: the largest weight of W; one for all inputs or one for each.
      bias_scale: the largest bias.
      density: the share of weights in U that are not zero. For speed see `sparse_echo_state`.
      trainable: whether the weights are trained.
      **options: size and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h. ``init`` finds eigenvalues on the host and cannot be traced.

    Raises:
      ValueError: a size below 1, a leak outside (0, 1], a radius or density that is not positive, scales that do not
        match the inputs.
      TypeError: ``init`` under `jax.jit` or `jax.vmap`.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.echo_state(1, 50, leak=0.3, radius=1.25)
      >>> params = cell.init(jax.random.key(0))
      >>> abs(jax.numpy.linalg.eigvals(params.w_h)).max().round(3).tolist()
      1.25

    References:
      Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks.
      Jaeger, Lukoševičius, Popovici and Siewert (2007), Optimization and applications of echo state networks with
      leaky-integrator neurons. https://doi.org/10.1016/j.neunet.2007.04.016
    """
    _check("echo_state", input_size, hidden_size, leak, radius, input_scale)
    draw = initializers.spectral_radius(radius, density)

    def init(key: Array) -> EchoStateParams:
        w_x, b, w_h_key = _drawn("echo_state", key, input_size, hidden_size, input_scale, bias_scale, options["dtype"])
        params = EchoStateParams(w_x, draw(w_h_key, (hidden_size, hidden_size), b.dtype), b)
        return params if trainable else fixing.stays(params)

    def drive(params: EchoStateParams, h: Array, x: Array) -> Array:
        return preactivation(x, h, *params, options["compute_dtype"])

    return _leaky("echo_state", init, drive, input_size, hidden_size, leak, trainable)


@maker
def sparse_echo_state(
    input_size: int,
    hidden_size: int,
    *,
    connections: int = 10,
    leak: float = 1.0,
    radius: float = 0.9,
    input_scale: float | tuple[float, ...] = 0.5,
    bias_scale: float = 0.5,
    trainable: bool = False,
    dtype: jnp.dtype | None = None,
) -> Cell[SparseEchoStateParams, Array]:
    """An echo-state reservoir in which each unit reads a few others: h·c products a tick in place of h².

        h'_j = (1-a) h_j + a tanh((x W)_j + Σ_i u_ij h_{j-d_i} + b_j)        y = h'

    The units stand on a ring and read those at c distances d_i, drawn once for a size and number of connections; the
    weights u are random for every pair. So U is sparse without an index: rolled states times weights, which every
    device does at memory speed.

    Args:
      input_size: d, feedback included.
      connections: c, at most h.
      leak: a in (0, 1].
      radius: the largest modulus of an eigenvalue of U.
      input_scale: the largest weight of W; one for all inputs or one for each.
      bias_scale: the largest bias.
      trainable: whether the weights are trained.
      dtype: of the parameters; JAX's default float if None.

    Returns:
      A cell with state h ``[*B, h]`` and output h. ``init`` finds eigenvalues on the host and cannot be traced.

    Raises:
      ValueError: as in `echo_state`, or more connections than units.
      TypeError: ``init`` under `jax.jit` or `jax.vmap`.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.sparse_echo_state(1, 50, connections=4).init(jax.random.key(0)).w_h.shape
      (4, 50)
    """
    _check("sparse_echo_state", input_size, hidden_size, leak, radius, input_scale)
    checks.sizes("sparse_echo_state", connections=connections)
    if connections > hidden_size:
        raise ValueError(
            f"sparse_echo_state: expected at most {hidden_size} connections a unit, got {connections}. "
            "Use echo_state for a dense reservoir."
        )
    distances = _distances(connections, hidden_size)

    def init(key: Array) -> SparseEchoStateParams:
        w_x, b, w_h_key = _drawn("sparse_echo_state", key, input_size, hidden_size, input_scale, bias_scale, dtype)
        drawn = jax.random.uniform(w_h_key, (connections, hidden_size), minval=-1, maxval=1)
        w_h = np.ones(drawn.shape) if fixing.asked() else np.asarray(drawn, np.float64)
        largest = np.abs(np.linalg.eigvals(_matrix(w_h))).max()
        params = SparseEchoStateParams(w_x, jnp.asarray(w_h * (radius / largest), b.dtype), b)
        return params if trainable else fixing.stays(params)

    def drive(params: SparseEchoStateParams, h: Array, x: Array) -> Array:
        h = recurrent_input(h)
        reads = sum(jnp.roll(h, distance, -1) * along(row, h) for distance, row in zip(distances, params.w_h))
        return add_bias(dot(x, params.w_x) + reads, params.b)

    return _leaky("sparse_echo_state", init, drive, input_size, hidden_size, leak, trainable)


def dense(params: SparseEchoStateParams) -> EchoStateParams:
    """The same reservoir as parameters of `echo_state`, its weights written out as U ``[h, h]``."""
    return EchoStateParams(params.w_x, jnp.asarray(_matrix(np.asarray(params.w_h))), params.b)


def _distances(connections: int, hidden_size: int) -> tuple[int, ...]:
    """Around the ring, c of them, the same for every reservoir of a size."""
    return tuple(np.random.default_rng(0).choice(hidden_size, connections, replace=False).tolist())


def _matrix(w_h: np.ndarray) -> np.ndarray:
    """U ``[h, h]`` from rows over distances ``[c, h]``."""
    connections, hidden_size = w_h.shape
    units, u = np.arange(hidden_size), np.zeros((hidden_size, hidden_size), w_h.dtype)
    for distance, row in zip(_distances(connections, hidden_size), w_h):
        u[(units - distance) % hidden_size, units] = row
    return u


def _leaky(
    who: str,
    init: Callable,
    drive: Callable,
    input_size: int,
    hidden_size: int,
    leak: float,
    trainable: bool,
) -> Cell:
    def step(params: EchoStateParams, h: Array, x: Array) -> tuple[Array, Array]:
        params = params if trainable else jax.lax.stop_gradient(params)
        h = (1 - leak) * h + leak * jnp.tanh(drive(params, h, x))
        return h, h

    return checked(who, input_size, init, lambda params, batch: zeros(batch, hidden_size, params.w_h), step)


def _drawn(
    who: str,
    key: Array,
    input_size: int,
    hidden_size: int,
    input_scale: float | tuple[float, ...],
    bias_scale: float,
    dtype: jnp.dtype | None,
) -> tuple[Array, Array, Array]:
    if isinstance(key, jax.core.Tracer) and not fixing.asked():
        raise TypeError(
            f"{who}: expected init to run outside jit and vmap, since it finds eigenvalues on the host, got a traced "
            "key. Draw the parameters first and pass them in."
        )
    dtype = jnp.dtype(dtype or jnp.zeros(()).dtype)
    w_x_key, b_key, w_h_key = jax.random.split(key, 3)
    scale = jnp.broadcast_to(jnp.array(input_scale, dtype), (input_size,))[:, None]
    w_x = scale * jax.random.uniform(w_x_key, (input_size, hidden_size), dtype, -1, 1)
    return w_x, bias_scale * jax.random.uniform(b_key, (hidden_size,), dtype, -1, 1), w_h_key


def _check(
    who: str, input_size: int, hidden_size: int, leak: float, radius: float, input_scale: float | tuple[float, ...]
) -> None:
    checks.sizes(who, input_size=input_size, hidden_size=hidden_size)
    if not 0 < leak <= 1:
        raise ValueError(f"{who}: expected a leak above 0 and up to 1, got {leak!r}. Use 1 for no leak.")
    if not radius > 0:
        raise ValueError(f"{who}: expected a positive spectral radius, got {radius!r}. Begin with 0.9.")
    if isinstance(input_scale, tuple) and len(input_scale) != input_size:
        raise ValueError(
            f"{who}: expected one input scale or {input_size} of them, got {len(input_scale)}. Name one an input."
        )
