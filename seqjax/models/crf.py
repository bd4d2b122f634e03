"""A conditional random field behind a tagger: the tags of a sequence are scored, learned and chosen together."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.base import Array, Layer, PyTree
from seqjax.fixing import fixed
from seqjax.hmm import crf
from seqjax.layers import inner
from seqjax.losses import Tally
from seqjax.objectives import Batch, Objective, begin, real_ticks, trains
from seqjax.records import maker


class CRFTaggerParams(NamedTuple):
    """The parameters of the model that scores single ticks, and the scores of neighbouring tags."""

    scores: PyTree
    crf: crf.CRFParams


@maker
def crf_tagger(scores: Layer, tags: int) -> Layer[CRFTaggerParams, PyTree]:
    """The best tagging of whole sequences, by Viterbi over a network's scores.

        e = scores(x)        z = argmax_z start_{z_1} + Σ_t e_t(z_t) + Σ_t A_{z_{t-1} z_t} + end_{z_T}

    Where `seqjax.models.tagger` decides each tick by itself, here a tag also depends on its neighbours: a tag that
    cannot follow another is not chosen after it. `crf_objective` trains the same parameters.

    Args:
      scores: ``[T, *B, ...]`` to scores ``[T, *B, tags]``, such as `seqjax.models.tagger`.
      tags: how many labels.

    Returns:
      A layer to tags ``[T, *B]`` of int, 0 at masked ticks. A chunk is a whole sequence: chunks do not compose. To
      forbid a transition set its score in ``params.crf.transition`` to -inf.

    Raises:
      TypeError: scores that are no layer.
      ValueError: fewer than one tag, scores of another number of tags, or resets inside a sequence.

    Example:
      >>> import jax, jax.numpy as jnp, optax, seqjax as sj
      >>> scores = sj.models.tagger(50, 7, embedding_size=8, hidden_size=8)
      >>> model, objective = sj.models.crf_tagger(scores, 7), sj.models.crf_objective(scores)
      >>> params = model.init(jax.random.key(0))
      >>> words, state = jnp.ones((5, 2), int), model.initial_state(params, (2,))
      >>> state, tally = objective(params, state, sj.Batch(words, words))
      >>> model.apply(params, state, words)[1].shape
      (5, 2)

    References:
      Huang, Xu and Yu (2015), Bidirectional LSTM-CRF models for sequence tagging. https://arxiv.org/abs/1508.01991
      Lample et al. (2016), Neural architectures for named entity recognition. https://arxiv.org/abs/1603.01360
    """
    checks.instance("crf_tagger", scores, Layer, "Wrap a cell in recurrent(cell).")
    checks.sizes("crf_tagger", tags=tags)

    def init(key: Array) -> CRFTaggerParams:
        scores_key, crf_key = jax.random.split(key)
        return CRFTaggerParams(scores.init(scores_key), crf.init(crf_key, tags))

    def initial_state(
        params: CRFTaggerParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> PyTree:
        return scores.initial_state(params.scores, batch_shape, key=key)

    def apply(
        params: CRFTaggerParams,
        state: PyTree,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[PyTree, Array]:
        state, es = _scored("crf_tagger", scores, params, state, Batch(xs, None, mask, reset, lengths), key)
        return state, crf.decode(params.crf, es, mask=masks.given("crf_tagger", mask, lengths, es)).states

    return Layer(init, initial_state, apply)


@maker
def crf_objective(scores: Layer, *, redraw: bool = True) -> Objective:
    """The negative log-likelihood of whole taggings, -ln p(z | x), in the form that `seqjax.train_step` takes.

    Args:
      scores: the model that `crf_tagger` was given.
      redraw: as in `seqjax.objective`.

    Returns:
      ``(params, state, batch, key=None) -> (state, Tally)`` with the params of `crf_tagger` and targets ``[T, *B]``
      of int. The sum is over sequences, the count over real ticks, so that the mean is in nats a tag as with
      `seqjax.cross_entropy`. A target that is no tag makes the sum NaN.

    Raises:
      TypeError: scores that are no layer, or targets that are not integers.
      ValueError: resets inside a sequence, or shapes that do not agree.
    """
    checks.instance("crf_objective", scores, Layer, "Wrap a cell in recurrent(cell).")

    def stays(params: CRFTaggerParams) -> CRFTaggerParams:
        return CRFTaggerParams(fixed(scores, params.scores), jax.tree.map(lambda _: False, params.crf))

    @trains(stays)
    def run(params: CRFTaggerParams, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        state, key = begin("crf_objective", scores, params.scores, state, key, redraw)
        state, es = _scored("crf_objective", scores, params, state, batch, key)
        mask = real_ticks(batch, es)
        losses = crf.loss(params.crf, es, batch.targets, mask=mask)
        ticks = jnp.asarray(es[..., 0].size) if mask is None else mask.sum()
        return state, Tally(losses.sum(), ticks)

    return run


def _scored(
    who: str, scores: Layer, params: CRFTaggerParams, state: PyTree, batch: Batch, key: Array | None
) -> tuple[PyTree, Array]:
    if batch.reset is not None:
        raise ValueError(
            f"{who}: expected one whole sequence a column, got resets inside them. Give each its own column."
        )
    state, es = inner.run(scores, params.scores, state, batch.xs, mask=batch.mask, lengths=batch.lengths, key=key)
    return state, es.astype(params.crf.start.dtype)
