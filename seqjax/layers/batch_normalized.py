"""Batch normalisation of what a recurrence reads; what it remembers is left alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, masks, places
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.layers import inner
from seqjax.layers.recurrence import recurrent
from seqjax.products import accumulator, along, dot
from seqjax.records import maker


class Statistics(NamedTuple):
    """``mean [d]`` of the inputs x, ``variance [k]`` of the products x W."""

    mean: Array
    variance: Array


class InputBatchNormParams(NamedTuple):
    """The parameters of the cell, ``gain [k]``, and the statistics to go by: those of the batch where None."""

    cell: PyTree
    gain: Array
    statistics: Statistics | None


class InputBatchNormState(NamedTuple):
    """The state of the cell; of all chunks so far ``ticks [*B]``, `Statistics` ``[*B, d]`` and ``[*B, k]``.

    These are of the whole batch, the same for each of its examples.
    """

    cell: PyTree
    ticks: Array
    statistics: Statistics


@maker
def input_batch_norm(cell: Cell, *, epsilon: float = 1e-5) -> Layer[InputBatchNormParams, InputBatchNormState]:
    """A recurrence whose input products are normalised over the batch and its ticks, the recurrent ones never.

        a = x W        â = (a - mean a) / √(variance a + ε) ⊙ gain        over all real ticks of all examples

    It mixes its batch: with the statistics of the batch, as in training, the output of an example depends on the others
    and on later ticks, so that what holds of all other layers, batch ≡ one by one, chunks ≡ whole, causality, holds of
    this one only with statistics that stay. Those of training are gathered in the state, and put into the parameters by
    `with_statistics`: with them every example is by itself. Devices that share a batch sum their statistics; a batch
    accumulated in parts is normalised part by part.

    It costs a second product x W, of float32 under `seqjax.mixed_precision` too: what is rounded to bfloat16 there is
    x without its mean. Masked ticks, and what stands there, count nothing.

    Args:
      cell: one that reads its input x by ``w_x [d, k]`` alone, such as `seqjax.elman`, `seqjax.lstm`, `seqjax.gru`; its
        bias is the shift.
      epsilon: ε.

    Returns:
      A layer with the cell's outputs.

    Raises:
      TypeError: something else than a cell, one without such weights, inputs that are not floats, or a tick at a time
        without statistics.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.layers.input_batch_norm(sj.lstm(3, 4))
      >>> params = layer.init(jax.random.key(0))
      >>> xs = jax.random.normal(jax.random.key(1), (7, 5, 3))
      >>> state, ys = layer.apply(params, layer.initial_state(params, (5,)), xs)
      >>> params = sj.layers.with_statistics(params, state)
      >>> _, alone = layer.apply(params, layer.initial_state(params), xs[:, 0])
      >>> bool(jnp.allclose(alone, ys[:, 0], atol=1e-6))
      True

    References:
      Laurent, Pereyra, Brakel, Zhang and Bengio (2016), Batch normalized recurrent neural networks.
      https://arxiv.org/abs/1510.01378
      Ioffe and Szegedy (2015), Batch normalization: accelerating deep network training by reducing internal covariate
      shift. https://arxiv.org/abs/1502.03167
    """
    checks.instance("input_batch_norm", cell, Cell, "Pass the cell itself, such as lstm(64, 128).")
    plain = recurrent(cell)

    def init(key: Array) -> InputBatchNormParams:
        params: Any = cell.init(key)
        if not hasattr(params, "w_x"):
            raise TypeError(
                f"input_batch_norm: expected a cell with weights w_x, got parameters of type {type(params).__name__}. "
                "Normalise the cells of a stack one by one."
            )
        return InputBatchNormParams(params, jnp.ones(params.w_x.shape[1], params.w_x.dtype), None)

    def initial_state(
        params: InputBatchNormParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> InputBatchNormState:
        (d, k), wide = params.cell.w_x.shape, accumulator(params.cell.w_x.dtype)
        none = Statistics(jnp.zeros((*batch_shape, d), wide), jnp.zeros((*batch_shape, k), wide))
        inside = cell.initial_state(params.cell, batch_shape, key=key)
        return InputBatchNormState(inside, jnp.zeros(batch_shape, wide), none)

    def apply(
        params: InputBatchNormParams,
        state: InputBatchNormState,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[InputBatchNormState, Array]:
        w, known = params.cell.w_x, params.statistics
        checks.features("input_batch_norm", xs, w.shape[0])
        checks.floats("input_batch_norm", xs)
        xs = jnp.asarray(xs)
        if known is None:
            inner.check_whole("input_batch_norm")
            real = checks.ticks("input_batch_norm", "mask", masks.given("input_batch_norm", mask, lengths, xs), xs)
            count, known = _measured(xs, w, real)
            state = _gathered(state, count, known, w)
        scale = (params.gain * jax.lax.rsqrt(known.variance + epsilon)).astype(w.dtype)
        normalised = params.cell._replace(w_x=w * along(scale, w))
        ticks: dict[str, Any] = {"mask": mask, "lengths": lengths, "reset": reset, "key": key}
        inside, ys = inner.run(plain, normalised, state.cell, xs - along(known.mean, xs), **ticks)
        return state._replace(cell=inside), ys

    return Layer(init, initial_state, apply)


def with_statistics(params: PyTree, state: PyTree) -> PyTree:
    """Parameters of a model with the statistics that its state has gathered, to evaluate it by.

    To measure them, run the model over data of training with the statistics left out (None), ``reset`` at the first
    tick of every new batch; they are those of all ticks that were read.

    Args:
      params: of any model with `input_batch_norm` in it.
      state: the model's after that run.

    Returns:
      The same parameters with statistics.

    Raises:
      ValueError: a state of another model, or one that has read nothing.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(input_batch_norm(sj.elman(1, 4)), sj.dense(4, 2))
      >>> params = model.init(jax.random.key(0))
      >>> state, _ = model.apply(params, model.initial_state(params, (2,)), jnp.array([[[1.0], [4.0]], [[6.0], [9.0]]]))
      >>> with_statistics(params, state)[0].statistics.mean.tolist()
      [5.0]
    """
    leaves, tree = jax.tree.flatten(params, is_leaf=lambda node: isinstance(node, InputBatchNormParams))
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, InputBatchNormState))
    gathered = iter([node for node in nodes if isinstance(node, InputBatchNormState)])
    found = [_put(leaf, next(gathered, None)) if isinstance(leaf, InputBatchNormParams) else leaf for leaf in leaves]
    if next(gathered, None) is not None:
        raise ValueError(
            "with_statistics: expected the state of the model whose parameters these are, got one of more normalised "
            "layers. Pass both of one model."
        )
    return jax.tree.unflatten(tree, found)


def _put(params: InputBatchNormParams, state: InputBatchNormState | None) -> InputBatchNormParams:
    if state is None or state.statistics.mean.shape[-1] != params.cell.w_x.shape[0]:
        raise ValueError(
            "with_statistics: expected the state of the model whose parameters these are, got none for one of its "
            "normalised layers. Pass both of one model."
        )
    if not isinstance(state.ticks, jax.core.Tracer) and not np.all(np.asarray(state.ticks) > 0):
        raise ValueError("with_statistics: expected a state that has read inputs, got a new one. Run the model first.")
    first = (0,) * state.ticks.ndim  # all examples hold the same
    return params._replace(statistics=jax.tree.map(lambda leaf: leaf[first], state.statistics))


def _measured(xs: Array, w: Array, mask: Array | None) -> tuple[Array, Statistics]:
    """How many real ticks there are, and their statistics; as mean a = (mean x) W, it is x that is centred."""
    wide = accumulator(w.dtype)
    x = xs.astype(wide)
    real = jnp.ones(x.shape[:-1], bool) if mask is None else mask
    axes = tuple(range(x.ndim - 1))
    count = places.total(real.sum(dtype=wide))
    share = 1 / jnp.maximum(count, 1)
    mean = places.total(masks.zero(real, x).sum(axes)) * share
    a = dot(masks.zero(real, x - along(mean, x)), w.astype(wide))
    return count, Statistics(mean, places.total((a**2).sum(axes)) * share)


def _gathered(state: InputBatchNormState, count: Array, new: Statistics, w: Array) -> InputBatchNormState:
    """The statistics of all ticks so far and of more; no gradient goes through them."""
    count, new, w = jax.lax.stop_gradient((count, new, w))
    old, whole = state.statistics, state.ticks + count
    share = (count / jnp.maximum(whole, 1))[..., None]
    apart = along(new.mean, old.mean) - old.mean
    between = share * (1 - share) * dot(apart, w.astype(apart.dtype)) ** 2
    variance = old.variance + share * (along(new.variance, old.variance) - old.variance) + between
    return state._replace(ticks=whole, statistics=Statistics(old.mean + share * apart, variance))
