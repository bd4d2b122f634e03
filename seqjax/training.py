"""One step of training: gradient, clipping, an Optax update, and what to report."""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from seqjax import checks, optimizers, places, records
from seqjax.base import Array, PyTree
from seqjax.clipping import clip_by_global_norm, clipped_by, global_norm, is_finite
from seqjax.devices import mesh_of, shares_of
from seqjax.fixing import completed, differentiable, flags_of, flags_on
from seqjax.losses import Tally
from seqjax.losses.penalties import Penalty, cost_of
from seqjax.objectives import Batch, Objective, fixed_by, penalty_by
from seqjax.products import accumulator
from seqjax.settings.books import asking
from seqjax.settings.record import Settings, devices_of
from seqjax.skipping import NonFinite, chosen, made_if
from seqjax.stepping import Step
from seqjax.updates import Metrics, TrainState, in_order, train_state

__all__ = [
    "Metrics",
    "TrainState",
    "clip_by_global_norm",
    "train_state",
    "train_step",
]


def train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    clip: optax.GradientTransformation | None = None,
    divide_by: Literal["count"] | float = "count",
    penalty: Penalty | None = None,
    fixed: PyTree | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    settings: Settings | None = None,
    nonfinite: NonFinite = "skip",
    donate: bool = True,
) -> Callable[[TrainState, PyTree, Batch], tuple[TrainState, PyTree, Metrics]]:
    """A jitted function that trains on one batch or window.

        train', state', metrics = step(train, state, batch)

    What is descended is the loss of the batch and, if there is one, a penalty on the parameters:

        L(θ) = Σ losses / n + R(θ)            n the count of real ticks, or ``divide_by``

    The model's state comes back as the objective leaves it: hand it to the next window of the same
    sequences, or start anew. Step n draws with ``fold_in(train.key, n)``. Asked again with an equal objective
    (`seqjax.objective` of an equal model, made anew or not) and the same optimizer it returns the same function, so
    that nothing is compiled twice.

    The function returns before the update has run. NumPy arrays are copied first, so that a buffer may be filled anew
    at once; what `jax.numpy.asarray` made of one may still be that buffer.

    Bad shapes and types are found before anything runs, and leave ``train`` as it was. An update that fails while it
    runs, or a Ctrl-C before its result has a name, leaves nothing: the memory of ``train`` is given away when it
    starts. A loop that is safe notes Ctrl-C and ends between updates, and has a checkpoint or a copy,
    ``jax.tree.map(jnp.copy, train)``, of some updates ago; or it gives up the memory: ``donate=False``.

    Under `jax.vmap`, `jax.jit`, `jax.lax.scan` memory is the outermost function's: here nothing is copied or given
    away. Many runs side by side are each the run alone, draws included, up to the rounding of batched products.

    Args:
      objective: `seqjax.objective`, `seqjax.over_chunks`, `seqjax.truncated`, or a function of the same
        form.
      optimizer: any Optax transformation. Those that look at the loss itself (`optax.lbfgs`, `optax.polyak_sgd`,
        `optax.contrib.reduce_on_plateau`) are given it, as the mean over this batch.
      clip: done to the gradient first and reported: `clip_by_global_norm`, ``optax.clip`` (by value),
        ``optax.adaptive_grad_clip``, or any other without a state of its own. A threshold means something
        only together with ``divide_by``.
      divide_by: ``"count"`` makes the loss the mean over real ticks; a number divides the sum by that: the
        batch size for a sum over time and mean over sequences (Zaremba et al. 2014).
      penalty: R, ``params -> scalar``, such as `seqjax.losses.l2`. It is added once an update, whatever the number of
        ticks, chunks and devices; the tally is without it, so that training and evaluation report the same thing. What
        the objective says if None.
      fixed: a tree of bool like the parameters, True at those that stay as they are whatever the optimizer does; what
        the objective says of its model if None, see `seqjax.fixed`.
      devices: spread the first batch axis over these devices, or over that many of ``jax.devices()``: the
        first axis of every leaf of the state, the second of every leaf of the batch, behind time (one further
        back under `seqjax.models.accumulated`). Gradients are
        summed over devices, then divided, so that the result is that of one device up to rounding: what is drawn
        follows from the key, the update and the place in the whole batch. On CPUs an update is started when the one
        before is done; under a transformation that is the caller's to see to, by `jax.block_until_ready`.
      settings: what `seqjax.tune` measured of the model's recurrence: its ``devices``, in the place of ``devices=``,
        and in this step its engine, memory and chunk, where the model says ``"auto"``.
      nonfinite: ``"skip"`` leaves out an update whose loss or gradient, over all devices and with the penalty, is not
        finite: parameters, optimizer (its averages, schedule and accumulated gradients too) and the model's state stay
        as they were, and ``metrics.skipped`` counts it. The number of the update goes on, and with it what is drawn.
        `seqjax.first_nonfinite` finds the cause. ``"keep"`` makes every update.
      donate: reuse the memory of ``train``, which is then gone: keep the returned one.

    Returns:
      The step function.

    Raises:
      ValueError: a batch that the devices can't share equally, or a clip that has a state; a ``train`` whose memory an
        earlier step took; ``fixed`` unlike the parameters; a penalty that is no scalar; settings of another model or
        batch.
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

      A loop that ends between updates at Ctrl-C:

      >>> import signal
      >>> batches, stop = [sj.Batch(jnp.ones((5, 2, 1)), jnp.zeros((5, 2, 1)))] * 3, []
      >>> usual = signal.signal(signal.SIGINT, lambda *_: stop.append(True))
      >>> for batch in batches:
      ...     train, state, metrics = step(train, state, batch)
      ...     if stop:
      ...         break
      >>> signal.signal(signal.SIGINT, usual) is not None, train.step.item()
      (True, 4)

      Many runs in one program, over seeds and learning rates, which `optax.inject_hyperparams` keeps in the state:

      >>> optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)
      >>> def begin(seed, rate):
      ...     train = sj.train_state(model.init(jax.random.key(seed)), optimizer)
      ...     return train._replace(opt_state=optax.tree.set(train.opt_state, learning_rate=rate))
      >>> trains = jax.vmap(begin)(jnp.array([0, 1, 0, 1]), jnp.array([1e-2, 1e-2, 1e-3, 1e-3]))
      >>> step = jax.jit(jax.vmap(sj.train_step(objective, optimizer), (0, None, None)), donate_argnums=0)
      >>> for batch in batches:  # the same for all; with an axis of runs in front and 0 for None, each has its own
      ...     trains, _, metrics = step(trains, model.initial_state(params, (2,)), batch)
      >>> metrics.loss.shape
      (4,)
    """
    if divide_by != "count" and not (isinstance(divide_by, int | float) and divide_by > 0):
        raise ValueError(
            f"train_step: expected divide_by 'count' or a number above 0, got {divide_by!r}. "
            "Give the batch size for a sum over time and mean over sequences."
        )
    checks.choice("train_step", "nonfinite", nonfinite, get_args(NonFinite))
    made = _made if records.call_of(objective) else _made.__wrapped__
    flags = None if fixed is None else flags_of(fixed)
    penalty = penalty_by(objective) if penalty is None else penalty
    devices = devices_of(settings, devices)
    return made(objective, optimizer, clip, divide_by, penalty, mesh_of(devices), donate, flags, settings, nonfinite)


@functools.lru_cache(maxsize=16)
def _made(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    clip: optax.GradientTransformation | None,
    divide_by: str | float,
    penalty: Penalty | None,
    mesh: Mesh | None,
    donate: bool,
    flags: tuple | None,
    settings: Settings | None,
    nonfinite: NonFinite,
) -> Callable[[TrainState, PyTree, Batch], tuple[TrainState, PyTree, Metrics]]:
    in_front = getattr(objective, "axes_in_front", 0)
    run = objective if settings is None else asking(settings, objective)

    def stays(params: PyTree) -> PyTree:
        return fixed_by(objective, params) if flags is None else flags_on(flags, params)

    def moving(leaves: PyTree, params: PyTree) -> PyTree:
        """The parameters, with no gradient where they stay."""
        held = stays(params)
        return jax.tree.map(lambda p, still: jax.lax.stop_gradient(p) if still else p, completed(leaves, params), held)

    def of_sum(params: PyTree, state: PyTree, batch: Batch, key: Array | None) -> tuple[PyTree, PyTree, Tally]:
        """The gradient of the summed loss, which adds up over devices as tallies do."""

        def summed(leaves: PyTree) -> tuple[Array, tuple[PyTree, Tally]]:
            new, tally = run(moving(leaves, params), state, batch, key)
            return tally.sum, (new, tally)

        gradient, (new, tally) = jax.grad(summed, has_aux=True)(differentiable(params))
        return gradient, new, tally

    def on_each(params: PyTree, state: PyTree, batch: Batch, key: Array | None) -> tuple[PyTree, PyTree, Tally]:
        with places.shared("batch"):
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
        in_order(train, state, batch)
        key = None if train.key is None else jax.random.fold_in(train.key, train.step)

        def look(leaves: PyTree) -> tuple[Array, PyTree, PyTree, Tally]:
            """Loss and gradient as means, of the parameters that are differentiated."""
            gradient, new, tally = gradient_of_sum(completed(leaves, train.params), state, batch, key)
            divisor = jnp.maximum(tally.count, 1) if divide_by == "count" else jnp.asarray(divide_by)

            def mean(x: Array) -> Array:
                with jax.numpy_dtype_promotion("standard"):  # a count of float16 ends at 65,504
                    return (x / divisor.astype(accumulator(jnp.finfo(x.dtype).dtype))).astype(x.dtype)

            loss, gradient = mean(tally.sum), jax.tree.map(mean, gradient)
            if penalty is not None:
                cost, slope = jax.value_and_grad(lambda p: cost_of(penalty, moving(p, train.params)))(leaves)
                loss, gradient = jax.tree.map(lambda a, b: a + b.astype(a.dtype), (loss, gradient), (cost, slope))
            return loss, gradient, new, tally

        leaves = differentiable(train.params)
        loss, gradient, new_state, tally = look(leaves)
        clipped_gradient, clipped = clipped_by(clip, gradient, leaves)
        held = stays(train.params)
        seen = optimizers.wide(leaves)

        def look_again(seen: PyTree) -> tuple[Array, PyTree]:
            loss, gradient, *_ = look(optimizers.narrow(seen, leaves))
            return loss, optimizers.wide(gradient)

        told = optimizers.told(look_again, loss, optimizers.wide(gradient))
        extra = {**told, "fixed": differentiable(train.params, held)}
        slopes = optimizers.wide(clipped_gradient)

        def make() -> tuple[PyTree, PyTree]:
            with jax.numpy_dtype_promotion("standard"):  # Optax counts on it
                updates, opt_state = optimizers.update(optimizer, slopes, train.opt_state, seen, extra)
                moved = completed(optimizers.narrow(optax.apply_updates(seen, updates), leaves), train.params)
            return jax.tree.map(lambda old, new, still: old if still else new, train.params, moved, held), opt_state

        norm, skipped = global_norm(gradient), train.skipped
        if nonfinite == "skip":
            finite = jnp.isfinite(loss) & is_finite(gradient)
            params, opt_state = made_if(finite, make, train[:2], "(params, opt_state)")
            new_state = chosen(finite, new_state, state, "the state")
            clipped, skipped = clipped & finite, skipped + (~finite).astype(skipped.dtype)
        else:
            params, opt_state = make()
        count = train.clipped + clipped.astype(train.clipped.dtype)
        train = TrainState(params, opt_state, train.step + 1, count, train.key, skipped)
        return train, new_state, Metrics(loss, tally, norm, clipped, train.clipped / train.step, skipped)

    return Step(step, in_order, mesh, in_front, donate)
