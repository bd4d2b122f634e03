"""A recurrence as deep networks hold it, behind a convolution and beside a gate, and the block of it and an MLP."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.engines.plan import EngineName
from seqjax.initializers import Initializer
from seqjax.layers import inner
from seqjax.layers.compose import residual, serial
from seqjax.layers.conv import ConvParams, ConvState, causal_conv
from seqjax.layers.gated import Activation, gated_mlp
from seqjax.layers.normalized import LayerNormParams, layer_norm, rms_norm
from seqjax.layers.recurrence import recurrent
from seqjax.layers.ticks import mapped
from seqjax.products import along, dot
from seqjax.records import maker

MakeCell = Callable[[int, int], Cell]
NORMS: dict[str, Callable[..., Layer]] = {"rms": rms_norm, "layer": layer_norm}


class GatedRecurrenceParams(NamedTuple):
    """``w_x [d, 2h]``: gate, value, or ``[d, h]`` without a gate; those of its parts, None for what it has not.

    ``skip [h]`` are the weights of the path around the cell; ``w_out [h, d]``.
    """

    w_x: Array
    conv: ConvParams | None
    cell: PyTree
    norm: LayerNormParams | None
    skip: Array | None
    w_out: Array


class GatedRecurrenceState(NamedTuple):
    """The last inputs of the convolution, None without one, and the cell's state."""

    conv: ConvState | None
    cell: PyTree


@maker
def gated_recurrence(
    cell: MakeCell,
    size: int,
    hidden_size: int,
    *,
    conv: int | None = 4,
    conv_activation: Activation | None = None,
    gate: Activation | None = jax.nn.gelu,
    norm_heads: int | None = None,
    skip: bool = False,
    w_init: Initializer = initializers.input_weights,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
    engine: EngineName = "auto",
    memory: str | int = "auto",
) -> Layer[GatedRecurrenceParams, GatedRecurrenceState]:
    """A recurrence of a width of its own, behind a short convolution and beside a gate that bypasses it.

        u = ψ(conv(x W_v))               each channel sees its own last ticks
        h = cell(u)
        y = (φ(x W_g) ⊙ h) W_o           h = norm(h) with norm_heads, and + skip ⊙ u with skip

    Args:
      cell: ``(input_size, hidden_size) -> Cell`` whose output has ``hidden_size`` numbers, such as `seqjax.gru`; with
        options of its own as ``functools.partial(sj.cells.rglru, heads=8)``.
      size: d, of input and output.
      hidden_size: h, of the cell's input and output.
      conv: ticks that the convolution sees; None for none.
      conv_activation: ψ; the identity if None.
      gate: φ; None for no gate.
      norm_heads: `layer_norm` behind the cell in so many groups; None for none.
      skip: a path around the cell, with a weight a channel that starts at 1.
      w_init: initialiser of the weights.
      dtype: of all parameters but the cell's; JAX's default float if None.
      compute_dtype: of the products' operands but the cell's; ``dtype`` if None.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1, a convolution of one tick, norm_heads that do not divide h, or a cell whose output has
        another size.
      TypeError: something else than a function that makes a cell.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.layers.gated_recurrence(sj.cells.mingru, 4, 6)
      >>> params = layer.init(jax.random.key(0))
      >>> state, ys = layer.apply(params, layer.initial_state(params, (2,)), jnp.ones((5, 2, 4)))
      >>> ys.shape, state.cell.shape
      ((5, 2, 4), (2, 6))

    References:
      De et al. (2024), Griffin: mixing gated linear recurrences with local attention for efficient language models.
      https://arxiv.org/abs/2402.19427
    """
    who = "gated_recurrence"
    checks.sizes(who, size=size, hidden_size=hidden_size)
    if isinstance(cell, Cell) or not callable(cell):
        got = "a Cell" if isinstance(cell, Cell) else type(cell).__name__
        raise TypeError(
            f"{who}: expected a function that makes a cell of two sizes, such as lstm, got {got}. Pass the function, "
            "or functools.partial of it with its other options."
        )
    made = cell(hidden_size, hidden_size)
    checks.instance(who, made, Cell, "Pass a function (input_size, hidden_size) -> Cell.")
    run = recurrent(made, engine=engine, memory=memory)
    look_back: Layer[Any, Any] | None = None
    if conv is not None:
        kinds: dict[str, Any] = {"dtype": dtype, "compute_dtype": compute_dtype}
        look_back = causal_conv(hidden_size, hidden_size, width=conv, groups=hidden_size, **kinds)
    norm = None if norm_heads is None else layer_norm(hidden_size, groups=norm_heads, dtype=dtype)

    def init(key: Array) -> GatedRecurrenceParams:
        x_key, conv_key, cell_key, norm_key, out_key = jax.random.split(key, 5)
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        return GatedRecurrenceParams(
            w_init(x_key, (size, hidden_size if gate is None else 2 * hidden_size), kind),
            None if look_back is None else look_back.init(conv_key),
            made.init(cell_key),
            None if norm is None else norm.init(norm_key),
            jnp.ones(hidden_size, kind) if skip else None,
            w_init(out_key, (hidden_size, size), kind),
        )

    def initial_state(
        params: GatedRecurrenceParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> GatedRecurrenceState:
        conv: Any = None
        if look_back is not None:
            conv = look_back.initial_state(params.conv, batch_shape)
        return GatedRecurrenceState(conv, made.initial_state(params.cell, batch_shape, key=key))

    def widen(params: GatedRecurrenceParams, xs: Array, key: Array | None) -> tuple:
        checks.features(who, xs, size)
        a = dot(xs, params.w_x, compute_dtype)
        return (None, a) if gate is None else tuple(jnp.split(a, 2, axis=-1))

    def project(params: GatedRecurrenceParams, parts: tuple, key: Array | None) -> Array:
        gates, us, hs = parts
        if hs.shape[-1:] != (hidden_size,):
            raise ValueError(
                f"{who}: expected a cell whose output has hidden_size={hidden_size} numbers, got shape {hs.shape}. "
                "Give one whose output is its hidden state."
            )
        if norm is not None:
            assert params.norm is not None  # init draws them together
            hs = norm.apply(params.norm, (), hs)[1]
        if params.skip is not None:
            hs = hs + along(params.skip, us) * us.astype(hs.dtype)
        return dot(hs if gate is None else gate(gates) * hs.astype(gates.dtype), params.w_out, compute_dtype)

    wide, narrow = mapped(who, widen), mapped(who, project)

    def apply(
        params: GatedRecurrenceParams,
        state: GatedRecurrenceState,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[GatedRecurrenceState, Array]:
        ticks: dict[str, Any] = {"mask": mask, "lengths": lengths, "reset": reset}
        _, (gates, us) = inner.run(wide, params, (), xs, **ticks)
        conv: Any = state.conv
        if look_back is not None:
            conv, us = inner.run(look_back, params.conv, conv, us, **ticks)
        us = us if conv_activation is None else conv_activation(us)
        after, hs = inner.run(run, params.cell, state.cell, us, **ticks)
        _, ys = inner.run(narrow, params, (), (gates, us, hs), **ticks)
        return GatedRecurrenceState(conv, after), ys

    return Layer(init, initial_state, apply)


@maker
def block(
    cell: MakeCell,
    size: int,
    *,
    hidden_size: int | None = None,
    mlp_size: int | None = None,
    norm: Literal["rms", "layer"] = "rms",
    mlp_activation: Activation = jax.nn.gelu,
    **options: Any,
) -> Layer:
    """A gated recurrence, and a gated MLP if one is asked for, each behind a norm and beside a path around it.

        x' = x + gated_recurrence(norm(x))
        y = x' + gated_mlp(norm(x'))

    Args:
      cell: ``(input_size, hidden_size) -> Cell``, as in `gated_recurrence`.
      size: d, of inputs and outputs.
      hidden_size: of the cell; d if None.
      mlp_size: hidden units of the MLP; None for no MLP.
      norm: `rms_norm` or `layer_norm`.
      mlp_activation: the MLP's.
      **options: ``conv``, ``gate``, ``dtype``, ``engine`` and what else `gated_recurrence` takes; ``dtype`` and
        ``compute_dtype`` are the MLP's and the norms' too.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``. Blocks on top of each other: `seqjax.models.deep_blocks`.

    Raises:
      ValueError: a size below 1, an unknown norm, or what `gated_recurrence` refuses.
      TypeError: an option that it does not take.

    Example:
      >>> import functools, jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.layers.block(functools.partial(sj.cells.rglru, heads=2), 4, hidden_size=6, mlp_size=12)
      >>> params = layer.init(jax.random.key(0))
      >>> layer.apply(params, layer.initial_state(params, (2,)), jnp.ones((5, 2, 4)))[1].shape
      (5, 2, 4)

    References:
      De et al. (2024), Griffin: mixing gated linear recurrences with local attention for efficient language models.
      https://arxiv.org/abs/2402.19427
    """
    checks.choice("block", "norm", norm, NORMS)
    kinds = {name: options[name] for name in ("dtype", "compute_dtype") if name in options}
    make_norm = lambda: NORMS[norm](size, dtype=options.get("dtype"))
    recurrence = gated_recurrence(cell, size, size if hidden_size is None else hidden_size, **options)
    first = residual(serial(make_norm(), recurrence))
    if mlp_size is None:
        return first
    mlp = gated_mlp(size, mlp_size, activation=mlp_activation, **kinds)
    return serial(first, residual(serial(make_norm(), mlp)))
