"""Outputs over large vocabularies: the softmax in full, in clusters, or trained on samples."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, records
from seqjax.base import Array, PyTree
from seqjax.layers.affine import DenseParams, dense
from seqjax.logarithms import logsumexp
from seqjax.losses import Tally, cross_entropy, tally
from seqjax.products import accumulator, add_bias, along, cast, dot
from seqjax.records import maker


class Softmax(NamedTuple):
    """An output over a vocabulary, with a loss that need not look at all of it.

    Attributes:
      init: ``(key) -> params``.
      log_probs: ``(params, hs [..., d]) -> [..., v]``, exact.
      loss: ``(params, hs [T, *B, d], targets [T, *B], mask, key) -> Tally`` of -log p(target) in nats, or of
        its estimate.
    """

    init: Callable[[Array], PyTree]
    log_probs: Callable[[PyTree, Array], Array]
    loss: Callable[..., Tally]

    def __repr__(self) -> str:
        """The call that makes it, or its three functions where it was made by hand."""
        return records.printed(self)


@maker
def full_softmax(size: int, vocabulary_size: int, *, compute_dtype: jnp.dtype | None = None) -> Softmax:
    """p(w) = softmax(h W + b)_w, cost d v a tick.

    Args:
      size: d, of h.
      vocabulary_size: v.
      compute_dtype: of the product's operands; that of the parameters if None.

    Returns:
      The output, with `seqjax.DenseParams`.

    Raises:
      ValueError: a size below 1.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> softmax = sj.models.full_softmax(3, 5)
      >>> log_probs = softmax.log_probs(softmax.init(jax.random.key(0)), jnp.ones((7, 3)))
      >>> jnp.exp(log_probs).sum(-1).round(3).tolist() == [1.0] * 7
      True
    """
    readout = dense(size, vocabulary_size, compute_dtype=compute_dtype)

    def logits(params: DenseParams, hs: Array) -> Array:
        return readout.apply(params, (), hs)[1]

    return Softmax(
        readout.init,
        lambda params, hs: jax.nn.log_softmax(logits(params, hs)),
        lambda params, hs, targets, mask=None, key=None: cross_entropy(logits(params, hs), targets, mask),
    )


class AdaptiveParams(NamedTuple):
    """The head, over frequent symbols and one entry a cluster; for each cluster a projection and its symbols."""

    head: DenseParams
    tails: tuple[tuple[DenseParams, DenseParams], ...]


@maker
def adaptive_softmax(
    size: int,
    vocabulary_size: int,
    cutoffs: Sequence[int],
    *,
    shrink: int = 4,
    compute_dtype: jnp.dtype | None = None,
) -> Softmax:
    """Frequent symbols in full, rare ones in clusters with fewer features.

        p(w) = head(h)_w                                        w < cutoffs[0]
        p(w) = head(h)_cluster i · softmax(h P_i W_i)_w         cutoffs[i] ≤ w < cutoffs[i+1]

    Symbols must be ordered by frequency, as `Vocabulary.build` does. P_i maps to d / shrink^(i+1) features, so
    that a tick costs d · (head) + Σ_i d / shrink^(i+1) · (cluster i) products: shapes are fixed, every cluster is
    computed at every tick, but one after the other in the loss. The probabilities are exact and sum to 1;
    without cutoffs it is the full softmax.

    Args:
      size: d, of h.
      vocabulary_size: v.
      cutoffs: where clusters begin, rising, above 0 and below v.
      shrink: how much smaller each cluster's features are than those before.
      compute_dtype: of the products' operands; that of the parameters if None.

    Returns:
      The output, with `AdaptiveParams`.

    Raises:
      ValueError: a size below 1, or cutoffs that do not rise between 0 and v.

    References:
      Grave et al. (2017), Efficient softmax approximation for GPUs. https://arxiv.org/abs/1609.04309
    """
    checks.sizes("adaptive_softmax", size=size, vocabulary_size=vocabulary_size, shrink=shrink)
    bounds = [0, *cutoffs, vocabulary_size]
    if any(a >= b for a, b in itertools.pairwise(bounds)):
        raise ValueError(
            f"adaptive_softmax: expected cutoffs that rise between 0 and {vocabulary_size}, got "
            f"{list(cutoffs)}. "
            "Sort them."
        )
    clusters = list(itertools.pairwise(bounds[1:]))
    affine = functools.partial(dense, compute_dtype=compute_dtype)
    head = affine(size, bounds[1] + len(clusters))
    tails = []
    for i, (start, stop) in enumerate(clusters):
        small = max(size // shrink ** (i + 1), 1)
        tails.append((affine(size, small, b_init=None), affine(small, stop - start)))

    def init(key: Array) -> AdaptiveParams:
        keys = jax.random.split(key, 1 + 2 * len(tails))
        drawn = [(a.init(j), b.init(k)) for (a, b), j, k in zip(tails, keys[1::2], keys[2::2])]
        return AdaptiveParams(head.init(keys[0]), tuple(drawn))

    def parts(params: AdaptiveParams, hs: Array) -> Iterator[Array]:
        first = jax.nn.log_softmax(head.apply(params.head, (), hs)[1])
        yield first[..., : bounds[1]]
        for i, ((narrow, wide), (p, q)) in enumerate(zip(tails, params.tails)):
            within = wide.apply(q, (), narrow.apply(p, (), hs)[1])[1]
            yield first[..., bounds[1] + i, None] + jax.nn.log_softmax(within)

    def log_probs(params: AdaptiveParams, hs: Array) -> Array:
        return jnp.concatenate(list(parts(params, hs)), axis=-1)

    def loss(
        params: AdaptiveParams, hs: Array, targets: Array, mask: Array | None = None, key: Array | None = None
    ) -> Tally:
        targets = _targets("adaptive_softmax", hs, targets)
        losses, known = jnp.zeros((), params.head.w.dtype), (targets >= 0) & (targets < vocabulary_size)
        for part, start in zip(parts(params, hs), bounds):
            place = targets - start
            inside = (place >= 0) & (place < part.shape[-1])
            picked = jnp.take_along_axis(part, jnp.where(inside, place, 0)[..., None], -1)[..., 0]
            losses = jnp.where(inside, -picked, losses.astype(picked.dtype))
        return tally(jnp.where(known, losses, jnp.nan), mask)

    return Softmax(init, log_probs, loss)


@maker
def sampled_softmax(
    size: int, vocabulary_size: int, samples: int, *, compute_dtype: jnp.dtype | None = None
) -> Softmax:
    """The full softmax, trained on the target and a few sampled symbols: cost d · samples a tick.

        loss = -log exp(a_w) / (exp(a_w) + Σ_{s ∈ S, s ≠ w} exp(a_s - log π_s))      a = h W + b

    S is drawn without replacement, with probabilities that fall with rank, P(s) ∝ log((s+2)/(s+1)), anew at
    each call and shared by its ticks; π_s is the probability that s is among them. Symbols must be ordered by
    frequency. The denominator is unbiased; with as many samples as symbols the loss is exact. Without a key
    it is the exact one.

    Args:
      size: d, of h.
      vocabulary_size: v.
      samples: how many symbols to draw, at most v.
      compute_dtype: of the products' operands; that of the parameters if None.

    Returns:
      The output, with `seqjax.DenseParams`; ``log_probs`` is exact.

    Raises:
      ValueError: a size below 1, or more samples than symbols.

    References:
      Bengio and Senécal (2008), Adaptive importance sampling to accelerate training of a neural probabilistic
      language model. https://doi.org/10.1109/TNN.2007.912312
      Jean et al. (2015), On using very large target vocabulary for neural machine translation.
      https://arxiv.org/abs/1412.2007
    """
    checks.sizes("sampled_softmax", size=size, vocabulary_size=vocabulary_size, samples=samples)
    if samples > vocabulary_size:
        raise ValueError(
            f"sampled_softmax: expected at most {vocabulary_size} samples, the vocabulary's size, got {samples}. "
            "Use full_softmax."
        )
    whole = full_softmax(size, vocabulary_size, compute_dtype=compute_dtype)
    probs = _inclusion(np.log1p(1 / np.arange(1, vocabulary_size + 1)), samples)

    def loss(
        params: DenseParams, hs: Array, targets: Array, mask: Array | None = None, key: Array | None = None
    ) -> Tally:
        if key is None:
            return whole.loss(params, hs, targets, mask)
        targets = _targets("sampled_softmax", hs, targets)
        drawn, inclusion = _draw(key, jnp.asarray(probs, accumulator(params.w.dtype)), samples)
        known = (targets >= 0) & (targets < vocabulary_size)
        target = jnp.where(known, targets, 0)
        w, b = params.w, params.b
        assert b is not None  # dense makes one unless told not to
        wide = inclusion.dtype
        rows = jnp.moveaxis(w, 0, 1)[target]
        x, rows = (part if compute_dtype is None else cast(part, compute_dtype) for part in (hs, rows))
        own = (x.astype(wide) * rows.astype(wide)).sum(-1) + b[target].astype(wide)
        others = add_bias(dot(hs, w[:, drawn], compute_dtype).astype(wide), b[drawn].astype(wide) - jnp.log(inclusion))
        others = jnp.where(along(drawn, target[..., None]) == target[..., None], -jnp.inf, others) - own[..., None]
        losses = logsumexp(jnp.concatenate([jnp.zeros_like(own)[..., None], others], axis=-1))
        return tally(jnp.where(known, losses, jnp.nan), mask)

    return Softmax(whole.init, whole.log_probs, loss)


def _targets(who: str, hs: Array, targets: Array) -> Array:
    targets = checks.symbols(who, targets)
    checks.shapes(who, "targets", targets.shape, "hs without the last axis", hs.shape[:-1])
    return targets


def _draw(key: Array, inclusion: Array, samples: int) -> tuple[Array, Array]:
    """Symbols drawn by systematic sampling ``[samples]``, and the probability of each to be among them."""
    shuffle_key, start_key = jax.random.split(key)
    order = jax.random.permutation(shuffle_key, len(inclusion))
    ends = jnp.cumsum(inclusion[order])
    points = jax.random.uniform(start_key, (), inclusion.dtype) + jnp.arange(samples, dtype=inclusion.dtype)
    places = jnp.searchsorted(ends, jnp.minimum(points, ends[-1])).astype(jnp.int32)
    rank = jnp.arange(samples, dtype=jnp.int32)  # where rounding gives a place twice, the next is taken
    places = jax.lax.cummax(places - rank) + rank
    places = jnp.minimum(places, len(inclusion) - samples + rank)
    drawn = order[places]
    return drawn, inclusion[drawn]


def _inclusion(weights: np.ndarray, samples: int) -> np.ndarray:
    """Probabilities ∝ weights that sum to ``samples``, none above 1: what exceeds 1 goes to the others."""
    probs = samples * weights / weights.sum()
    while (probs > 1).any():
        sure = probs >= 1
        rest = np.where(sure, 0, weights)
        probs = np.where(sure, 1, (samples - sure.sum()) * rest / max(rest.sum(), 1e-300))
    return probs
