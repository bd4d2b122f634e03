"""Attention: a cell that looks something up in a memory at every tick."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers, masks
from seqjax.base import Array, Cell, PyTree
from seqjax.products import along, dot
from seqjax.records import maker


class Memory(NamedTuple):
    """What is looked at: ``values [S, *B, m]`` and ``mask [S, *B]`` (True = there), or None if all are."""

    values: Array
    mask: Array | None = None


class AttendParams(NamedTuple):
    """The inner cell's parameters, the score's, and the memory, None until a sequence gives it.

    ``w_q [q, a]`` projects queries, ``w_m [m, a]`` memories; ``v [a]`` of the additive score, None in the
    other.
    """

    cell: PyTree
    w_q: Array
    w_m: Array
    v: Array | None
    memory: Memory | None


class AttendState(NamedTuple):
    """The inner state, the last context ``[*B, m]``, and the weights ``[*B, S]`` it was made with."""

    cell: PyTree
    context: Array
    weights: Array


@maker
def attend(
    cell: Cell, query_size: int, memory_size: int, size: int, *, score: Literal["additive", "dot"] = "additive"
) -> Cell[AttendParams, AttendState]:
    """A cell that reads a memory: it chooses where to look by what it has just computed.

        h_t = step(state, [x_t, c_{t-1}])
        e_ts = v · tanh(h_t W_q + m_s W_m)            additive
        e_ts = (h_t W_q) · (m_s W_m) / √a             dot
        α_t = softmax(e_t)      c_t = Σ_s α_ts m_s      y_t = [h_t, c_t]

    The memory belongs to a sequence and travels in the parameters: ``params._replace(memory=Memory(values,
    mask))``. Places where its mask is False get no weight, whatever they hold; if no place is left, the
    context is zero. The weights are part of the state, to be seen with `seqjax.with_states`.

    Args:
      cell: reads ``[x, c]`` and returns h; its input size is the input's plus ``memory_size``.
      query_size: of h.
      memory_size: m.
      size: a, where query and memory meet.
      score: ``"additive"`` (Bahdanau) or ``"dot"`` (Luong's general score, scaled).

    Returns:
      A cell with output ``[*B, query_size + memory_size]``.

    Raises:
      ValueError: a size below 1, an unknown score, or parameters without a memory.
      TypeError: something else than a cell.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.attend(sj.gru(3 + 5, 4), query_size=4, memory_size=5, size=6)
      >>> params = cell.init(jax.random.key(0))._replace(memory=sj.Memory(jnp.ones((7, 2, 5))))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), jnp.ones((9, 2, 3)))
      >>> ys.shape, state.weights.shape
      ((9, 2, 9), (2, 7))

    References:
      Bahdanau, Cho and Bengio (2015), Neural machine translation by jointly learning to align and translate.
      https://arxiv.org/abs/1409.0473
      Luong, Pham and Manning (2015), Effective approaches to attention-based neural machine translation.
      https://arxiv.org/abs/1508.04025
    """
    checks.instance("attend", cell, Cell, "Pass the cell itself, such as gru(64, 128).")
    checks.sizes("attend", query_size=query_size, memory_size=memory_size, size=size)
    checks.choice("attend", "score", score, ("additive", "dot"))

    def init(key: Array) -> AttendParams:
        cell_key, q_key, m_key, v_key = jax.random.split(key, 4)
        kind = jnp.zeros(()).dtype
        w_q = initializers.input_weights(q_key, (query_size, size), kind)
        w_m = initializers.input_weights(m_key, (memory_size, size), kind)
        v = initializers.input_weights(v_key, (size, 1), kind)[:, 0] if score == "additive" else None
        return AttendParams(cell.init(cell_key), w_q, w_m, v, None)

    def initial_state(
        params: AttendParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> AttendState:
        values = _memory(params).values
        return AttendState(
            cell.initial_state(params.cell, batch_shape, key=key),
            jnp.zeros((*batch_shape, memory_size), values.dtype),
            jnp.zeros((*batch_shape, values.shape[0]), values.dtype),
        )

    def step(params: AttendParams, state: AttendState, x: Array) -> tuple[AttendState, Array]:
        inner, h = cell.step(params.cell, state.cell, jnp.concatenate([x, state.context.astype(x.dtype)], axis=-1))
        checks.inputs("attend", h, h.shape[:-1], query_size)
        values, mask = _memory(params)
        if mask is not None:
            values = masks.zero(mask, values)
        query, keys = dot(h, params.w_q), dot(values, params.w_m)
        query = query[None]
        if params.v is not None:
            scores = (jnp.tanh(query + keys) * along(params.v, keys)).sum(-1)
        else:
            scores = (query * keys).sum(-1) / jnp.sqrt(size).astype(keys.dtype)
        weights = _softmax(scores, mask)
        context = (weights[..., None] * values).sum(0).astype(state.context.dtype)
        weights = jnp.moveaxis(weights, 0, -1).astype(state.weights.dtype)
        return AttendState(inner, context, weights), jnp.concatenate([h, context.astype(h.dtype)], axis=-1)

    return Cell(init, initial_state, step)


def _memory(params: AttendParams) -> Memory:
    if params.memory is None:
        raise ValueError(
            "attend: expected parameters with a memory, got None. "
            "Set it with params._replace(memory=Memory(values, mask)), values [S, *batch, m]."
        )
    return params.memory


def _softmax(scores: Array, mask: Array | None) -> Array:
    """Weights over the first axis; all zero where no place is left."""
    if mask is None:
        return jax.nn.softmax(scores, axis=0)
    scores, some = jnp.where(mask, scores, -jnp.inf), mask.any(0, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(some, scores.max(0, keepdims=True), 0))
    powers = jnp.where(mask, jnp.exp(jnp.where(mask, scores - top, 0)), 0)
    return powers / jnp.where(some, powers.sum(0, keepdims=True), 1)
