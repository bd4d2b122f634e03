"""cuDNN's LSTM, through `jax.experimental.rnn`: one call for all of time, in float32.

cuDNN takes right-padded sequences by their lengths, batch first, and all weights as one vector: W and U transposed,
gates i, f, g, o as here, then two biases, of which the second is zero where the cell has one. A reversed LSTM is run
forwards over sequences turned round within their lengths.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Array, PyTree
from seqjax.engines import platforms
from seqjax.engines.base import Costs, Problem, Work
from seqjax.engines.costs import state_bytes
from seqjax.engines.equations import jaxprs
from seqjax.engines.memory import Schedule
from seqjax.products import Biases, preactivation


def prepare(problem: Problem) -> "CuDNN":
    """cuDNN's LSTM, for `seqjax.lstm` in float32 on a CUDA device, with ``lengths`` or without; has no forward mode.

    Raises:
      ValueError: with the first reason why cuDNN cannot run this, and the remedy.
    """
    reason = refusal(problem)
    if reason is not None:
        raise ValueError(
            "unroll: expected seqjax.lstm in float32, one batch axis, lengths at most and a CUDA device for "
            f"engine='cudnn', got {reason}. Use engine='split', which runs any step anywhere."
        )
    return CuDNN(problem)


def refusal(problem: Problem) -> str | None:
    """Why cuDNN cannot run this; None if it can."""
    params, state, xs = problem.params, problem.state, problem.xs
    if not is_lstm(problem.cell.step, params, state, xs):
        return "a cell with other equations"
    if problem.mask is not None:
        return "mask=: give lengths= if the padding is on the right"
    if problem.reset is not None:
        return "reset="
    if np.ndim(state[0]) != 2:
        return f"a state of shape {np.shape(state[0])}"
    if symbols := problem.symbols():
        return f"the sizes {', '.join(symbols)}, which are no numbers"
    dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves((params, state, xs))})
    if dtypes != ["float32"]:
        return ", ".join(dtypes)
    if platforms.name() not in ("gpu", "cuda"):
        return f"a program for {platforms.name()}"
    return None


class CuDNN:
    """An LSTM for cuDNN."""

    name = "cudnn"
    forwards = ""
    why: tuple[str, ...] = ("one call of cuDNN for all of time",)
    keeps = ("all",)

    def __init__(self, problem: Problem):
        """Keeps the problem, which must be one that cuDNN can run."""
        self.problem = problem

    def run(self, schedule: Schedule) -> tuple[PyTree, PyTree]:
        """One call; there is nothing to schedule."""
        given = self.problem
        return run(given.params, given.state, given.xs, given.lengths, reverse=given.reverse)

    def chunk(self, length: int, *, keep: str = "carries", forwards: bool = False) -> int:
        """All of time."""
        return length

    def tick_bytes(self) -> int:
        """What the reserve takes."""
        return self.costs().all

    def costs(self) -> Costs:
        """cuDNN's own reserve included."""
        return costs(self.problem.params, self.problem.state, self.problem.xs, self.problem.lengths)

    def work(self) -> Work:
        """It tells nothing."""
        return Work()


def is_lstm(step: Callable, params: PyTree, state: PyTree, xs: PyTree) -> bool:
    """Whether a step has the equations of `seqjax.lstm`, whoever wrote it: its jaxpr is compared."""
    if not (isinstance(params, tuple) and len(params) == 3 and isinstance(state, tuple) and len(state) == 2):
        return False
    if not jax.tree_util.all_leaves([*params[:2], *state, xs]):
        return False
    moving, inputs = jax.tree.leaves((params, state)), jax.tree.leaves(xs)
    avals = [*map(jax.typeof, moving), *jaxprs.element_types(inputs)]
    tree = jax.tree.structure(((params, state), xs))

    def equations(step: Callable) -> str:
        def flat(*values: Array) -> list:
            (params, state), x = tree.unflatten(values)
            return jax.tree.leaves(step(params, state, x))

        return str(jaxprs.inlined(jaxprs.trace(flat, *avals)))

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
    elif isinstance(b, tuple) and not isinstance(b, Biases):
        b = jnp.concatenate([jnp.zeros(hidden, w_h.dtype) if block is None else block for block in b])
    both = b if isinstance(b, Biases) else (b, jnp.zeros_like(b))
    return jnp.concatenate([w_x.T.reshape(-1), w_h.T.reshape(-1), *both])


def run(
    params: PyTree, state: PyTree, xs: Array, lengths: Array | None, *, reverse: bool, lstm: Callable | None = None
) -> tuple[PyTree, Array]:
    """Runs the LSTM over ``xs [T, B, d]``; ``lstm`` takes the place of cuDNN's in tests.

    Inputs of padded ticks become zeros: a NaN there must not reach the product that gives the weights' gradient.
    """
    lstm = lstm or _cudnn()
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


def costs(params: PyTree, state: PyTree, xs: PyTree, lengths: Array | None, *, lstm: Callable | None = None) -> Costs:
    """Bytes a tick that a gradient keeps, cuDNN's own reserve included."""

    def residuals(params: PyTree, state: PyTree, xs: PyTree) -> list:
        call = lambda params, state, xs: run(params, state, xs, lengths, reverse=False, lstm=lstm)
        pullback = jax.vjp(call, params, state, xs)[1]
        return jax.tree.leaves(pullback)

    kept = jax.eval_shape(residuals, params, state, xs)
    each = sum(jaxprs.nbytes(leaf) for leaf in kept) // jax.tree.leaves(xs)[0].shape[0]
    return Costs(state_bytes(state), each, each)


def turned(xs: Array, lengths: Array) -> Array:
    """``xs [T, B, d]``, each sequence in reverse order within its own length; padding stays behind."""
    ticks = jnp.arange(xs.shape[0], dtype=lengths.dtype)[:, None]
    source = jnp.where(ticks < lengths, lengths - 1 - ticks, ticks)
    return jnp.take_along_axis(xs, source[..., None], axis=0)


def _cudnn() -> Callable:
    """JAX's binding, loaded where it is used: what is experimental may move."""
    from jax.experimental import rnn

    return rnn.lstm
