"""cuDNN's LSTM, through `jax.experimental.rnn`: one call for all of time, in float32.

cuDNN takes right-padded sequences by their lengths, batch first, and all weights as one vector: W and U transposed,
gates i, f, g, o as here, then two biases, of which one is ours and the other zero. A reversed LSTM is run forwards over
sequences turned round within their lengths.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from seqjax.base import Array, PyTree
from seqjax.engines import jaxprs
from seqjax.engines.costs import Costs
from seqjax.products import preactivation


def check(
    step: Callable, params: PyTree, state: PyTree, xs: PyTree, *, masked: bool, resets: bool, memory: str | int
) -> None:
    """Raises with the reason if cuDNN cannot run this.

    Args:
      step: of the cell.
      params: of the cell.
      state: before the first tick.
      xs: inputs.
      masked: whether there is a mask, other than by lengths.
      resets: whether there are resets.
      memory: what to keep for the gradient.

    Raises:
      ValueError: with the first reason found, and the remedy.
    """
    reason = refusal(step, params, state, xs, masked=masked, resets=resets, memory=memory)
    if reason is not None:
        raise ValueError(
            "unroll: expected seqjax.lstm in float32, one batch axis, lengths at most and a CUDA device for "
            f"engine='cudnn', got {reason}. Use engine='split', which runs any step anywhere."
        )


def refusal(
    step: Callable, params: PyTree, state: PyTree, xs: PyTree, *, masked: bool, resets: bool, memory: str | int
) -> str | None:
    """Why cuDNN cannot run this; None if it can."""
    if not is_lstm(step, params, state, xs):
        return "a cell with other equations"
    if masked:
        return "mask=: give lengths= if the padding is on the right"
    if resets:
        return "reset="
    if memory not in ("auto", "all"):
        return f"memory={memory!r}, where cuDNN keeps all activations"
    if jnp.ndim(state[0]) != 2:
        return f"a state of shape {jnp.shape(state[0])}"
    dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves((params, state, xs))})
    if dtypes != ["float32"]:
        return ", ".join(dtypes)
    if jax.default_backend() not in ("gpu", "cuda"):
        return f"the default backend {jax.default_backend()}"
    return None


def is_lstm(step: Callable, params: PyTree, state: PyTree, xs: PyTree) -> bool:
    """Whether a step has the equations of `seqjax.lstm`, whoever wrote it: its jaxpr is compared."""
    if not (isinstance(params, tuple) and len(params) == 3 and isinstance(state, tuple) and len(state) == 2):
        return False
    types = (jax.tree.map(jax.typeof, (params, state)), jax.tree.map(jaxprs.element_type, xs))
    avals, tree = jax.tree.flatten(types)

    def equations(step: Callable) -> str:
        def flat(*values: Array) -> list:
            (params, state), x = tree.unflatten(values)
            return jax.tree.leaves(step(params, state, x))

        return str(jaxprs.inline(jaxprs.trace(flat, *avals), avals))

    try:
        return equations(step) == equations(lstm_step)
    except (TypeError, ValueError, AttributeError):
        return False


def lstm_step(params: PyTree, state: PyTree, x: Array) -> tuple[tuple[Array, Array], Array]:
    """What cuDNN computes at a tick."""
    h, c = state
    i, f, g, o = jnp.split(preactivation(x, h, *params), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def pack(params: PyTree) -> Array:
    """The parameters of one `seqjax.lstm` as cuDNN's vector."""
    w_x, w_h, b = params
    hidden = w_h.shape[0]
    if b is None:
        b = jnp.zeros(4 * hidden, w_h.dtype)
    elif isinstance(b, tuple):
        b = jnp.concatenate([jnp.zeros(hidden, w_h.dtype) if block is None else block for block in b])
    return jnp.concatenate([w_x.T.reshape(-1), w_h.T.reshape(-1), b, jnp.zeros_like(b)])


def run(
    params: PyTree, state: PyTree, xs: Array, lengths: Array | None, *, reverse: bool, lstm: Callable = rnn.lstm
) -> tuple[PyTree, Array]:
    """Runs the LSTM over ``xs [T, B, d]``; ``lstm`` takes the place of cuDNN's in tests.

    Inputs of padded ticks become zeros: a NaN there must not reach the product that gives the weights' gradient.
    """
    length, batch, size = xs.shape
    h0, c0 = state
    seen = jnp.full(batch, length, jnp.int32) if lengths is None else lengths.astype(jnp.int32)
    # cuDNN takes no empty sequence: one tick is run, and forgotten.
    counted = jnp.maximum(seen, 1)
    real = jnp.arange(length, dtype=jnp.int32)[:, None] < seen
    x = jnp.where(real[..., None], xs, jnp.zeros_like(xs))
    if reverse:
        x = turned(x, seen)
    ys, h, c = lstm(
        x.swapaxes(0, 1), h0[None], c0[None], pack(params), counted,
        size, h0.shape[-1], 1, 0.0, False,
    )  # fmt: skip
    ys = jnp.where(real[..., None], ys.swapaxes(0, 1), jnp.zeros((), ys.dtype))
    if reverse:
        ys = turned(ys, seen)
    empty = (seen == 0)[:, None]
    last = jax.tree.unflatten(jax.tree.structure(state), [jnp.where(empty, h0, h[0]), jnp.where(empty, c0, c[0])])
    return last, ys


def costs(params: PyTree, state: PyTree, xs: PyTree, lengths: Array | None, *, lstm: Callable = rnn.lstm) -> Costs:
    """Bytes a tick that a gradient keeps, cuDNN's own reserve included."""

    def residuals(params: PyTree, state: PyTree, xs: PyTree) -> list:
        call = lambda params, state, xs: run(params, state, xs, lengths, reverse=False, lstm=lstm)
        pullback = jax.vjp(call, params, state, xs)[1]
        return jax.tree.leaves(pullback)

    kept = jax.eval_shape(residuals, params, state, xs)
    each = sum(jaxprs.nbytes(leaf) for leaf in kept) // jax.tree.leaves(xs)[0].shape[0]
    return Costs(sum(jaxprs.nbytes(jax.typeof(leaf)) for leaf in jax.tree.leaves(state)), each, each)


def turned(xs: Array, lengths: Array) -> Array:
    """``xs [T, B, d]``, each sequence in reverse order within its own length; padding stays behind."""
    ticks = jnp.arange(xs.shape[0], dtype=lengths.dtype)[:, None]
    source = jnp.where(ticks < lengths, lengths - 1 - ticks, ticks)
    return jnp.take_along_axis(xs, source[..., None], axis=0)
