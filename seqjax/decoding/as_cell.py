"""What decoding runs: any model as a cell that reads one symbol and says how likely the next ones are."""

from typing import Literal

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Layer, Params, PyTree, State
from seqjax.layers import inner
from seqjax.layers.directions import reads_both_ways
from seqjax.logarithms import log_softmax, logsumexp
from seqjax.products import accumulator
from seqjax.records import maker


@maker
def as_cell(model: Cell[Params, State] | Layer[Params, State]) -> Cell[Params, State]:
    """A layer applied one tick at a time, as a cell; a cell is returned as it is.

    Args:
      model: a cell, or a layer that carries all its memory in its state: none that reads from the end.

    Returns:
      A cell with the layer's params and state.

    Raises:
      TypeError: neither a cell nor a layer, or one that is `bidirectional` or run in reverse.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.as_cell(sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 8)), sj.dense(8, 5)))
      >>> params = cell.init(jax.random.key(0))
      >>> state, logits = cell.step(params, cell.initial_state(params, (2,)), jnp.array([3, 1]))
      >>> logits.shape
      (2, 5)
    """
    if isinstance(model, Cell):
        return model
    remedy = "Pass a Cell or a Layer; of a model that reads something first, what encode returns and its decoder."
    checks.instance("as_cell", model, Layer, remedy)

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        if any(map(reads_both_ways, jax.tree.leaves(state, is_leaf=reads_both_ways))):
            raise TypeError(
                "as_cell: expected a layer that reads forwards, got a bidirectional one, which must see the whole "
                "sequence. Decode with one direction."
            )
        with inner.forwards_only():
            state, ys = model.apply(params, state, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x))
        return state, jax.tree.map(lambda y: y[0], ys)

    return Cell(model.init, model.initial_state, step)


@maker
def ensemble(*models: Cell | Layer, mean: Literal["arithmetic", "geometric"] = "arithmetic") -> Cell[tuple, tuple]:
    """Several models as one: the mean of what they believe about the next symbol.

        arithmetic    p(w) = (1/n) Σ_i p_i(w)
        geometric     p(w) ∝ ∏_i p_i(w)^(1/n)

    Args:
      *models: cells or layers that return logits over the same vocabulary.
      mean: ``"arithmetic"`` or ``"geometric"``.

    Returns:
      A cell with one entry a model in params and state, and log-probabilities as output.

    Raises:
      ValueError: no model, an unknown mean, or vocabularies of different sizes.
      TypeError: something else than cells and layers.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> both = sj.ensemble(sj.models.language_model(5, 8), sj.models.language_model(5, 16))
      >>> params = both.init(jax.random.key(0))
      >>> both.step(params, both.initial_state(params), jnp.array(1))[1].shape
      (5,)
    """
    if not models:
        raise ValueError("ensemble: expected at least one model, got none. Pass cells or layers.")
    checks.choice("ensemble", "mean", mean, ("arithmetic", "geometric"))
    cells = tuple(as_cell(model) for model in models)

    def init(key: Array) -> tuple:
        return tuple(cell.init(k) for cell, k in zip(cells, jax.random.split(key, len(cells))))

    def initial_state(params: tuple, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> tuple:
        keys = [None] * len(cells) if key is None else jax.random.split(key, len(cells))
        return tuple(cell.initial_state(p, batch_shape, key=k) for cell, p, k in zip(cells, params, keys))

    def step(params: tuple, state: tuple, x: PyTree) -> tuple[tuple, Array]:
        stepped = [cell.step(p, s, x) for cell, p, s in zip(cells, params, state)]
        logits = [y for _, y in stepped]
        if len({y.shape for y in logits}) != 1:
            raise ValueError(
                f"ensemble: expected logits of one shape, got {[y.shape for y in logits]}. "
                "Use models of one vocabulary."
            )
        log_probs = jnp.stack([log_softmax(y.astype(accumulator(y.dtype))) for y in logits])
        if mean == "arithmetic":
            y = logsumexp(log_probs, 0) - jnp.log(len(cells)).astype(log_probs.dtype)
        else:
            y = log_softmax(log_probs.mean(0))
        return tuple(s for s, _ in stepped), y

    return Cell(init, initial_state, step)
