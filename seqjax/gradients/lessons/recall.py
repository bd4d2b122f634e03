"""Long-memory problems learned by curvature: where gradients are small, so is what bends the loss."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.curvature import HessianFreeState, hessian_free, hessian_free_step
from seqjax.engines.plan import EngineName
from seqjax.gradients.lessons.descent import descend
from seqjax.layers import dense
from seqjax.losses import cross_entropy, mean_squared_error
from seqjax.unroll import unroll


class Questions(NamedTuple):
    """Sequences and what is asked for after the last real tick of each.

    Attributes:
      xs: inputs ``[T, B, d]``.
      targets: classes ``[B]`` of integers, or numbers ``[B, k]``.
      mask: ``[T, B]``, True at real ticks; None if all are.
    """

    xs: Array
    targets: Array
    mask: Array | None = None


class Recall(NamedTuple):
    """A network trained to say at the end what it saw long before.

    Attributes:
      params: of the cell and of its readout.
      loss: ``[S]``, of the training set before each update: cross-entropy in nats, or squared error.
      score: on the test set after the last: accuracy if targets are classes, else squared error.
    """

    params: tuple[PyTree, PyTree]
    loss: Array
    score: Array


@functools.partial(
    jax.jit,
    static_argnums=0,
    static_argnames=(
        "output_size",
        "answers",
        "updates",
        "optimizer",
        "structural",
        "damping",
        "iterations",
        "engine",
    ),
)
def train_recall(
    cell: Cell,
    key: Array,
    train: Questions,
    test: Questions,
    *,
    output_size: int,
    answers: int,
    updates: int,
    optimizer: optax.GradientTransformation | None = None,
    structural: float = 0.1,
    damping: float = 0.3,
    iterations: int = 60,
    engine: EngineName = "auto",
) -> Recall:
    """Trains a network on one set of sequences, by Hessian-free learning or by an Optax transformation.

        z = y_T V + c      L = -log softmax(z)[class], or (z - target)²; mean over the set

    An update of Hessian-free learning takes at most ``iterations`` Gauss-Newton products, each of which costs about
    as much as a gradient: compare it with so many updates of a first-order method.

    Args:
      cell: reads inputs ``[*B, d]``.
      key: of the parameters.
      train: what is learned from, the whole set at every update.
      test: what is asked afterwards.
      output_size: the size of the cell's output y.
      answers: how many classes, or numbers in an answer.
      updates: S.
      optimizer: an Optax transformation; None for Hessian-free learning.
      structural: μ, as in `hessian_free_step`.
      damping: λ, to begin with.
      iterations: of conjugate gradients, an update.
      engine: as in `seqjax.unroll`.

    Returns:
      A `Recall`.

    Raises:
      ValueError: targets that do not fit the inputs.

    References:
      Martens and Sutskever (2011), Learning recurrent neural networks with Hessian-free optimization.
      https://icml.cc/2011/papers/532_icmlpaper.pdf
    """
    checks.sizes("train_recall", output_size=output_size, answers=answers, updates=updates)
    for name, (xs, targets, _) in {"training": train, "test": test}.items():
        checks.shapes("train_recall", f"{name} targets", targets.shape[:1], "the inputs' batch", xs.shape[1:2])
    readout = dense(output_size, answers)
    classes = jnp.issubdtype(train.targets.dtype, jnp.integer)

    def answer(params: PyTree, asked: Questions) -> tuple[Array, Array]:
        state = cell.initial_state(params[0], asked.xs.shape[1:2])
        _, ys = unroll(cell, params[0], state, asked.xs, mask=asked.mask, engine=engine, memory="all")
        ticks, examples = jnp.arange(len(ys)), jnp.arange(ys.shape[1])
        last = len(ys) - 1 if asked.mask is None else jnp.where(asked.mask, ticks[:, None], 0).max(0)
        return readout.apply(params[1], (), ys[last, examples][None])[1], ys

    def loss(z: Array) -> Array:
        return (cross_entropy if classes else mean_squared_error)(z, train.targets[None]).mean

    def newton(carry: tuple[PyTree, HessianFreeState], _: None) -> tuple[tuple, Array]:
        of_train = functools.partial(answer, asked=train)
        *new, info = hessian_free_step(of_train, loss, *carry, structural=structural, iterations=iterations)
        return tuple(new), info.loss

    own, other = jax.random.split(key)
    params = cell.init(own), readout.init(other)
    if optimizer is None:
        start = params, hessian_free(params, damping=damping)
        (params, _), losses = jax.lax.scan(newton, start, None, length=updates)
    else:
        run = descend(lambda p, _: (loss(answer(p, train)[0]), ()), params, optimizer, jnp.arange(updates))
        params, losses = run.params, run.loss
    z = answer(params, test)[0][0]
    if classes:
        return Recall(params, losses, (z.argmax(-1).astype(test.targets.dtype) == test.targets).astype(z.dtype).mean())
    return Recall(params, losses, ((z - test.targets) ** 2).mean())
