"""Paths of hidden states: the most probable, the k most probable, and random ones."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, masks
from seqjax.base import Array, PyTree
from seqjax.buffers import owning
from seqjax.hmm.inference import filtered, incoming
from seqjax.hmm.messages import BLOCK, before, divided, in_blocks, maximum, out_of_blocks, preceded
from seqjax.hmm.observations import Engine, Model, Prepared, inferred, prepare
from seqjax.hmm.varying import entering
from seqjax.products import along


class Path(NamedTuple):
    """``states [T, *B]`` of int, and ``log_prob [*B]``: ln p(states, observations)."""

    states: Array
    log_prob: Array


def viterbi(model: Model, xs: PyTree, *, mask: Array | None = None, engine: Engine = "scan") -> Path:
    """The most probable path of hidden states.

        δ_t(j) = max_i δ_{t-1}(i) P(j | i) · p(x_t | j)        z_T = argmax δ_T,  z_t = argmax_i δ_t(i) P(z_{t+1} | i)

    Args:
      model: the model.
      xs: observations, as in `seqjax.hmm.forward`.
      mask: ``[T, *B]``, True at real ticks.
      engine: ``"scan"`` or ``"associative"``.

    Returns:
      The path, zero at masked ticks, and its joint log-probability with the observations (-inf where no path is
      possible; the path then means nothing). The log-probability is differentiable, the path held fixed.

    References:
      Viterbi (1967), Error bounds for convolutional codes and an asymptotically optimum decoding algorithm.
      https://doi.org/10.1109/TIT.1967.1054010
    """
    return inferred("viterbi", _viterbi, model, xs, mask, engine)


def top_paths(model: Model, xs: PyTree, k: int, *, mask: Array | None = None) -> Path:
    """The k most probable paths, best first.

    Each state keeps its k best ways in: δ_t(j, 1…k) are the k largest of δ_{t-1}(i, r) P(j | i) · p(x_t | j).

    Args:
      model: the model.
      xs: observations, as in `seqjax.hmm.forward`.
      k: how many paths.
      mask: ``[T, *B]``, True at real ticks.

    Returns:
      ``states [T, *B, k]`` and ``log_prob [*B, k]``. Where fewer than k paths are possible the rest have
      log-probability -inf and states -1.

    Raises:
      ValueError: k below 1, or what `seqjax.hmm.forward` raises.

    References:
      Seshadri and Sundberg (1994), List Viterbi decoding algorithms with applications.
      https://doi.org/10.1109/26.277844
    """
    checks.sizes("top_paths", k=k)
    return inferred("top_paths", _top_paths, model, xs, mask, k)


def log_joint(model: Model, states: Array, xs: PyTree, *, mask: Array | None = None) -> Array:
    """ln p(z_1 … z_T, x_1 … x_T) of a path.

    Args:
      model: the model.
      states: the path ``[T, *B]`` of int.
      xs: observations, as in `forward`.
      mask: ``[T, *B]``, True at real ticks.

    Returns:
      ``[*B]``, NaN where a real tick's state is none of the model's.

    Raises:
      TypeError: states that are not integers.
      ValueError: states of another shape than the observations, or what `forward` raises.
    """
    return inferred("log_joint", _log_joint, model, xs, mask, states)


def sample_paths(model: Model, key: Array, xs: PyTree, *, mask: Array | None = None, engine: Engine = "scan") -> Array:
    """A path drawn from p(z_1 … z_T | x_1 … x_T): filter forwards, draw backwards.

    Args:
      model: the model.
      key: one JAX key; `jax.vmap` over keys draws several paths.
      xs: observations, as in `seqjax.hmm.forward`.
      mask: ``[T, *B]``, True at real ticks.
      engine: ``"scan"`` or ``"associative"``.

    Returns:
      States ``[T, *B]``, zero at masked ticks.
    """
    return inferred("sample_paths", _sample_paths, model, xs, mask, key, engine)


@functools.partial(jax.jit, static_argnames=("length", "batch_shape"))
def sample(model: Model, key: Array, length: int, batch_shape: tuple[int, ...] = ()) -> tuple[Array, PyTree]:
    """Hidden states and observations drawn from the model.

    Args:
      model: the model.
      key: one JAX key.
      length: T.
      batch_shape: B.

    Returns:
      States ``[T, *B]`` and observations ``[T, *B, ...]``.

    Example:
      >>> import jax
      >>> from seqjax import hmm
      >>> states, xs = hmm.sample(hmm.random(jax.random.key(0), 3, 5), jax.random.key(1), 10, (2,))
      >>> states.shape, xs.shape
      ((10, 2), (10, 2))
    """
    checks.sizes("sample", length=length)
    if not hasattr(model, "emit"):
        raise TypeError(
            f"sample: expected a model that draws observations, got {type(model).__name__}. Use HMM or GaussianHMM, or "
            "give it emit(key, states)."
        )
    if callable(model.log_transition) or np.shape(model.log_transition)[:-2] not in ((), (length - 1,)):
        got = "a function of inputs" if callable(model.log_transition) else f"shape {np.shape(model.log_transition)}"
        raise ValueError(
            f"sample: expected log_transition [N, N] or, for {length} ticks, [{length - 1}, N, N], got {got}. Replace "
            "it by the transitions of these ticks."
        )
    noise_key, emit_key = jax.random.split(key)
    noise = jax.random.gumbel(noise_key, (length, *batch_shape, model.log_initial.shape[0]), model.log_initial.dtype)

    varies = model.log_transition.ndim > 2
    onward = jnp.concatenate([model.log_transition, jnp.zeros_like(noise, shape=(1, *model.log_transition.shape[1:]))])

    def step(prediction: Array, tick: tuple[Array, Array | None]) -> tuple[Array, Array]:
        noise, a = tick
        state = (prediction + noise).argmax(-1)
        return (model.log_transition if a is None else a)[state], state

    start = jnp.broadcast_to(model.log_initial, noise.shape[1:])
    _, states = jax.lax.scan(step, start, (noise, onward if varies else None))
    return states, model.emit(emit_key, states)


@owning
def backtrack(scores: Array, log_transition: Array, *, mask: Array | None = None, engine: Engine = "scan") -> Array:
    """Follows scores back from the end: z_T = argmax s_T, z_t = argmax_i s_t(i) + ln P(z_{t+1} | i).

    With Viterbi's δ it is the best path; with filtered log-probabilities plus Gumbel noise a random one.

    Args:
      scores: ``[T, *B, N]``.
      log_transition: ``[N, N]``, or one a step, ``[T-1, N, N]`` or ``[T-1, *B, N, N]``.
      mask: ``[T, *B]``, True at real ticks.
      engine: ``"scan"``, or ``"associative"``: each tick maps the next state to its own, and maps compose.

    Returns:
      States ``[T, *B]``, zero at masked ticks.
    """
    n = scores.shape[-1]
    if log_transition.ndim > 2:
        return _backtrack_varying(scores, log_transition, mask)
    onward = jnp.concatenate([log_transition.T, jnp.zeros_like(log_transition[:1])])  # row n: no state follows

    def step(following: Array, tick: tuple[Array, Array | None]) -> tuple[Array, Array]:
        score, real = tick  # [..., N]; following [..., S], the state after this tick or n
        state = first_best(score[..., None, :] + onward[following])
        return (state if real is None else jnp.where(real[..., None], state, following)), state

    if engine == "scan":
        start = jnp.full((*scores.shape[1:-1], 1), n, jnp.int32)
        states = jax.lax.scan(step, start, (scores, mask), reverse=True)[1][..., 0]
    else:
        every = jnp.broadcast_to(
            jnp.arange(n + 1, dtype=jnp.int32), (-(-len(scores) // BLOCK), *scores.shape[1:-1], n + 1)
        )
        real = in_blocks(jnp.ones(scores.shape[:-1], bool) if mask is None else mask)
        maps, states = jax.lax.scan(step, every, (in_blocks(scores), real), reverse=True)
        maps = jax.lax.associative_scan(
            lambda later, earlier: jnp.take_along_axis(earlier, later, -1), maps[1:], reverse=True
        )
        following = jnp.concatenate([maps, every[:1]])[..., n:]
        states = out_of_blocks(jnp.take_along_axis(states, following[None], -1), len(scores))[..., 0]
    return states if mask is None else masks.zero(mask, states)


def _backtrack_varying(scores: Array, log_transition: Array, mask: Array | None) -> Array:
    def step(onward: Array, tick: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
        score, a, real = tick  # [*B, N]; onward, the transitions into the state that follows
        state = first_best(score + onward)
        into = jnp.take_along_axis(a, state[..., None, None], -1)[..., 0]
        return (into if real is None else jnp.where(real[..., None], into, onward)), state

    a = entering(log_transition, scores.ndim - 2).astype(scores.dtype)
    states = jax.lax.scan(step, jnp.zeros_like(scores[0]), (scores, a, mask), reverse=True)[1]
    return states if mask is None else masks.zero(mask, states)


def path_score(chain: Prepared, states: Array) -> Array:
    """The score of a path: initial, transitions between real ticks, evidence at real ticks."""
    log_initial, log_a, evidence, mask, _ = chain
    seen = jnp.take_along_axis(evidence, states[..., None], -1)[..., 0]
    if mask is None and log_a.ndim == 2:
        return log_initial[states[0]] + log_a[states[:-1], states[1:]].sum(0) + seen.sum(0)
    if log_a.ndim == 2:
        steps = log_a[before(states, mask), states]
    else:
        rows = jnp.take_along_axis(entering(log_a, states.ndim - 1), before(states, mask)[..., None, None], -2)
        steps = jnp.take_along_axis(rows[..., 0, :], states[..., None], -1)[..., 0]
    moves = jnp.where(preceded(states.shape, mask), steps, log_initial[states])
    return (moves + seen if mask is None else jnp.where(mask, moves + seen, 0)).sum(0)


def first_best(scores: Array) -> Array:
    """argmax over the last axis; two plain reductions, which a CPU runs faster than `jax.numpy.argmax`."""
    n = scores.shape[-1]
    best = scores == scores.max(-1, keepdims=True)
    return jnp.where(best, jnp.arange(n, dtype=jnp.int32), n - 1).min(-1)


@functools.partial(jax.jit, static_argnames="engine")
def _viterbi(model: Model, xs: PyTree, mask: Array | None, engine: Engine) -> Path:
    chain = prepare("viterbi", model, xs, mask, engine)
    scores = incoming(chain, engine, best=True) + chain.evidence
    states = backtrack(scores, chain.log_transition, mask=mask, engine=engine)
    return Path(states, path_score(chain, states))


@functools.partial(jax.jit, static_argnames="engine")
def _sample_paths(model: Model, xs: PyTree, mask: Array | None, key: Array, engine: Engine) -> Array:
    chain = prepare("sample_paths", model, xs, mask, engine)
    scores = filtered(chain, incoming(chain, engine), engine).log_filtered
    noise = jax.random.gumbel(key, scores.shape, scores.dtype)
    return backtrack(scores + noise, chain.log_transition, mask=mask, engine=engine)


@functools.partial(jax.jit, static_argnames="k")
def _top_paths(model: Model, xs: PyTree, mask: Array | None, k: int) -> Path:
    chain = prepare("top_paths", model, xs, mask)
    log_initial, log_a, evidence, mask, _ = chain
    varies = entering(log_a, evidence.ndim - 2) if log_a.ndim > 2 else None
    real = jnp.ones(evidence.shape[:-1], bool) if mask is None else mask
    n = evidence.shape[-1]
    ways = jnp.arange(n * k, dtype=jnp.int32).reshape(n, k)  # a way in: state i, rank r, numbered i k + r

    def step(state: tuple[Array, Array], tick: tuple[Array, Array, Array | None]) -> tuple[tuple, Array]:
        (scores, started), (e, real, a) = state, tick  # scores [*B, N, k], -inf where there is no such path
        joint = scores[..., :, :, None] + along((log_a if a is None else a)[..., :, None, :], scores[..., None])
        best, way = jax.lax.top_k(jnp.moveaxis(joint.reshape(*joint.shape[:-3], n * k, n), -1, -2), k)
        first = jnp.concatenate([log_initial[:, None], jnp.full((n, k - 1), -jnp.inf, evidence.dtype)], 1)
        arrived = jnp.where(started[..., None, None], best, first) + e[..., None]
        arrived = divided(arrived.reshape(*arrived.shape[:-2], n * k), maximum).reshape(arrived.shape)
        scores = jnp.where(real[..., None, None], arrived, scores)
        return (scores, started | real), jnp.where(real[..., None, None], way, ways)

    empty = jnp.full((n, k), -jnp.inf, evidence.dtype).at[0, 0].set(0)  # the one path of a sequence without ticks
    fresh = (jnp.broadcast_to(empty, (*evidence.shape[1:], k)), jnp.zeros_like(real[0]))
    (scores, _), ways_in = jax.lax.scan(step, fresh, (evidence, real, varies))
    score, last = jax.lax.top_k(scores.reshape(*scores.shape[:-2], n * k), k)

    def back(way: Array, ways_in: Array) -> tuple[Array, Array]:
        flat = ways_in.reshape(*ways_in.shape[:-2], n * k)
        return jnp.take_along_axis(flat, way, -1), way // k

    _, states = jax.lax.scan(back, last, ways_in, reverse=True)
    log_prob = jax.vmap(functools.partial(path_score, chain), in_axes=-1, out_axes=-1)(states)
    log_prob = jnp.where(score == -jnp.inf, -jnp.inf, log_prob)
    states = jnp.where(score == -jnp.inf, -1, states)
    return Path(masks.zero(real, states).astype(jnp.int32), log_prob)


@jax.jit
def _log_joint(model: Model, xs: PyTree, mask: Array | None, states: Array) -> Array:
    chain = prepare("log_joint", model, xs, mask)
    evidence = chain.evidence
    states = checks.symbols("log_joint", states)
    if states.shape != evidence.shape[:-1]:
        raise ValueError(
            f"log_joint: expected states of shape {evidence.shape[:-1]} like the observations, "
            f"got {states.shape}. Give one state a tick."
        )
    known = (states >= 0) & (states < evidence.shape[-1])
    score = path_score(chain, jnp.where(known, states, 0))
    real = known if mask is None else known | ~mask
    return jnp.where(real.all(0), score, jnp.nan)
