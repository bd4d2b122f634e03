"""Truncated backpropagation through time."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Layer, PyTree
from seqjax.fixing import fixed
from seqjax.layers.inner import split
from seqjax.losses import Tally
from seqjax.objectives import (
    Batch,
    Loss,
    Objective,
    applied,
    begin,
    counted,
    in_order,
    length,
    real_ticks,
    ticks,
    trains,
)
from seqjax.records import maker


@maker
def truncated(layer: Layer, loss: Loss, k1: int, k2: int | None = None, *, redraw: bool = True) -> Objective:
    """The objective of one window of truncated backpropagation through time: BPTT(k1, k2).

    Every k1 ticks the loss of those ticks is backpropagated through the last k2:

        k2 = k1     windows side by side
        k2 > k1     the k2 - k1 ticks before are run again, with today's parameters, so that gradients reach
                    back through them; their loss was counted by the windows before
        k2 < k1     the first k1 - k2 ticks only move the state; the loss is that of the last k2

    The state comes in and goes out k1 ticks further on; no gradient crosses from window to window. `windows`
    cuts the batches that this objective expects. Where k2 is at least T, rounded up to a multiple of k1, every window
    reaches the beginning, and the gradients of all windows at fixed parameters add up to that of full
    backpropagation.

    Args:
      layer: the model.
      loss: ``(ys, targets, mask) -> Tally``.
      k1: ticks from one update to the next.
      k2: ticks that a gradient reaches back; k1 if None.
      redraw: as in `seqjax.objective`.

    Returns:
      ``(params, state, window, key=None) -> (state, Tally)``.

    Raises:
      ValueError: a length below 1, or a window of another length than max(k1, k2).
      TypeError: something else than a layer, or a loss that returns no `Tally`.

    References:
      Williams and Peng (1990), An efficient gradient-based algorithm for on-line training of recurrent
      network trajectories. https://doi.org/10.1162/neco.1990.2.4.490
      Sutskever (2013), Training recurrent neural networks, section 2.8.6.
      https://www.cs.utoronto.ca/~ilya/pubs/ilya_sutskever_phd_thesis.pdf
    """
    k2 = _lengths("truncated", k1, k2)
    checks.instance("truncated", layer, Layer, "Wrap a cell in recurrent(cell).")

    @trains(lambda params: fixed(layer, params))
    def run(params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        in_order("truncated", layer, params, state, batch)
        count = length("truncated", batch)
        if count != max(k1, k2):
            raise ValueError(
                f"truncated: expected a window of {max(k1, k2)} ticks for k1={k1} and k2={k2}, got {count}. "
                "Cut the batch with windows(batch, k1, k2)."
            )
        state, key = begin("truncated", layer, params, jax.lax.stop_gradient(state), key, redraw)
        first_key, second_key = split(key, 2)

        def apply(state: PyTree, piece: Batch, key: Array | None) -> tuple[PyTree, PyTree]:
            return applied(layer, params, state, piece, key)

        if k2 > k1:
            onward, ys = apply(state, ticks(batch, 0, k1), first_key)
            _, zs = apply(onward, ticks(batch, k1), second_key)
            ys = jax.tree.map(lambda y, z: jnp.concatenate([y, z])[k2 - k1 :], ys, zs)
        elif k2 < k1:
            middle, _ = apply(state, ticks(batch, 0, k1 - k2), first_key)
            onward, ys = apply(jax.lax.stop_gradient(middle), ticks(batch, k1 - k2), second_key)
        else:
            onward, ys = apply(state, batch, second_key)
        new = ticks(batch, count - min(k1, k2))
        return onward, counted(loss(ys, new.targets, real_ticks(new, new.xs)))

    return run


def windows(batch: Batch, k1: int, k2: int | None = None, *, batch_axes: int = 1) -> Iterator[Batch]:
    """Cuts a long batch into the windows of BPTT(k1, k2), all of one shape.

    Window n ends with the ticks n k1 … n k1 + k1 - 1. Ticks before the beginning and behind the end are
    there but masked, so that each tick of the batch is predicted once and nothing else is (with k2 < k1, the
    last k2 of each window are). NumPy arrays are copied a window at a time, so that the batch may change behind it.

    Args:
      batch: leaves ``[T, *B, ...]``; lengths become a mask, as ticks are missing in front too.
      k1: ticks from one update to the next.
      k2: ticks that a gradient reaches back; k1 if None.
      batch_axes: how many batch axes there are, for the mask where the batch has none.

    Yields:
      ⌈T / k1⌉ batches of max(k1, k2) ticks; with a mask if one was given or any window needs one.

    Raises:
      ValueError: a length below 1, or leaves that differ in T.

    Example:
      >>> import numpy as np
      >>> stream = Batch(np.arange(5)[:, None], np.arange(1, 6)[:, None])
      >>> [window.xs[:, 0].tolist() for window in windows(stream, 2, 3)]
      [[0, 0, 1], [1, 2, 3], [3, 4, 0]]
      >>> [window.mask[:, 0].astype(int).tolist() for window in windows(stream, 2, 3)]
      [[0, 1, 1], [1, 1, 1], [1, 1, 0]]
    """
    k2 = _lengths("windows", k1, k2)
    total = length("windows", batch)
    count = -(-total // k1)
    before = max(k2 - k1, 0)
    batch = batch._replace(mask=_mask(batch, total), lengths=None)
    if batch.mask is None and (before or total % k1):
        leaf = jax.tree.leaves(batch.xs)[0]
        batch = batch._replace(mask=np.ones(leaf.shape[: 1 + batch_axes], bool))
    for n in range(count):
        yield _slice(batch, n * k1 - before, (n + 1) * k1)


def _mask(batch: Batch, length: int) -> PyTree:
    """The batch's mask, made of its lengths on the host where they are there."""
    if batch.lengths is None or not isinstance(batch.lengths, np.ndarray):
        return real_ticks(batch, batch.xs)
    checks.mask_or_lengths("windows", batch.mask, batch.lengths)
    return np.arange(length).reshape(-1, *[1] * batch.lengths.ndim) < batch.lengths


def _slice(batch: Batch, start: int, stop: int) -> Batch:
    """The ticks ``start`` to ``stop``, zeros (False, in masks) where they do not exist."""

    def leaf(x: PyTree) -> PyTree:
        first, last = max(start, 0), min(stop, len(x))
        on_device = isinstance(x, jax.Array)
        piece = jax.lax.dynamic_slice_in_dim(x, first, last - first) if on_device else x[first:last].copy()
        missing = (first - start, stop - last)
        widths = [missing] + [(0, 0)] * (x.ndim - 1)
        return (jnp if on_device else np).pad(piece, widths) if any(missing) else piece

    return jax.tree.map(leaf, batch)


def _lengths(who: str, k1: int, k2: int | None) -> int:
    checks.sizes(who, k1=k1)
    if k2 is None:
        return k1
    checks.sizes(who, k2=k2)
    return k2
