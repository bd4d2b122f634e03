"""One answer to a whole sequence."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.base import Array, Layer, PyTree
from seqjax.layers import inner
from seqjax.layers.affine import DenseParams, dense
from seqjax.layers.inner import split
from seqjax.losses import Tally
from seqjax.products import accumulator
from seqjax.records import maker


class ClassifierParams(NamedTuple):
    """The body's parameters and the answer's."""

    body: PyTree
    answer: DenseParams


class ClassifierState(NamedTuple):
    """The body's state, what is pooled so far ``[*B, d]``, in at least float32, and over how many ticks ``[*B]``."""

    body: PyTree
    pooled: Array
    ticks: Array


@maker
def classifier(
    body: Layer,
    size: int | tuple[int, int],
    classes: int,
    *,
    pool: Literal["last", "ends", "mean", "max"] = "last",
) -> Layer[ClassifierParams, ClassifierState]:
    """Reads a sequence and answers at its end: many to one.

        h_1 … h_T = body(x)      y = pool(h) W + b

        last    h_T                 mean    (1/T) Σ_t h_t                 max    max_t h_t, unit by unit
        ends    [→h_T, ←h_1]        h_t = [→h_t, ←h_t], the two readers of a bidirectional body

    over the real ticks since the last reset. The chunk's output is one answer ``[*B, classes]`` for all that
    was read so far, chunks before included: its time axis is gone. With a bidirectional body ``"last"`` is not what
    one wants, as its backward half has seen one tick only at the end; with ``"ends"`` each half has read the whole
    sequence. There ←h_1 is that of the last chunk with a real tick, which a backward reader starts anew: a chunk should
    hold the whole sequence.

    Args:
      body: any layer ``[T, *B, ...]`` to ``[T, *B, size]``.
      size: d, of the body's output; with ``"ends"`` the first half is the forward reader's, and readers of unequal
        sizes are told as ``(forward, backward)``.
      classes: of the answer; for regression, the number of values.
      pool: ``"last"``, ``"ends"``, ``"mean"`` or ``"max"``.

    Returns:
      A layer with state `ClassifierState` and output ``[*B, classes]``; without any real tick, pooled is 0.

    Raises:
      ValueError: a size below 1, an odd one or two with another pool than ``"ends"``, an unknown pool, or a body of
        another output size.
      TypeError: a body that is no layer.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.classifier(sj.recurrent(sj.gru(3, 4)), 4, 2)
      >>> params = model.init(jax.random.key(0))
      >>> state, logits = model.apply(params, model.initial_state(params, (5,)), jnp.ones((7, 5, 3)))
      >>> logits.shape
      (5, 2)
    """
    checks.instance("classifier", body, Layer, "Wrap a cell in recurrent(cell).")
    checks.choice("classifier", "pool", pool, ("last", "ends", "mean", "max"))
    checks.sizes("classifier", classes=classes)
    size, ahead = _halves(size, pool)
    answer = dense(size, classes)

    def init(key: Array) -> ClassifierParams:
        body_key, answer_key = jax.random.split(key)
        return ClassifierParams(body.init(body_key), answer.init(answer_key))

    def initial_state(
        params: ClassifierParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> ClassifierState:
        return ClassifierState(
            body.initial_state(params.body, batch_shape, key=key),
            jnp.zeros((*batch_shape, size), accumulator(params.answer.w.dtype)),
            jnp.zeros(batch_shape, jnp.int32),
        )

    def apply(
        params: ClassifierParams,
        state: ClassifierState,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[ClassifierState, Array]:
        body_key, answer_key = split(key, 2)
        ticks: dict[str, Any] = {"mask": mask, "lengths": lengths, "reset": reset}
        after, hs = inner.run(body, params.body, state.body, xs, **ticks, key=body_key)
        mask = checks.ticks("classifier", "mask", masks.given("classifier", mask, lengths, hs), hs)
        reset = checks.ticks("classifier", "reset", reset, hs)
        checks.features("classifier", hs, size)
        hs = hs.astype(state.pooled.dtype)
        live = jnp.ones(hs.shape[:-1], bool) if mask is None else mask
        pooled, count = state.pooled, state.ticks
        if reset is not None:
            segments = jnp.cumsum(reset, axis=0, dtype=jnp.int32)
            live = live & (segments == segments[-1:])
            pooled = masks.zero(~reset.any(0), pooled)
            count = masks.zero(~reset.any(0), count)
        fresh = live.sum(0, dtype=jnp.int32)
        if pool in ("last", "ends"):
            last = hs.shape[0] - 1 - jnp.argmax(live[::-1], axis=0)
            found = _at(hs[..., :ahead], last)
            if pool == "ends":
                found = jnp.concatenate([found, _at(hs[..., ahead:], jnp.argmax(live, axis=0))], axis=-1)
            pooled = masks.select(fresh > 0, found, pooled)
        elif pool == "max":
            top = jnp.where(live[..., None], hs, -jnp.inf).max(0)
            top = jnp.maximum(top, jnp.where((count > 0)[..., None], pooled, -jnp.inf))
            pooled = masks.select((fresh + count) > 0, top, pooled)
        else:
            total = pooled * count[..., None].astype(hs.dtype) + masks.zero(live, hs).sum(0)
            pooled = total / jnp.maximum(fresh + count, 1)[..., None].astype(hs.dtype)
        _, logits = answer.apply(params.answer, (), pooled[None], key=answer_key)
        return ClassifierState(after, pooled, count + fresh), logits[0]

    return Layer(init, initial_state, apply)


def _halves(size: int | tuple[int, int], pool: str) -> tuple[int, int]:
    """The body's size, and how much of it is read at the last tick."""
    if isinstance(size, tuple):
        if pool != "ends" or len(size) != 2:
            raise ValueError(
                f"classifier: expected size to be a whole number, or (forward, backward) with pool='ends', got {size} "
                f"with pool={pool!r}. Give the size of the body's output."
            )
        checks.sizes("classifier", forward=size[0], backward=size[1])
        return sum(size), size[0]
    checks.sizes("classifier", size=size)
    if pool == "ends" and size % 2:
        raise ValueError(
            f"classifier: expected an even size with pool='ends', half of each reader, got {size}. Give the sizes of "
            "unequal readers as size=(forward, backward)."
        )
    return size, size // 2 if pool == "ends" else size


def _at(hs: Array, tick: Array) -> Array:
    """``hs [T, *B, d]`` at each sequence's own tick ``[*B]``."""
    return jnp.take_along_axis(hs, tick[None, ..., None], 0)[0]


@maker
def one_answer(loss: Callable[..., Tally]) -> Callable[[Array, Array, Array | None], Tally]:
    """A loss of single ticks as a loss of whole sequences, for models with one answer a sequence.

    Args:
      loss: ``(ys, targets, mask) -> Tally``, such as `seqjax.cross_entropy`.

    Returns:
      ``(ys [*B, ...], targets [*B, ...], mask [T, *B]) -> Tally``: a sequence counts if any of its ticks is
      real.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> loss = sj.models.one_answer(sj.cross_entropy)
      >>> mask = jnp.array([[True, False], [False, False]])
      >>> loss(jnp.zeros((2, 3)), jnp.array([0, 1]), mask).count.item()
      1
    """
    return lambda ys, targets, mask: loss(ys, targets, None if mask is None else mask.any(0))
