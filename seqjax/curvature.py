"""Hessian-free learning: curvature without a matrix, through any engine.

`gauss_newton_product` is the curvature, a function of vectors; `hessian_free` and `hessian_free_step` learn by it, as
`seqjax.train_state` and `seqjax.train_step` do by gradients.

Example:
  The least squares of a line, in one update, for its curvature says it all:

  >>> import jax.numpy as jnp
  >>> from seqjax import curvature
  >>> x = jnp.array([0.0, 1.0, 2.0])
  >>> outputs = lambda w: (w[0] * x + w[1], ())
  >>> loss = lambda z: ((z - (3 * x - 1)) ** 2).sum()
  >>> w = jnp.zeros(2)
  >>> w, state, info = curvature.hessian_free_step(outputs, loss, w, curvature.hessian_free(w, damping=1e-6))
  >>> [round(v, 3) for v in w.tolist()], bool(info.accepted)
  ([3.0, -1.0], True)
"""

from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from seqjax import checks
from seqjax.base import Array, PyTree

__all__ = ["HessianFreeInfo", "HessianFreeState", "gauss_newton_product", "hessian_free", "hessian_free_step"]


def gauss_newton_product(
    outputs: Callable[[PyTree], PyTree], loss: Callable[[PyTree], Array], params: PyTree
) -> Callable[[PyTree], PyTree]:
    """The function v ↦ G v, with the Gauss-Newton matrix G of ``loss(outputs(params))``.

        G = Jᵀ H J      J = dz/dθ      H = d²L/dz²      G v = Jᵀ (H (J v))

    From right to left: forward mode through the recurrence, forward over reverse through the loss, reverse mode
    through the recurrence. G is positive semidefinite where the loss is convex in z. The recurrence is linearised
    once, so that a product costs about as much as a gradient.

    Args:
      outputs: ``(params) -> z``; may call `seqjax.unroll` with any engine.
      loss: ``(z) -> scalar``, convex.
      params: θ, a tree of floats.

    Returns:
      ``(v) -> G v`` on trees like ``params``.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> product = sj.curvature.gauss_newton_product(lambda w: w**2, lambda z: (z**2).sum() / 2, jnp.array([1.0, 3.0]))
      >>> product(jnp.ones(2)).tolist()
      [4.0, 36.0]

    References:
      Schraudolph (2002), Fast curvature matrix-vector products for second-order gradient descent.
      https://doi.org/10.1162/08997660260028683
    """
    z, forward = jax.linearize(outputs, params)
    backward = jax.linear_transpose(forward, params)

    def product(v: PyTree) -> PyTree:
        return backward(jax.jvp(jax.grad(loss), (z,), (forward(v),))[1])[0]

    return product


class HessianFreeState(NamedTuple):
    """What goes from one update to the next: λ, and the last step δ, where the next search begins."""

    damping: Array
    direction: PyTree


class HessianFreeInfo(NamedTuple):
    """What an update did.

    Attributes:
      loss: before the update.
      new_loss: at the proposed step.
      reduction_ratio: ρ, the fall of the loss over the fall the quadratic model promised.
      accepted: whether the step was taken.
      damping: λ that was used.
    """

    loss: Array
    new_loss: Array
    reduction_ratio: Array
    accepted: Array
    damping: Array


def hessian_free(params: PyTree, *, damping: float = 1.0) -> HessianFreeState:
    """Where Hessian-free learning begins.

    Args:
      params: the parameters.
      damping: λ, to begin with.

    Returns:
      The state before the first `hessian_free_step`.

    Raises:
      ValueError: damping that is not above 0.
    """
    if not isinstance(damping, Real) or not damping > 0:
        raise ValueError(f"hessian_free: expected damping above 0, got {damping!r}. Begin with 1.")
    dtype = jnp.result_type(*jax.tree.leaves(params))
    return HessianFreeState(jnp.asarray(damping, dtype), jax.tree.map(jnp.zeros_like, params))


def hessian_free_step(
    outputs: Callable[[PyTree], tuple[PyTree, PyTree]],
    loss: Callable[[PyTree], Array],
    params: PyTree,
    state: HessianFreeState,
    *,
    curvature: tuple[Callable[[PyTree], tuple[PyTree, PyTree]], Callable[[PyTree], Array]] | None = None,
    structural: float = 0.0,
    iterations: int = 50,
    tolerance: float = 1e-5,
    decay: float = 0.95,
) -> tuple[PyTree, HessianFreeState, HessianFreeInfo]:
    """One update by conjugate gradients on the damped quadratic model of the loss.

        (G + λ I + λ μ Sᵀ S) δ = -∇L            S = ds/dθ, of all hidden states
        ρ = (L(θ + δ) - L(θ)) / (∇Lᵀ δ + ½ δᵀ G δ)
        λ ← (3/2) λ if ρ < 1/4,  (2/3) λ if ρ > 3/4           δ is taken if the loss falls

    λ is adapted by the rule of Levenberg and Marquardt. μ > 0 adds structural damping, which holds the hidden states
    back where a small step in θ would throw them far; that is what recurrences need. The search begins at
    ``decay`` times the last δ.

    With a new batch every update the method is stochastic. Products are most of what it costs, and a part of the batch
    tells them well enough: ``curvature`` are the outputs and the loss of that part, of which G and S are taken, while
    ∇L and ρ are the whole batch's. Losses are then means.

    Args:
      outputs: ``(params) -> (z, s)``: what the loss reads, and the hidden states of all ticks (or ``()`` for none).
      loss: ``(z) -> scalar``, convex in z; the whole batch's.
      params: θ.
      state: from `hessian_free` or the last update.
      curvature: ``outputs`` and ``loss`` of the sequences that G and S are taken of; the whole batch's if None.
      structural: μ.
      iterations: at most so many products an update.
      tolerance: the search ends where the residual is this part of ‖∇L‖.
      decay: of the last δ.

    Returns:
      The new parameters, the new state, and what happened.

    Raises:
      ValueError: no iterations, or negative structural damping.

    References:
      Martens (2010), Deep learning via Hessian-free optimization. https://www.cs.toronto.edu/~jmartens/docs/Deep_HessianFree.pdf
      Martens and Sutskever (2011), Learning recurrent neural networks with Hessian-free optimization.
      https://icml.cc/2011/papers/532_icmlpaper.pdf
      Kiros (2013), Training neural networks with stochastic Hessian-free optimization. https://arxiv.org/abs/1301.3641
    """
    checks.sizes("hessian_free_step", iterations=iterations)
    if not isinstance(structural, Real) or not structural >= 0:
        raise ValueError(f"hessian_free_step: expected structural of at least 0, got {structural!r}. 0 is none.")
    part, loss_of_part = curvature or (outputs, loss)
    (z, states), forward = jax.linearize(part, params)
    backward = jax.linear_transpose(forward, params)
    if curvature is None:
        before, z_bar = jax.value_and_grad(loss)(z)
        (gradient,) = backward((z_bar, jax.tree.map(jnp.zeros_like, states)))
    else:
        before, gradient = jax.value_and_grad(lambda params: loss(outputs(params)[0]))(params)

    def bend(v: PyTree, weight: Array | float) -> PyTree:
        d_z, d_states = forward(v)
        bent = jax.jvp(jax.grad(loss_of_part), (z,), (d_z,))[1]
        return backward((bent, jax.tree.map(lambda s: s * weight, d_states)))[0]

    def damped(v: PyTree) -> PyTree:
        bent = bend(v, state.damping * structural)
        return jax.tree.map(lambda g, own: g + state.damping * own, bent, v)

    start = jax.tree.map(lambda d: decay * d, state.direction)
    downhill = jax.tree.map(jnp.negative, gradient)
    delta, _ = cg(damped, downhill, x0=start, tol=tolerance, maxiter=iterations)

    proposed = jax.tree.map(jnp.add, params, delta)
    after = loss(outputs(proposed)[0])
    promised = optax.tree.vdot(gradient, delta) + optax.tree.vdot(delta, bend(delta, 0.0)) / 2
    ratio = (after - before) / promised
    accepted = after < before
    # A loss that is not a number proves the model wrong.
    wrong = ~(ratio >= 0.25)
    factor = jnp.where(wrong, 1.5, jnp.where(ratio > 0.75, 2 / 3, 1.0)).astype(state.damping.dtype)
    new = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), proposed, params)
    direction = jax.tree.map(lambda d: jnp.where(accepted, d, jnp.zeros_like(d)), delta)
    info = HessianFreeInfo(before, after, ratio, accepted, state.damping)
    return new, HessianFreeState(state.damping * factor, direction), info
