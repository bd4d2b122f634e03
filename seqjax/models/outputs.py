"""A body and an output over a large vocabulary as one model: to score and decode with, and to train."""

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.base import Array, Layer, PyTree
from seqjax.fixing import fixed
from seqjax.layers import inner
from seqjax.layers.inner import split
from seqjax.losses import Tally
from seqjax.models.nade import Nade
from seqjax.models.softmax import Softmax
from seqjax.objectives import Batch, Objective, applied, begin, real_ticks, trains
from seqjax.records import maker


@maker
def output_layer(body: Layer, softmax: Softmax) -> Layer:
    """Body and output as one model: log-probabilities ``[T, *B, v]``, to score and to decode with.

    Args:
      body: ``[T, *B, ...]`` to ``[T, *B, d]``.
      softmax: the output.

    Returns:
      A layer with params ``(body params, softmax params)``.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> body = sj.serial(sj.embedding(50, 8), sj.recurrent(sj.gru(8, 8)))
      >>> model = sj.models.output_layer(body, sj.models.adaptive_softmax(8, 50, [10, 20]))
      >>> params = model.init(jax.random.key(0))
      >>> model.apply(params, model.initial_state(params), jnp.arange(7))[1].shape
      (7, 50)
    """

    def init(key: Array) -> tuple:
        body_key, key = jax.random.split(key)
        return body.init(body_key), softmax.init(key)

    def initial_state(params: tuple, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> PyTree:
        return body.initial_state(params[0], batch_shape, key=key)

    def apply(
        params: tuple,
        state: PyTree,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[PyTree, Array]:
        state, hs = inner.run(body, params[0], state, xs, mask=mask, lengths=lengths, reset=reset, key=key)
        mask = masks.given("output_layer", mask, lengths, hs)
        ys = softmax.log_probs(params[1], hs)
        return state, ys if mask is None else jnp.where(mask[..., None], ys, 0)

    return Layer(init, initial_state, apply)


@maker
def output_objective(body: Layer, softmax: Softmax | Nade, *, redraw: bool = True) -> Objective:
    """Body and output as one loss, in the form that `seqjax.train_step` takes.

    Args:
      body: ``[T, *B, ...]`` to ``[T, *B, d]``.
      softmax: the output, of symbols or of frames (`nade`); its own loss is used, with a key of its own.
      redraw: as in `seqjax.objective`.

    Returns:
      ``(params, state, batch, key=None) -> (state, Tally)`` with the params of `output_layer`.
    """

    @trains(lambda params: (fixed(body, params[0]), fixed(softmax, params[1])))
    def run(params: tuple, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        state, key = begin("output_objective", body, params[0], state, key, redraw)
        body_key, loss_key = split(key, 2)
        state, hs = applied(body, params[0], state, batch, body_key)
        return state, softmax.loss(params[1], hs, batch.targets, real_ticks(batch, hs), loss_key)

    return run
