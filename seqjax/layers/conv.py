"""Causal convolution along time, in chunks or one tick at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import he_normal, zeros

from seqjax import checks, masks
from seqjax.base import Array, Layer
from seqjax.initializers import Initializer
from seqjax.layers import ring
from seqjax.products import accumulator, add_bias, along, dot, head_dot
from seqjax.records import maker

tap_weights = he_normal(in_axis=(0, 1), out_axis=2)


class ConvParams(NamedTuple):
    """``w [n, d/g, k]`` of g groups, the newest tick's weights first; ``b [k]`` or None."""

    w: Array
    b: Array | None


class ConvState(NamedTuple):
    """A ring of the last inputs ``[*B, W, d]`` and the place ``[*B]`` where the next one goes."""

    ring: Array
    place: Array


@maker
def causal_conv(
    input_size: int,
    output_size: int,
    *,
    width: int,
    dilation: int = 1,
    groups: int = 1,
    w_init: Initializer = tap_weights,
    b_init: Initializer | None = zeros,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Layer[ConvParams, ConvState]:
    """A window over the last ticks, each with weights of its own.

        y_t = Σ_{j=0..n-1} x_{t - j·dilation} W_j + b      x = 0 before the first tick

    It sees 1 + (n-1)·dilation ticks, the present one included. The state is a ring of W = (n-1)·dilation
    inputs, so that a tick costs n small products, whatever W is. A masked tick is absent: it fills no place
    in the window. No window reaches over a reset.

    With groups, d / groups inputs and k / groups outputs side by side have weights of their own, W_j is block-diagonal:
    ``groups=input_size`` is the depthwise convolution, where each channel sees itself alone.

    Args:
      input_size: d.
      output_size: k.
      width: n, at least 2 (one tap is `seqjax.dense`).
      dilation: ticks from tap to tap.
      groups: g, a divisor of d and k.
      w_init: initialiser of W ``[n, d/g, k]``.
      b_init: initialiser of b ``[k]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A layer with state `ConvState`, ``[T, *B, d]`` to ``[T, *B, k]``.

    Raises:
      ValueError: a size below 1, a width below 2, groups that do not divide the sizes, or inputs of another size.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.causal_conv(1, 1, width=2, dilation=3)
      >>> params = sj.ConvParams(w=jnp.array([[[1.0]], [[10.0]]]), b=None)
      >>> xs = jnp.arange(1.0, 7.0)[:, None]
      >>> layer.apply(params, layer.initial_state(params), xs)[1].ravel().tolist()
      [1.0, 2.0, 3.0, 14.0, 25.0, 36.0]

    References:
      Waibel et al. (1989), Phoneme recognition using time-delay neural networks. https://doi.org/10.1109/29.21701
      van den Oord et al. (2016), WaveNet: a generative model for raw audio. https://arxiv.org/abs/1609.03499
    """
    sizes = {"input_size": input_size, "output_size": output_size}
    checks.sizes("causal_conv", **sizes, width=width, dilation=dilation, groups=groups)
    for name, size in sizes.items():
        if size % groups:
            raise ValueError(f"causal_conv: expected groups to divide {name}={size}, got {groups}. Change one of them.")
    if width < 2:
        raise ValueError(f"causal_conv: expected a width of at least 2, got {width}. Use dense for one tap.")
    span = (width - 1) * dilation
    lags = [tap * dilation for tap in range(width)]

    def init(key: jax.Array) -> ConvParams:
        w_key, b_key = jax.random.split(key)
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        b = None if b_init is None else b_init(b_key, (output_size,), kind)
        return ConvParams(w_init(w_key, (width, input_size // groups, output_size), kind), b)

    def initial_state(params: ConvParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> ConvState:
        return ConvState(jnp.zeros((*batch_shape, span, input_size), params.w.dtype), jnp.zeros(batch_shape, jnp.int32))

    def product(params: ConvParams, taps: list[Array]) -> Array:
        parts = [grouped(x, w, groups, compute_dtype) for x, w in zip(taps, params.w)]
        y = sum(parts[1:], parts[0])
        return add_bias(y, params.b)

    def one_tick(params: ConvParams, state: ConvState, x: Array) -> tuple[ConvState, Array]:
        """``x [N, d]``: reads n places of the ring and writes one."""
        held, place = state
        rows = jnp.arange(x.shape[0])
        taps = [x] + [held[rows, (place - lag) % span] for lag in lags[1:]]
        return ConvState(held.at[rows, place].set(x), (place + 1) % span), product(params, taps)

    def chunk(
        params: ConvParams, state: ConvState, xs: Array, mask: Array | None, reset: Array | None
    ) -> tuple[ConvState, Array]:
        """``xs [T, N, d]``: real ticks moved together, one product a tap over all of them, results moved back."""
        line = ring.line_up(*state, xs, mask, reset)
        whole = [slice(span - lag, span - lag + xs.shape[0]) for lag in lags]
        taps = [line.xs[ticks] for ticks in whole]
        if line.segments is not None:
            own = line.segments[span:]
            taps = [masks.zero(line.segments[ticks] == own, x) for x, ticks in zip(taps, whole)]
        return ConvState(*ring.after(line, state.place, span)), ring.moved_back(line, product(params, taps))

    def apply(
        params: ConvParams,
        state: ConvState,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[ConvState, Array]:
        checks.features("causal_conv", xs, input_size)
        mask = checks.ticks("causal_conv", "mask", masks.given("causal_conv", mask, lengths, xs), xs)
        reset = checks.ticks("causal_conv", "reset", reset, xs)
        length, *batch, _ = xs.shape
        checks.shapes("causal_conv", "inputs' batch", tuple(batch), "the state's", state.place.shape)
        flat = ConvState(state.ring.reshape(-1, span, input_size), state.place.reshape(-1))
        xs = xs.astype(flat.ring.dtype).reshape(length, -1, input_size)
        if length == 1 and mask is None and reset is None:
            new, y = one_tick(params, flat, xs[0])
            ys = y[None]
        else:
            ticks = [None if flags is None else flags.reshape(length, -1) for flags in (mask, reset)]
            new, ys = chunk(params, flat, xs, *ticks)
        shapes = (state.ring.shape, state.place.shape)
        new = ConvState(*(leaf.reshape(shape) for leaf, shape in zip(new, shapes)))
        return new, ys.reshape(length, *batch, output_size)

    return Layer(init, initial_state, apply)


def grouped(x: Array, w: Array, groups: int, compute_dtype: jnp.dtype | None) -> Array:
    """``x W`` with W block-diagonal, its blocks ``w [d/g, k]`` side by side; ``x [*B, d]``."""
    if groups == 1:
        return dot(x, w, compute_dtype)
    rows, columns = w.shape[0], w.shape[1] // groups
    if rows > 1:
        blocks = w.reshape(rows, groups, columns).swapaxes(0, 1)
        y = head_dot(x.reshape(*x.shape[:-1], groups, rows), blocks, compute_dtype)
        return y.reshape(*x.shape[:-1], groups * columns)
    dtype = w.dtype if compute_dtype is None else jnp.dtype(compute_dtype)
    wide = accumulator(dtype)
    each = jnp.repeat(x, columns, axis=-1) if columns > 1 else x
    y = each.astype(dtype).astype(wide) * along(w[0].astype(dtype), each).astype(wide)
    return y.astype(accumulator(w.dtype))
