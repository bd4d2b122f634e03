"""What an output owes to every input, and what each tick gives to the gradient of the weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import base, checks
from seqjax.base import Array, Cell, PyTree
from seqjax.engines.plan import EngineName
from seqjax.gradients import backward
from seqjax.unroll import checked, unroll


def sensitivity(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: Array,
    of: Callable[[PyTree], Array],
    mask: Array | None = None,
    *,
    engine: EngineName = "auto",
    memory: str | int = "sqrt",
) -> Array:
    """How much one number of the output moves with each input: ‖d of(ys) / dx_t‖₂.

    Args:
      cell: any cell; examples must not see each other.
      params: its parameters.
      state: the state before the first tick.
      xs: inputs ``[T, *B, d]`` of floats; embed symbols first.
      of: ``(ys) -> [*B]``, the number in question for every example: ``lambda ys: ys[-1, ..., 0]``.
      mask: ``[T, *B]``, True at real ticks.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      ``[T, *B]``, in units of the output per unit of input; 0 at masked ticks and after the tick in question.

    Raises:
      TypeError: inputs that are not floats.
      ValueError: something else than one number an example.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.elman(1, 1, activation=lambda a: a, b_init=None)
      >>> params = sj.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5), None)
      >>> xs = jnp.ones((4, 1))
      >>> sj.gradients.sensitivity(cell, params, cell.initial_state(params), xs, lambda ys: ys[2, 0]).tolist()
      [0.25, 0.5, 1.0, 0.0]

    References:
      Simonyan, Vedaldi and Zisserman (2014), Deep inside convolutional networks. https://arxiv.org/abs/1312.6034
    """
    checks.floats("sensitivity", xs)
    batch = base.batch_shape(cell, params, state) or ()

    def total(xs: Array) -> Array:
        _, ys = unroll(cell, params, state, xs, mask=mask, engine=engine, memory=memory)
        numbers = of(ys)
        checks.shapes("sensitivity", "of(ys)", np.shape(numbers), "the batch", batch)
        return numbers.sum()

    return backward.norm([jax.grad(total)(xs)], 1 + len(batch))


def untied_gradients(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    loss: Callable[[PyTree], Array],
    mask: Array | None = None,
    *,
    length: int | None = None,
) -> PyTree:
    """The gradient of every tick's own copy of the parameters.

        s_t, y_t = step(θ_t, s_{t-1}, x_t),  θ_1 = … = θ_T = θ      dL/dθ = Σ_t ∂L/∂θ_t

    Sharing parameters over time sums gradients over time: these are the summands.

    Args:
      cell: any cell.
      params: its parameters.
      state: the state before the first tick.
      xs: inputs ``[T, *B, ...]``.
      loss: ``(ys) -> scalar``.
      mask: ``[T, *B]``, True at real ticks.
      length: T, where ``xs`` is None.

    Returns:
      The parameters' tree with ``[T, ...]`` leaves: T times the memory of the parameters.

    Raises:
      ValueError: shapes that do not agree.

    References:
      Rumelhart, Hinton and Williams (1986), Learning internal representations by error propagation.
    """
    problem = checked(cell, params, state, xs, mask=mask, length=length)
    step, (_, *rest), state, inputs = problem.wrapped()
    length = problem.length

    def of_copies(copies: PyTree) -> Array:
        def tick(state: PyTree, now: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            own, x = now
            return step((own, *rest), state, x)

        return loss(jax.lax.scan(tick, state, (copies, inputs), length=length)[1])

    return jax.grad(of_copies)(jax.tree.map(lambda p: jnp.broadcast_to(p, (length, *p.shape)), params))


def weight_gradient_norms(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    loss: Callable[[PyTree, PyTree], Array],
    targets: PyTree,
    mask: Array | None = None,
) -> Array:
    """‖∂L/∂θ_t‖₂ for every tick and every example: the gradient by distance.

    Its mean over examples against T - t shows how far back learning sees, its variance how noisily. The copies'
    gradients are never stored, only their norms, and about 2 √T states.

    Args:
      cell: any cell.
      params: its parameters.
      state: the state before the first tick, with one batch axis.
      xs: inputs ``[T, B, ...]``.
      loss: ``(ys, targets) -> scalar`` of one example, ``ys [T, ...]``.
      targets: a tree of ``[B, ...]``, one entry an example.
      mask: ``[T, B]``, True at real ticks.

    Returns:
      ``[T, B]``; 0 at masked ticks.

    Raises:
      ValueError: a state without exactly one batch axis.
    """
    batch = base.batch_shape(cell, params, state)
    if batch is None or len(batch) != 1:
        raise ValueError(
            f"weight_gradient_norms: expected a state with one batch axis, got batch shape {batch}. "
            "Make it with initial_state(params, (B,))."
        )
    problem = checked(cell, params, state, xs, mask=mask)
    mask, length = problem.mask, problem.length

    def step(params: PyTree, state: PyTree, x: tuple[PyTree, Array]) -> tuple[PyTree, PyTree]:
        x, z = x
        rule = lambda bars: (bars, backward.norm(bars, 0))
        own = backward.change_floats(lambda leaves: backward.identity(rule, leaves, z), params)
        return cell.step(own, state, x)

    watched = Cell(cell.init, cell.initial_state, step)
    zeros = jnp.zeros(length, jnp.result_type(*backward.floats(params)))

    def one(state: PyTree, xs: PyTree, targets: PyTree, mask: Array | None) -> Array:
        def of(z: Array) -> Array:
            # Only the plain scan forms a weight's gradient tick by tick.
            return loss(unroll(watched, params, state, (xs, z), mask=mask, engine="scan", memory="sqrt")[1], targets)

        return jax.grad(of)(zeros)

    return jax.vmap(one, (0, 1, 0, 1), 1)(state, xs, targets, mask)
