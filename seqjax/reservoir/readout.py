"""Ridge readouts of reservoirs, and free runs on their own output."""

import functools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.buffers import owning
from seqjax.products import dot
from seqjax.unroll import unroll

LARGEST = 1e100  # whose square, summed over any number of ticks, is a number in float64
EXPLODED = 1e6


class Readout(NamedTuple):
    """``w_h [h, k]``, ``w_x [d, k]``, ``b [k]``."""

    w_h: Array
    w_x: Array
    b: Array


class Fit(NamedTuple):
    """The readout, the reservoir's state after the data, and the mean squared error on them, ``[k]``."""

    readout: Readout
    state: PyTree
    error: np.ndarray


def read(readout: Readout, h: Array, x: Array) -> Array:
    """y = h V + x R + c, with ``h [*B, h]`` and ``x [*B, d]``."""
    return dot(h, readout.w_h) + dot(x, readout.w_x) + readout.b


def fit(
    cell: Cell,
    params: PyTree,
    xs: Array,
    targets: Array | np.ndarray,
    *,
    state: PyTree | None = None,
    mask: Array | None = None,
    washout: int = 100,
    ridge: float = 1e-8,
    chunk: int = 1000,
) -> Fit:
    """Fits a linear readout of a reservoir by ridge regression, in one pass.

        min Σ_t ‖h_t V + x_t R + c - target_t‖² + ridge (‖V‖² + ‖R‖²)

    Args:
      cell: the reservoir: any cell with inputs ``[*B, d]`` and outputs ``[*B, h]``.
      params: its parameters.
      xs: inputs ``[T, *B, d]``, what feeds back included (one tick late, from the teacher).
      targets: ``[T, *B, k]``. Sequences pool into one readout.
      state: the state before the first tick; ``cell.initial_state`` if None.
      mask: ``[T, *B]``, True at real ticks.
      washout: ticks at the beginning that the readout does not see, while the state forgets its start.
      ridge: the penalty; the bias c carries none.
      chunk: ticks that are run, and kept, at a time; memory does not grow with T.

    Returns:
      The readout, the last state, and the error.

    Raises:
      ValueError: shapes do not agree, data that are not finite, nothing left after the washout, or features that
        depend on each other without a ridge.

    Example:
      A readout that recalls the input of two ticks ago:

      >>> import jax, seqjax as sj
      >>> from seqjax import reservoir
      >>> cell = sj.echo_state(1, 40)
      >>> params = cell.init(jax.random.key(0))
      >>> xs = jax.random.uniform(jax.random.key(1), (1000, 1))
      >>> bool(reservoir.fit(cell, params, xs, jax.numpy.roll(xs, 2, 0)).error < 1e-4)
      True

    References:
      Lukoševičius (2012), A practical guide to applying echo state networks.
      https://doi.org/10.1007/978-3-642-35289-8_36
    """
    checks.sizes("fit", chunk=chunk)
    _check_targets(xs, targets)
    length = np.shape(xs)[0]

    def chunks() -> Iterator[tuple[Array, Array | np.ndarray, Array | None]]:
        for t in range(0, length, chunk):
            cut = slice(t, t + chunk)
            yield xs[cut], targets[cut], None if mask is None else mask[cut]

    return fit_stream(cell, params, chunks(), state=state, washout=washout, ridge=ridge)


def fit_stream(
    cell: Cell,
    params: PyTree,
    chunks: Iterable[tuple[Array, Array | np.ndarray, Array | None]],
    *,
    state: PyTree | None = None,
    washout: int = 100,
    ridge: float = 1e-8,
) -> Fit:
    """`fit` over a stream of chunks ``(xs, targets, mask)`` in time, of any number and lengths.

    Of the data only a triangle is kept, R of the orthogonal factorisation [features, targets] = Q R, updated with
    each chunk in float64 on the host. It holds the normal equations without ever squaring, and so at half the digits
    that squaring would cost.

    Args:
      cell: the reservoir.
      params: its parameters.
      chunks: consecutive ``(xs [T, *B, d], targets [T, *B, k], mask [T, *B] or None)``.
      state: the state before the first tick.
      washout: ticks at the beginning that the readout does not see.
      ridge: the penalty.

    Returns:
      The readout, the last state, and the error.

    Raises:
      ValueError: as in `fit`.
    """
    if washout < 0 or not ridge >= 0:
        raise ValueError(
            f"fit: expected washout and ridge of at least 0, got {washout!r} and {ridge!r}. Use 0 for none."
        )
    triangle: Any = None
    rows, ticks, sizes = 0, 0, (0, 0)
    dtype: Any = None
    for xs, targets, mask in chunks:
        _check_targets(xs, targets)
        xs, wanted = jnp.asarray(xs), np.asarray(targets, np.float64)
        if state is None:
            state = cell.initial_state(params, xs.shape[1:-1])
        state, hs = unroll(cell, params, state, xs, mask=mask)
        real = np.ones(hs.shape[:-1], bool) if mask is None else np.array(mask)
        real[: max(washout - ticks, 0)] = False
        ticks += len(hs)
        parts = [np.asarray(part, np.float64)[real] for part in (hs, xs, np.ones((*hs.shape[:-1], 1)), wanted)]
        block = np.concatenate(parts, -1)
        if not np.isfinite(block).all():
            raise ValueError(
                f"fit: expected finite states, inputs and targets, got NaN or infinity in the {len(hs)} ticks from "
                f"tick {ticks - len(hs)} on. Mask what is missing."
            )
        if triangle is None:
            sizes, dtype = (hs.shape[-1], xs.shape[-1]), hs.dtype
            triangle = np.zeros((0, block.shape[1]))
        rows += len(block)
        most = float(np.abs(block).max(initial=0))
        if most > LARGEST:
            raise ValueError(
                f"fit: expected states, inputs and targets whose squares are numbers, got {most:.2g} in the {len(hs)} "
                f"ticks from tick {ticks - len(hs)} on. Scale the data, or use a reservoir whose state stays bounded."
            )
        triangle = np.linalg.qr(np.concatenate([triangle, block]), mode="r")
    if not rows:
        raise ValueError(
            f"fit: expected data after the washout of {washout} ticks, got {ticks} ticks with {rows} rows left. "
            "Give more data or shorten the washout."
        )
    return Fit(*_solve(triangle, sizes, rows, ridge, dtype, state))


def _check_targets(xs: Array, targets: Array | np.ndarray) -> None:
    ticks = np.shape(xs)[:-1]
    if np.shape(targets)[:-1] != ticks:
        raise ValueError(
            f"fit: expected targets [{', '.join(map(str, ticks))}, k] like the inputs, "
            f"got shape {np.shape(targets)}. Give one target a tick, features last."
        )


def _solve(
    triangle: np.ndarray, sizes: tuple[int, int], rows: int, ridge: float, dtype: jnp.dtype, state: PyTree
) -> tuple[Readout, PyTree, np.ndarray]:
    features = sum(sizes) + 1
    penalty = np.sqrt(ridge) * np.eye(features, triangle.shape[1])[:-1]  # none on the bias, the last feature
    penalised: Any = np.linalg.qr(np.concatenate([triangle, penalty]), mode="r")
    left, right = penalised[:features, :features], penalised[:features, features:]
    scale = np.abs(np.diag(left))
    if scale.min() <= np.finfo(np.float64).eps * scale.max():
        raise ValueError(
            f"fit: expected more ridge or more data, got features that depend on each other in {rows} rows at "
            f"ridge={ridge!r}. Raise ridge."
        )
    weights = np.linalg.solve(left, right)
    error = ((triangle[:, :features] @ weights - triangle[:, features:]) ** 2).sum(0) / rows
    w_h, w_x, b = (jnp.asarray(part, dtype) for part in np.split(weights, [sizes[0], features - 1]))
    return Readout(w_h, w_x, b[0]), state, error


@owning
def free_run(
    cell: Cell, params: PyTree, readout: Readout, state: PyTree, y: Array, length: int, *, drive: Array | None = None
) -> tuple[PyTree, Array]:
    """Lets a reservoir with feedback run on its own output: x_t = [u_t, y_{t-1}].

    Args:
      cell: the reservoir.
      params: its parameters.
      readout: what turns its state into y.
      state: the state to start from, `fit`'s for instance.
      y: the output before the first tick ``[*B, k]``.
      length: how many ticks.
      drive: inputs ``[length, *B, d-k]`` that are not feedback; None if there are none.

    Returns:
      The last state and the outputs ``[length, *B, k]``. Differentiable in the readout, the state and, where the cell
      is trainable, its weights.

    Warns:
      RuntimeWarning: outside a trace, outputs that are not finite or a million times what the readout makes of a state
        within ±1: the run has exploded, and its figures mean nothing.
    """
    checks.sizes("free_run", length=length)
    if drive is not None and np.shape(drive)[0] != length:
        raise ValueError(
            f"free_run: expected drive of {length} ticks, got shape {np.shape(drive)}. Give one input a tick."
        )
    y = jnp.asarray(y)
    state, ys = _free_run(cell, length, params, readout, state, y, drive)
    if not isinstance(ys, jax.core.Tracer):
        _tell_explosion(readout, y, drive, ys)
    return state, ys


def _tell_explosion(readout: Readout, y: Array, drive: Array | None, ys: Array) -> None:
    w_h, w_x, b, first, outputs = (np.abs(np.asarray(part, np.float64)) for part in (*readout, y, ys))
    driven = 0.0
    if drive is not None:
        driven = np.abs(np.asarray(drive, np.float64)).max(initial=0) * w_x[: np.shape(drive)[-1]].sum(0)
    usual = first.max(initial=0) + (w_h.sum(0) + b + driven).max()
    wild = ~(outputs <= EXPLODED * usual)  # NaN is wild too
    if wild.any():
        tick = int(wild.reshape(len(wild), -1).any(1).argmax())
        warnings.warn(
            f"free_run: the outputs explode, from tick {tick} on more than {EXPLODED:.0e} times what the "
            f"readout makes of a bounded state, up to {np.max(outputs):.2g}, and no figure of them means anything. "
            "Fit with a larger ridge or more data, lower the spectral radius, or scale the series.",
            RuntimeWarning,
            stacklevel=3,
        )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _free_run(
    cell: Cell, length: int, params: PyTree, readout: Readout, state: PyTree, y: Array, drive: Array | None
) -> tuple[PyTree, Array]:
    def step(before: tuple[PyTree, Array], u: Array | None) -> tuple[tuple[PyTree, Array], Array]:
        state, y = before
        x = y if u is None else jnp.concatenate([u, y], -1)
        state, h = cell.step(params, state, x)
        y = read(readout, h, x).astype(y.dtype)
        return (state, y), y

    (state, _), ys = jax.lax.scan(step, (state, y), drive, length=length)
    return state, ys
