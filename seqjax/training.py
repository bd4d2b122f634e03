"""One step of training: gradient, clipping, an Optax update, and what to report."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from seqjax import checks, records
from seqjax.base import Array, PyTree
from seqjax.devices import divisible, mesh_of, placed, shares_of
from seqjax.losses import Tally
from seqjax.objectives import Batch, Objective

__all__ = [
    "Metrics",
    "TrainState",
    "clip_by_global_norm",
    "train_state",
    "train_step",
]


class TrainState(NamedTuple):
    """What training carries besides the model's state: all that a checkpoint needs.

    ``step`` and ``clipped`` count the updates so far and those of them that were clipped; ``key`` is None
    where nothing random is wanted.
    """

    params: PyTree
    opt_state: PyTree
    step: Array
    clipped: Array
    key: Array | None


class Metrics(NamedTuple):
    """What a step reports, as device arrays.

    Attributes:
      loss: what was descended, before the update.
      tally: sum and count of the loss, to be added up over steps.
      gradient_norm: ‖g‖ over all parameters, before clipping.
      clipped: whether clipping changed the gradient.
      clip_rate: the fraction of steps so far whose gradient was clipped, this one included.
    """

    loss: Array
    tally: Tally
    gradient_norm: Array
    clipped: Array
    clip_rate: Array


def train_state(params: PyTree, optimizer: optax.GradientTransformation, *, key: Array | None = None) -> TrainState:
    """Where training begins.

    Args:
      params: the parameters; copied, for `train_step` gives the memory of what it is handed to its results.
      optimizer: any Optax transformation.
      key: for dropout, noise and the like; None for none of it.

    Returns:
      The state before the first step.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> train_state(jnp.ones(2), optax.sgd(0.1)).step.item()
      0
    """
    params = jax.tree.map(jnp.copy, params)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params, optimizer.init(params), zero, jnp.copy(zero), None if key is None else jnp.copy(key))


def train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    clip: optax.GradientTransformation | None = None,
    divide_by: Literal["count"] | float = "count",
    devices: int | Sequence[jax.Device] | None = None,
    donate: bool = True,
) -> Callable[[TrainState, PyTree, Batch], tuple[TrainState, PyTree, Metrics]]:
    """A jitted function that trains on one batch or window.

        train', state', metrics = step(train, state, batch)

    The model's state comes back as the objective leaves it: hand it to the next window of the same
    sequences, or start anew. Step n draws with ``fold_in(train.key, n)``. Asked again with an equal objective
    (`seqjax.objective` of an equal model, made anew or not) and the same optimizer it returns the same function, so
    that nothing is compiled twice.

    Args:
      objective: `seqjax.objective`, `seqjax.over_chunks`, `seqjax.truncated`, or a function of the same
        form.
      optimizer: any Optax transformation.
      clip: done to the gradient first and reported: `clip_by_global_norm`, ``optax.clip`` (by value),
        ``optax.adaptive_grad_clip``, or any other without a state of its own. A threshold means something
        only together with ``divide_by``.
      divide_by: ``"count"`` makes the loss the mean over real ticks; a number divides the sum by that: the
        batch size for a sum over time and mean over sequences (Zaremba et al. 2014).
      devices: spread the first batch axis over these devices, or over that many of ``jax.devices()``: the
        first axis of every leaf of the state, the second of every leaf of the batch, behind time (one further
        back under `seqjax.models.accumulated`). Gradients are
        summed over devices, then divided, so that the result is that of one device up to rounding; what is
        drawn between recurrences (dropout) differs.
      donate: reuse the memory of ``train``, which is then gone: keep the returned one.

    Returns:
      The step function.

    Raises:
      ValueError: a batch that the devices can't share equally, or a clip that has a state; a ``train`` whose memory an
        earlier step took.
      TypeError: arguments of a step in another order than (train, state, batch).

    Example:
      >>> import jax, jax.numpy as jnp, optax, seqjax as sj
      >>> model = sj.serial(sj.recurrent(sj.gru(1, 8)), sj.dense(8, 1))
      >>> params = model.init(jax.random.key(0))
      >>> optimizer = optax.adam(1e-2)
      >>> objective = sj.objective(model, sj.mean_squared_error)
      >>> step = sj.train_step(objective, optimizer, clip=sj.clip_by_global_norm(1.0))
      >>> train, state = sj.train_state(params, optimizer), model.initial_state(params, (2,))
      >>> train, state, metrics = step(train, state, sj.Batch(jnp.ones((5, 2, 1)), jnp.zeros((5, 2, 1))))
      >>> train.step.item(), metrics.tally.count.item()
      (1, 10)
    """
    if divide_by != "count" and not (isinstance(divide_by, int | float) and divide_by > 0):
        raise ValueError(
            f"train_step: expected divide_by 'count' or a number above 0, got {divide_by!r}. "
            "Give the batch size for a sum over time and mean over sequences."
        )
    made = _made if records.call_of(objective) else _made.__wrapped__
    return made(objective, optimizer, clip, divide_by, mesh_of(devices), donate)


class _Step:
    """The step: a jitted function, which says what happened where it is handed memory that is gone."""

    def __init__(self, jitted: Any, place: Callable[..., tuple] | None):
        self.jitted, self.place = jitted, place

    def __call__(self, train: TrainState, state: PyTree, batch: Batch) -> tuple[TrainState, PyTree, Metrics]:
        try:
            given = (train, state, batch) if self.place is None else self.place(train, state, batch)
            return self.jitted(*given)
        except (RuntimeError, ValueError) as error:
            for name, tree in (("train", train), ("state", state), ("batch", batch)):
                if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(tree)):
                    raise ValueError(
                        f"train_step: expected {name} with its arrays, got one whose memory an earlier step took for "
                        "its results. Go on with what the step returned, or make it with train_step(…, donate=False)."
                    ) from error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jitted, name)


@functools.lru_cache(maxsize=16)
def _made(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    clip: optax.GradientTransformation | None,
    divide_by: str | float,
    mesh: Mesh | None,
    donate: bool,
) -> Callable[[TrainState, PyTree, Batch], tuple[TrainState, PyTree, Metrics]]:
    in_front = getattr(objective, "axes_in_front", 0)

    def of_sum(params: PyTree, state: PyTree, batch: Batch, key: Array | None) -> tuple[PyTree, PyTree, Tally]:
        """The gradient of the summed loss, which adds up over devices as tallies do."""

        def summed(params: PyTree) -> tuple[Array, tuple[PyTree, Tally]]:
            new, tally = objective(params, state, batch, key)
            return tally.sum, (new, tally)

        gradient, (new, tally) = jax.grad(summed, has_aux=True)(params)
        return gradient, new, tally

    def on_each(params: PyTree, state: PyTree, batch: Batch, key: Array | None) -> tuple[PyTree, PyTree, Tally]:
        key = None if key is None else jax.random.fold_in(key, jax.lax.axis_index("batch"))
        gradient, new, tally = of_sum(params, state, batch, key)
        return jax.lax.psum(gradient, "batch"), new, jax.lax.psum(tally, "batch")

    def gradient_of_sum(params: PyTree, state: PyTree, batch: Batch, key: Array | None) -> tuple[PyTree, PyTree, Tally]:
        if mesh is None:
            return of_sum(params, state, batch, key)
        shares = shares_of(batch, in_front)
        each = jax.shard_map(
            on_each,
            mesh=mesh,
            in_specs=(*shares, shares.train),
            out_specs=(shares.train, shares.state, shares.train),
            check_vma=False,
        )
        return each(params, state, batch, key)

    def step(train: TrainState, state: PyTree, batch: Batch) -> tuple[TrainState, PyTree, Metrics]:
        _in_order(train, state, batch)
        key = None if train.key is None else jax.random.fold_in(train.key, train.step)
        gradient, state, tally = gradient_of_sum(train.params, state, batch, key)
        divisor = jnp.maximum(tally.count, 1) if divide_by == "count" else jnp.asarray(divide_by)
        loss = tally.sum / divisor.astype(tally.sum.dtype)
        gradient = jax.tree.map(lambda g: g / divisor.astype(g.dtype), gradient)
        clipped_gradient, clipped = _clip(clip, gradient, train.params)
        with jax.numpy_dtype_promotion("standard"):  # Optax counts on it
            updates, opt_state = optimizer.update(clipped_gradient, train.opt_state, train.params)
            params = optax.apply_updates(train.params, updates)
        count = train.clipped + clipped.astype(train.clipped.dtype)
        train = TrainState(params, opt_state, train.step + 1, count, train.key)
        rate = train.clipped / train.step
        return train, state, Metrics(loss, tally, optax.tree.norm(gradient), clipped, rate)

    jitted = jax.jit(step, donate_argnums=(0,) if donate else ())
    if mesh is None:
        return _Step(jitted, None)

    def place(train: TrainState, state: PyTree, batch: Batch) -> tuple:
        _in_order(train, state, batch)
        divisible(mesh.size, in_front, state, batch)
        return placed(mesh, shares_of(batch, in_front), (train, state, batch))

    return _Step(jitted, place)


def _in_order(train: TrainState, state: PyTree, batch: Batch) -> None:
    order = "The order is (train, state, batch)."
    checks.instance("train_step", train, TrainState, f"Make it with train_state(params, optimizer). {order}")
    for name, value, kind in (("state", state, Batch), ("state", state, TrainState), ("batch", batch, TrainState)):
        if isinstance(value, kind):
            raise TypeError(f"train_step: expected a {name}, got a {kind.__name__} in its place. {order}")


def clip_by_global_norm(threshold: float) -> optax.GradientTransformation:
    """Scales the gradient down to a norm, over all parameters together.

        g ← η g / ‖g‖ if ‖g‖ > η, else g, unchanged to the bit

    `optax.clip_by_global_norm` differs only at ‖g‖ = η, where it rounds.

    Args:
      threshold: η.

    Returns:
      An Optax transformation without state.

    Raises:
      ValueError: a threshold that is not above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> clip = clip_by_global_norm(1.0)
      >>> clip.update(jnp.array([3.0, 4.0]), clip.init(None))[0].round(3).tolist()
      [0.6, 0.8]

    References:
      Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks.
      https://arxiv.org/abs/1211.5063
    """
    if not threshold > 0:
        raise ValueError(f"clip_by_global_norm: expected a threshold above 0, got {threshold!r}. Raise it.")

    def scale(gradient: PyTree, params: PyTree | None) -> PyTree:
        norm = optax.tree.norm(gradient)
        factor = threshold / jnp.maximum(norm, threshold)
        return jax.tree.map(lambda g: jnp.where(norm > threshold, g * factor.astype(g.dtype), g), gradient)

    return optax.stateless(scale)


def _clip(clip: optax.GradientTransformation | None, gradient: PyTree, params: PyTree) -> tuple[PyTree, Array]:
    """The clipped gradient, and whether that changed anything."""
    if clip is None:
        return gradient, jnp.zeros((), bool)
    state = clip.init(params)
    if jax.tree.leaves(state):
        raise ValueError(
            f"train_step: expected a clip without state, got one that keeps {type(state).__name__}. "
            "Chain it with the optimizer: optax.chain(clip, optimizer)."
        )
    clipped, _ = clip.update(gradient, state, params)
    changed = jax.tree.map(lambda a, b: jnp.any(a != b), gradient, clipped)
    return clipped, jnp.stack(jax.tree.leaves(changed)).any()
