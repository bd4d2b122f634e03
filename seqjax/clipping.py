"""The norm of a whole gradient, and what bounds it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.base import Array, PyTree
from seqjax.products import accumulator


def clip_by_global_norm(threshold: float) -> optax.GradientTransformation:
    """Scales the gradient down to a norm, over all parameters together.

        g ← η g / ‖g‖ if ‖g‖ > η, else g, unchanged to the bit

    `optax.clip_by_global_norm` differs at ‖g‖ = η, where it rounds, and where ‖g‖² is no number of the gradient's type
    (float16 above 255, float32 above 1.8e19), where it makes a finite gradient zero. A gradient with an entry that is
    not finite becomes NaN, all of it.

    Args:
      threshold: η.

    Returns:
      An Optax transformation without state.

    Raises:
      ValueError: a threshold that is not above 0.

    References:
      Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks.
      https://arxiv.org/abs/1211.5063
    """
    if not threshold > 0:
        raise ValueError(f"clip_by_global_norm: expected a threshold above 0, got {threshold!r}. Raise it.")

    def scale(gradient: PyTree, params: PyTree | None) -> PyTree:
        unit, length = _scaled_norm(gradient)
        # g and ‖g‖ in the same unit: their quotient is a number where the norm itself is none
        factor = jnp.where(length < jnp.inf, threshold / length, jnp.nan)

        def leaf(g: Array) -> Array:
            return jnp.where(unit * length <= threshold, g, (g / unit * factor).astype(g.dtype))

        with jax.numpy_dtype_promotion("standard"):
            return jax.tree.map(leaf, gradient)

    return optax.stateless(scale)


def global_norm(tree: PyTree) -> Array:
    """‖·‖₂ over all leaves, in at least float32; infinite only where it is."""
    unit, length = _scaled_norm(tree)
    return unit * length


def is_finite(tree: PyTree) -> Array:
    """Whether every number is finite; with `global_norm` beside it no further look at them."""
    return _scaled_norm(tree)[1] < jnp.inf


def _scaled_norm(tree: PyTree) -> tuple[Array, Array]:
    """u and ‖x / u‖, with u a power of two near the largest entry, so that the squares fit and nothing is rounded."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if np.size(leaf)]
    kind = jnp.finfo(np.result_type(np.float32, *(accumulator(jnp.finfo(leaf.dtype).dtype) for leaf in leaves)))
    moduli = [jnp.abs(leaf).astype(kind.dtype) for leaf in leaves]
    largest = jnp.stack([jnp.zeros((), kind.dtype), *(modulus.max() for modulus in moduli)]).max()
    unit = jax.lax.reduce_precision(jnp.clip(largest, kind.tiny, kind.max / 16), kind.nexp, 0)  # 1/u is a number too
    squares = [jnp.sum((modulus / unit) ** 2) for modulus in moduli]
    return unit, jnp.sqrt(sum(squares, jnp.zeros((), kind.dtype)))


def clipped_by(clip: optax.GradientTransformation | None, gradient: PyTree, params: PyTree) -> tuple[PyTree, Array]:
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
    return clipped, jnp.stack([jnp.zeros((), bool), *jax.tree.leaves(changed)]).any()
