"""Masks as lists are taken everywhere; masks of another shape or type are told, with who, expected, got and remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import hmm, models
from seqjax.hmm import crf

T, B, D, V = 5, 2, 3, 4
RNG = np.random.default_rng(0)
XS, IDS = jnp.asarray(RNG.normal(size=(T, B, D))), jnp.asarray(RNG.integers(0, D, (T, B)))
MASK = np.array([[1, 1], [1, 0], [1, 1], [0, 1], [1, 0]], bool)
LENGTHS = np.array([5, 2])
CRF, HMM = crf.init(jax.random.key(0), D), hmm.random(jax.random.key(0), D, V)


def applied(model, xs):
    params = model.init(jax.random.key(0))
    return lambda **padding: model.apply(params, model.initial_state(params, (B,)), xs, **padding)


LM = models.language_model(V, D)
LM_PARAMS = LM.init(jax.random.key(0))
MASKED = {
    "cross_entropy": lambda mask: sj.cross_entropy(XS, IDS, mask),
    "mean_squared_error": lambda mask: sj.mean_squared_error(XS, XS + 1, mask),
    "multi_label_cross_entropy": lambda mask: sj.multi_label_cross_entropy(XS, XS, mask),
    "norm_stabiliser": lambda mask: sj.norm_stabiliser(XS, XS[0], 1.0, mask),
    "tally": lambda mask: sj.tally(XS[..., 0], mask),
    "ctc": lambda mask: sj.ctc(XS, sj.Labels(jnp.ones((1, B), int)), mask),
    "sampled": lambda mask: models.full_softmax(D, V).loss(
        models.full_softmax(D, V).init(jax.random.key(0)), XS, IDS, mask
    ),
    "forward": lambda mask: hmm.forward(HMM, IDS, mask=mask),
    "viterbi": lambda mask: hmm.viterbi(HMM, IDS, mask=mask),
    "posterior": lambda mask: hmm.posterior(HMM, IDS, mask=mask),
    "fit": lambda mask: hmm.fit(HMM, IDS, steps=1, mask=mask),
    "log_joint": lambda mask: hmm.log_joint(HMM, IDS, IDS, mask=mask),
    "top_paths": lambda mask: hmm.top_paths(HMM, IDS, 2, mask=mask),
    "sample_paths": lambda mask: hmm.sample_paths(HMM, jax.random.key(0), IDS, mask=mask),
    "crf.loss": lambda mask: crf.loss(CRF, XS, IDS, mask=mask),
    "crf.decode": lambda mask: crf.decode(CRF, XS, mask=mask),
    "crf.marginals": lambda mask: crf.marginals(CRF, XS, mask=mask),
    "crf.log_partition": lambda mask: crf.log_partition(CRF, XS, mask=mask),
    "crf.log_score": lambda mask: crf.log_score(CRF, XS, IDS, mask=mask),
    "crf.top_taggings": lambda mask: crf.top_taggings(CRF, XS, 2, mask=mask),
}
LAYERED = {
    "classifier": applied(models.classifier(sj.recurrent(sj.gru(D, D)), D, 2), XS),
    "crf_tagger": applied(models.crf_tagger(sj.dense(D, D), D), XS),
    "bidirectional": applied(sj.bidirectional(sj.gru(D, D), sj.gru(D, D)), XS),
    "reverse": applied(sj.layers.reverse(sj.recurrent(sj.gru(D, D))), XS),
    "conv": applied(sj.causal_conv(D, D, width=2), XS),
    "attention": applied(sj.layers.windowed_attention(D, 1, 3, rotary=False), XS),
    "residual": applied(sj.serial(sj.residual(sj.dense(D, D)), sj.layer_norm(D)), XS),
    "language_model": applied(LM, IDS),
}


def same(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKED)
def test_masks_are_taken_as_lists(name):
    same(MASKED[name](MASK.tolist()), MASKED[name](jnp.asarray(MASK)))


@pytest.mark.parametrize("name", LAYERED)
def test_layers_take_masks_lengths_and_resets_as_lists(name):
    call = LAYERED[name]
    same(call(mask=MASK.tolist()), call(mask=jnp.asarray(MASK)))
    same(call(lengths=LENGTHS.tolist()), call(lengths=jnp.asarray(LENGTHS)))
    if name != "crf_tagger":
        reset = ~MASK
        same(call(reset=reset.tolist()), call(reset=jnp.asarray(reset)))


@pytest.mark.slow
def test_other_masks_as_lists():
    labels = sj.Labels(jnp.ones((2, B), int), [[True, True], [True, False]])
    same(sj.ctc(XS, labels), sj.ctc(XS, labels._replace(mask=jnp.asarray(labels.mask))))
    state = LM.initial_state(LM_PARAMS, (B,))
    drawn = sj.sample(LM, LM_PARAMS, state, 0, length=3, mask=[True, False], prefix=[1], prefix_lengths=[1, 0])
    np.testing.assert_array_equal(drawn.lengths, [3, 0])
    model = models.encoder_decoder(V, V, D)
    params = model.init(jax.random.key(0))
    found = [model.encode(params, models.Source(IDS, mask))[1] for mask in (MASK.tolist(), jnp.asarray(MASK))]
    same(*found)


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("shape", [(T,), (B, T), (T, B + 1), (T - 1, B), (T, B, 1)])
def test_masks_of_another_shape_are_told(name, shape):
    with pytest.raises(
        ValueError, match=r"^\w+: expected (the )?\w*.*mask.* of shape|^\w+: expected mask \[T, \*batch\]"
    ):
        MASKED[name](jnp.ones(shape, bool))


@pytest.mark.parametrize("name", MASKED)
def test_masks_of_another_type_are_told(name):
    with pytest.raises(TypeError, match=r"^\w+: expected mask of bool, got int"):
        MASKED[name](jnp.ones((T, B), int))


def test_a_mask_of_fewer_axes_is_not_spread_over_sequences():
    """[T] with as many sequences as ticks would be taken for [*B]."""
    square = jnp.ones((3, 3))
    with pytest.raises(ValueError, match=r"tally: expected mask of shape \(3, 3\) like the ticks, got \(3,\)"):
        sj.tally(square, jnp.array([True, False, True]))
