"""A model and its loss a chunk at a time, so that the logits of a long sequence are never all alive."""

import jax
import jax.numpy as jnp

from seqjax import checks, symbolic
from seqjax.base import Array, Layer, PyTree
from seqjax.fixing import fixed
from seqjax.losses import Tally
from seqjax.objectives import Batch, Loss, Objective, begin, chunk, in_order, length, ticks, trains
from seqjax.records import maker


@maker
def over_chunks(layer: Layer, loss: Loss, size: int, *, redraw: bool = True) -> Objective:
    """`seqjax.objective` in the memory of one chunk and of a state for each.

        s_k, tally_k = objective(params, s_{k-1}, chunk k)      tally = Σ_k tally_k

    Forwards only the states between chunks are kept; backwards each chunk is run again and its gradient goes
    on to the chunk before. Value and gradient are those of the whole. What is not the same: dropout between
    layers draws with one key a chunk, and a bidirectional layer's backward reader begins anew at each.

    Args:
      layer: the model.
      loss: ``(ys, targets, mask) -> Tally``.
      size: K, ticks a chunk; the last chunk is shorter where T is no multiple.
      redraw: as in `seqjax.objective`.

    Returns:
      ``(params, state, batch, key=None) -> (state, Tally)``.

    Raises:
      ValueError: a size below 1.
      TypeError: something else than a layer, or a loss that returns no `Tally`.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.recurrent(sj.gru(1, 1))
      >>> params, batch = model.init(jax.random.key(0)), sj.Batch(jnp.ones((7, 2, 1)), jnp.zeros((7, 2, 1)))
      >>> loss = sj.over_chunks(model, sj.mean_squared_error, 3)
      >>> loss(params, model.initial_state(params, (2,)), batch)[1].count.item()
      14

    References:
      Chen et al. (2016), Training deep nets with sublinear memory cost. https://arxiv.org/abs/1604.06174
    """
    checks.sizes("over_chunks", size=size)
    checks.instance("over_chunks", layer, Layer, "Wrap a cell in recurrent(cell).")

    @trains(lambda params: fixed(layer, params))
    def run(params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        in_order("over_chunks", layer, params, state, batch)
        state, key = begin("over_chunks", layer, params, state, key, redraw)
        total = length("over_chunks", batch)
        if not symbolic.known(total):
            raise ValueError(
                f"over_chunks: expected a number of ticks to cut into chunks, got the symbol {total}. "
                "Export with a length that is a number, or use objective, which takes any."
            )
        many, rest = divmod(total, size)
        keys = None if key is None else jax.random.split(key, many + 1)

        def one(params: PyTree, state: PyTree, piece: Batch, key: Array | None) -> tuple[PyTree, Tally]:
            new, tally = chunk(layer, loss, params, state, piece, key)
            checks.same_state("over_chunks", state, new)
            return new, tally

        tallies = []
        if many:
            whole = ticks(batch, 0, many * size)._replace(lengths=None)
            pieces = jax.tree.map(lambda x: x.reshape(many, size, *x.shape[1:]), whole)
            if batch.lengths is not None:
                each_length = [ticks(batch, i * size, (i + 1) * size).lengths for i in range(many)]
                pieces = pieces._replace(lengths=jnp.stack(each_length))
            again = jax.checkpoint(one, prevent_cse=False)
            state, each = jax.lax.scan(
                lambda s, piece: again(params, s, *piece),
                state,
                (pieces, None if keys is None else keys[:many]),
            )
            tallies.append(jax.tree.map(lambda x: x.sum(0), each))
        if rest:
            last = None if keys is None else keys[many]
            state, tally = jax.checkpoint(one)(params, state, ticks(batch, many * size), last)
            tallies.append(tally)
        return state, jax.tree.map(lambda *x: sum(x[1:], x[0]), *tallies)

    return run
