"""Penalties on parameters: large weights cost something, whatever the data says."""

from collections.abc import Callable
from numbers import Real

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Array, PyTree
from seqjax.products import accumulator
from seqjax.records import maker

Penalty = Callable[[PyTree], Array]


@maker
def l2(rate: float, *names: str) -> Penalty:
    """Ridge: weights cost their squares.

        λ Σ w²

    For `seqjax.train_step`. Its gradient is 2 λ w, which an adaptive optimizer scales like the rest; decay beside such
    an optimizer is ``optax.adamw``.

    Args:
      rate: λ.
      *names: of the parameters that pay, the fields that hold them: ``"w_h"``, or ``"w_x", "w_h"``; what lies inside
        such a field pays too. All that are floats if there is none, biases included.

    Returns:
      ``params -> scalar``, in at least float32. Penalties add up in a function of one's own, of parts of the
      parameters: ``lambda params: l2(1e-4)(params[1]) + l1(1e-3, "w")(params[2])``.

    Raises:
      ValueError: a rate below 0; when called, a name that no parameter bears.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> params = jax.tree.map(jnp.ones_like, sj.lstm(3, 4).init(jax.random.key(0)))
      >>> sj.losses.l2(0.5, "w_h")(params).item(), sj.losses.l2(0.5)(params).item()
      (32.0, 64.0)

    References:
      Krogh and Hertz (1991), A simple weight decay can improve generalization.
      https://proceedings.neurips.cc/paper/1991/hash/8eefcfdf5990e441f0fb6f3fad709e21-Abstract.html
    """
    return _summed("l2", rate, names, lambda w: (w * w).sum())


@maker
def l1(rate: float, *names: str) -> Penalty:
    """Lasso: weights cost their size, so that small ones go to zero.

        λ Σ |w|      with the gradient λ sign w, 0 at 0

    Args:
      rate: λ.
      *names: as in `l2`.

    Returns:
      ``params -> scalar``, in at least float32.

    Raises:
      ValueError: a rate below 0; when called, a name that no parameter bears.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> sj.losses.l1(0.5, "w")({"w": jnp.array([3.0, -1.0]), "b": jnp.array([7.0])}).item()
      2.0
    """
    return _summed("l1", rate, names, lambda w: (w * jax.lax.stop_gradient(jnp.sign(w))).sum())


def _summed(who: str, rate: float, names: tuple[str, ...], cost: Callable[[Array], Array]) -> Penalty:
    if not isinstance(rate, Real) or not rate >= 0:
        raise ValueError(f"{who}: expected a rate of at least 0, got {rate!r}. 0 is no penalty.")

    def penalty(params: PyTree) -> Array:
        leaves = [
            ([_name(entry) for entry in path], leaf)
            for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
            if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        ]
        for name in names:
            if not any(name in path for path, _ in leaves):
                known = ", ".join(sorted({path[-1] for path, _ in leaves if path}))
                raise ValueError(f"{who}: expected the name of a parameter, such as {known}, got {name!r}. Correct it.")
        total = jnp.zeros((), accumulator(jnp.zeros(()).dtype))
        for path, leaf in leaves:
            if not names or any(name in path for name in names):
                own = cost(jnp.asarray(leaf).astype(accumulator(jnp.result_type(leaf))))
                total = total + own.astype(total.dtype)
        return rate * total

    return penalty


def cost_of(penalty: Penalty, params: PyTree) -> Array:
    """What the parameters pay, one number."""
    cost = penalty(params)
    if np.shape(cost) or not jnp.issubdtype(jnp.result_type(cost), jnp.floating):
        raise ValueError(
            f"train_step: expected penalty to return a float, got {jnp.result_type(cost)} of shape {np.shape(cost)}. "
            "Sum over the parameters."
        )
    return jnp.asarray(cost)


def _name(entry: object) -> str:
    """A step on the way to a leaf: the field, key or place."""
    return str(next(getattr(entry, kind) for kind in ("name", "key", "idx") if hasattr(entry, kind)))
