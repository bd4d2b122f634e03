"""Hidden Markov models as recurrent cells: belief propagation and Viterbi, a tick at a time.

The parameters of these cells are the model itself; `seqjax.unroll` runs them like any other cell, over streams,
batches, masks and resets, and gradients train them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Array, Cell, PyTree
from seqjax.hmm.messages import divided, max_product, maximum, sum_product
from seqjax.hmm.observations import Model
from seqjax.hmm.rows import check_shapes
from seqjax.records import maker


def cell(model: Model) -> Cell[Model, Array]:
    """Belief propagation as a cell: the state predicts the next hidden state, the output is the filtered one.

        y = ln P(z_t | x_1 … x_t) = p + ln P(x | z) - ln Σ        p' = ln(exp(y) A) = ln P(z_{t+1} | x_1 … x_t)

    Unrolled it equals `seqjax.hmm.forward`, to the log-domain rounding.

    Args:
      model: its kind and sizes are read, not its values, which travel as the parameters of the cell:
        ``seqjax.unroll(hmm.cell(model), model, state, xs)``. ``init(key)`` draws a random model of these sizes,
        where it has ``redraw``.

    Returns:
      A cell with state and output ``[*B, N]``.

    Example:
      >>> import jax, seqjax as sj
      >>> from seqjax import hmm
      >>> model = hmm.random(jax.random.key(0), 3, 5)
      >>> belief = hmm.cell(model)
      >>> xs = jax.numpy.array([0, 4, 2])
      >>> _, ys = sj.unroll(belief, model, belief.initial_state(model), xs)
      >>> bool(jax.numpy.allclose(ys, hmm.forward(model, xs).log_filtered, atol=1e-5))
      True
    """

    return belief_propagation(sizes_of(model))


@maker
def belief_propagation(sizes: Model) -> Cell[Model, Array]:
    """`cell` for every model of these sizes: what it is made by, as arrays would make no two of them equal."""

    def step(model: Model, p: Array, x: PyTree) -> tuple[Array, Array]:
        f = p + _evidence("cell", model, p, x)
        return sum_product(f[..., None, :], model.log_transition)[..., 0, :], divided(f)

    return _cell(sizes, step)


def viterbi_cell(model: Model) -> Cell[Model, Array]:
    """Viterbi as a cell: the same network with maxima in place of sums.

        y_j = ln (the best path into j, divided by the best of all)        p'_j = max_i (y_i + ln A_ij)

    that is, v'_j = max_i (v_i u_ji) w_jk of the textbook, in logarithms and scaled. `seqjax.hmm.backtrack` turns the
    outputs into the best path.

    Args:
      model: read as in `cell`.

    Returns:
      A cell with state and output ``[*B, N]``.
    """

    return best_paths(sizes_of(model))


@maker
def best_paths(sizes: Model) -> Cell[Model, Array]:
    """`viterbi_cell` for every model of these sizes."""

    def step(model: Model, p: Array, x: PyTree) -> tuple[Array, Array]:
        f = p + _evidence("viterbi_cell", model, p, x)
        return max_product(f[..., None, :], model.log_transition)[..., 0, :], divided(f, maximum)

    return _cell(sizes, step)


def belief_cell(model: Model) -> Cell[Model, Array]:
    """Belief propagation in plain probabilities, as the textbook draws it: a product and a linear layer.

        h = exp(ln p + ln(W x))        y = h = P(z_t, x_1 … x_t)        p' = U h,  U = Aᵀ

    Nothing is divided out, so a few hundred ticks underflow; `cell` is the one to use.

    Args:
      model: read as in `cell`.

    Returns:
      A cell with state and output ``[*B, N]``.
    """

    return plain_belief_propagation(sizes_of(model))


@maker
def plain_belief_propagation(sizes: Model) -> Cell[Model, Array]:
    """`belief_cell` for every model of these sizes."""

    def step(model: Model, p: Array, x: PyTree) -> tuple[Array, Array]:
        h = p * jnp.exp(_evidence("belief_cell", model, p, x))
        return h @ jnp.exp(model.log_transition), h

    return _cell(sizes, step, start=jnp.exp)


def sizes_of(model: Model) -> Model:
    """The model's kind, shapes and dtypes, without its numbers."""
    check_shapes(model)
    if callable(model.log_transition) or np.ndim(model.log_transition) > 2:
        raise ValueError(
            f"hmm: expected transitions [N, N] that serve every tick, got a {type(model).__name__} whose transitions "
            "change from step to step, which a cell does not count. Use hmm.forward, hmm.posterior or hmm.viterbi."
        )
    return jax.tree.map(lambda p: jax.ShapeDtypeStruct(np.shape(p), jnp.result_type(p)), model)


def _cell(sizes: Model, step: Callable, start: Callable[[Array], Array] = lambda p: p) -> Cell[Model, Array]:
    def initial_state(model: Model, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> Array:
        return jnp.broadcast_to(start(model.log_initial), (*batch_shape, *model.log_initial.shape))

    def init(key: Array) -> Model:
        model: Any = sizes
        if not hasattr(model, "redraw"):
            raise TypeError(
                f"hmm: expected a model that can be drawn, got {type(model).__name__}. Pass the model itself as "
                "params, or give it redraw(key)."
            )
        return model.redraw(key)

    return Cell(init, initial_state, step)


def _evidence(who: str, model: Model, p: Array, x: PyTree) -> Array:
    evidence = model.evidence(x)
    if evidence.shape != p.shape:
        raise ValueError(
            f"{who}: expected evidence of shape {p.shape} like the state, got {evidence.shape}. "
            f"Make the state with initial_state(params, {evidence.shape[:-1]})."
        )
    return evidence
