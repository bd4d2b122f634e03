"""Linear-chain conditional random field: a tagger's scores, tied together by scores of neighbouring tags.

    s(z | x) = start_{z_1} + Σ_t e_t(z_t) + Σ_t A_{z_{t-1} z_t} + end_{z_T}        p(z | x) = exp s(z | x) / Z(x)

The scores e ``[T, *B, N]`` come from any network, ``mask [T, *B]`` is True at real ticks. Everything is inference in
a `seqjax.hmm.Chain` of potentials that need not sum to 1.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from seqjax.hmm import crf
  >>> params = crf.init(jax.random.key(0), tags=3)
  >>> scores, tags = jax.random.normal(jax.random.key(1), (5, 3)), jnp.array([0, 2, 1, 1, 0])
  >>> gradient = jax.grad(lambda p: crf.loss(p, scores, tags))(params)
  >>> crf.decode(params, scores).states.shape
  (5,)

References:
  Lafferty, McCallum and Pereira (2001), Conditional random fields: probabilistic models for segmenting and labeling
  sequence data. https://repository.upenn.edu/handle/20.500.14332/6188
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array
from seqjax.buffers import owned, owning
from seqjax.hmm.inference import forward, posterior
from seqjax.hmm.messages import preceded
from seqjax.hmm.models import Chain
from seqjax.hmm.observations import Engine
from seqjax.hmm.paths import Path, log_joint, top_paths, viterbi
from seqjax.logarithms import finite

__all__ = ["CRFParams", "decode", "init", "log_partition", "log_score", "loss", "marginals", "top_taggings"]


class CRFParams(NamedTuple):
    """``start [N]``, ``transition [N, N]`` (row i, column j: from i to j), ``end [N]``; -inf forbids."""

    start: Array
    transition: Array
    end: Array


def init(key: Array, tags: int, *, scale: float = 0.1, dtype: jnp.dtype | None = None) -> CRFParams:
    """Draws scores from N(0, scale²).

    Args:
      key: one JAX key.
      tags: N.
      scale: their standard deviation.
      dtype: JAX's default float if None.
    """
    checks.sizes("crf", tags=tags)
    shapes = [(tags,), (tags, tags), (tags,)]
    dtype = jnp.dtype(dtype or jnp.zeros(()).dtype)
    return CRFParams(*(scale * jax.random.normal(k, s, dtype) for k, s in zip(jax.random.split(key, 3), shapes)))


def log_partition(params: CRFParams, scores: Array, *, mask: Array | None = None, engine: Engine = "scan") -> Array:
    """ln Z(x) ``[*B]``, the logsumexp of the scores of all taggings."""
    return forward(*_chain(params, scores, mask), mask=mask, engine=engine).log_likelihood


def log_score(params: CRFParams, scores: Array, tags: Array, *, mask: Array | None = None) -> Array:
    """s(z | x) ``[*B]`` of the tagging ``tags [T, *B]``."""
    chain, scores = _chain(params, scores, mask)
    return log_joint(chain, tags, scores, mask=mask)


@owning
def loss(params: CRFParams, scores: Array, tags: Array, *, mask: Array | None = None, engine: Engine = "scan") -> Array:
    """-ln p(z | x) ``[*B]``, in nats a sequence; infinite, with a gradient of zero, where a score of -inf forbids z."""
    scores = scores - finite(
        jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    )  # shared: both terms would lose digits
    partition = log_partition(params, scores, mask=mask, engine=engine)
    score = log_score(params, scores, tags, mask=mask)
    return jnp.where(score == -jnp.inf, jnp.inf, partition - score)


def marginals(params: CRFParams, scores: Array, *, mask: Array | None = None, engine: Engine = "scan") -> Array:
    """ln p(z_t | x) ``[T, *B, N]``, zero at masked ticks."""
    return posterior(*_chain(params, scores, mask), mask=mask, engine=engine).log_marginals


def decode(params: CRFParams, scores: Array, *, mask: Array | None = None, engine: Engine = "scan") -> Path:
    """The best tagging ``[T, *B]`` and its score s(z | x) ``[*B]``."""
    return viterbi(*_chain(params, scores, mask), mask=mask, engine=engine)


def top_taggings(params: CRFParams, scores: Array, k: int, *, mask: Array | None = None) -> Path:
    """The k best taggings ``[T, *B, k]`` and their scores ``[*B, k]``, best first."""
    return top_paths(*_chain(params, scores, mask), k, mask=mask)


def _chain(params: CRFParams, scores: Array, mask: Array | None) -> tuple[Chain, Array]:
    """The chain and its evidence; the score of the end joins that of the last real tick."""
    params, scores, mask = owned((params, scores, mask))
    tags = params.start.shape[0]
    checks.inputs("crf", scores, np.shape(scores)[:-1], tags)
    mask = checks.ticks("crf", "mask", mask, scores[..., 0])
    if mask is not None:
        checks.shapes("crf", "mask", mask.shape, "the scores without tags", scores.shape[:-1])
    last = ~preceded(scores.shape[:-1], None if mask is None else mask[::-1])[::-1]
    scores = scores + jnp.where(last[..., None], params.end, 0)
    return Chain(params.start, params.transition), scores
