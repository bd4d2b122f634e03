"""A batch of no sequences, the last shard of a loader: zeros and empty results, with masks and lengths as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

import seqjax as sj
from seqjax import hmm, masks, models, normalization
from seqjax.cells.registry import REGISTRY
from seqjax.hmm import crf
from seqjax.losses import ctc_losses

T, V, D = 5, 7, 4
XS, IDS, NONE, MASK = jnp.zeros((T, 0, D)), jnp.zeros((T, 0), int), jnp.zeros(0, int), jnp.ones((T, 0), bool)
PADDING = {"plain": {}, "mask": {"mask": MASK}, "lengths": {"lengths": NONE}}


def run(model, xs, **padding):
    """Outputs, and the gradient of their sum."""
    params = model.init(jax.random.key(0))
    state = model.initial_state(params, (0,))

    def total(params):
        after, ys = model.apply(params, state, xs, **padding)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        return ys.sum() if jnp.issubdtype(ys.dtype, jnp.inexact) else 0.0, ys

    slope, ys = jax.grad(total, has_aux=True)(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope))
    return ys


CELL = sj.gru(D, D)
SCAN = sj.recurrent(CELL, engine="scan")
LAYERS = {
    "recurrent": (SCAN, XS, (T, 0, D)),
    "reverse": (sj.layers.reverse(SCAN), XS, (T, 0, D)),
    "bidirectional": (sj.bidirectional(CELL, CELL, engine="scan"), XS, (T, 0, 2 * D)),
    "layer_norm": (sj.layer_norm(D), XS, (T, 0, D)),
    "weight_norm": (sj.weight_norm(sj.dense(D, 3)), XS, (T, 0, 3)),
    "conv": (sj.causal_conv(D, 3, width=2), XS, (T, 0, 3)),
    "attention": (sj.layers.windowed_attention(D, 2, 3), XS, (T, 0, D)),
    "tied": (sj.tied_embedding(V, D, SCAN), IDS, (T, 0, V)),
    "language_model": (models.language_model(V, D, engine="scan"), IDS, (T, 0, V)),
    "fixed_window": (models.fixed_window_model(V, D, window=2), IDS, (T, 0, V)),
    "temporal_convolution": (sj.serial(models.temporal_convolution(D, (D, D)), sj.dense(D, 3)), XS, (T, 0, 3)),
    **{
        f"classifier {pool}": (models.classifier(SCAN, D, 2, pool=pool), XS, (0, 2)) for pool in ("last", "mean", "max")
    },
    "crf_tagger": (models.crf_tagger(sj.dense(D, 3), 3), XS, (T, 0)),
}


@pytest.mark.parametrize("name", quick(REGISTRY, "layer_norm_lstm", "mlstm"))
def test_cells(name):
    """Of every cell of the table, by scan and by what is chosen, with a gradient."""
    entry = REGISTRY[name]
    cell, xs = entry.small(), jnp.zeros((T, 0, *entry.input_shape))
    for engine in ("scan", "auto"):
        assert run(sj.recurrent(cell, engine=engine), xs).shape[:2] == (T, 0)


@pytest.mark.slow
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_models(name, padding):
    model, xs, shape = LAYERS[name]
    assert run(model, xs, **PADDING[padding]).shape == shape


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "mask"])
def test_losses(mask):
    """A sum of zero over none; the mean is zero too."""
    found = {
        "cross_entropy": lambda z: sj.cross_entropy(z, IDS, mask),
        "mean_squared_error": lambda z: sj.mean_squared_error(z, XS, mask),
        "multi_label": lambda z: sj.multi_label_cross_entropy(z, XS, mask),
        "norm_stabiliser": lambda z: sj.norm_stabiliser(z, z[0], 1.0, mask),
        "ctc": lambda z: sj.ctc(z, sj.Labels(IDS[:2]), mask),
        "ctc of nothing": lambda z: sj.ctc(z, sj.Labels(IDS[:0], MASK[:0]), mask, impossible="omitted"),
        "tally": lambda z: sj.tally(z[..., 0], mask),
        "crf": lambda z: sj.Tally(crf.loss(crf.init(jax.random.key(0), D), z, IDS, mask=mask).sum(), jnp.array(0)),
    }
    for name, loss in found.items():
        total, slope = jax.jit(lambda z, loss=loss: (loss(z), jax.grad(lambda z: loss(z).sum)(z)))(XS)
        assert (total.sum, total.count, total.mean) == (0, 0, 0), name
        assert slope.shape == XS.shape
    assert ctc_losses(XS, sj.Labels(IDS[:2]), mask).shape == (0,)
    one_answer = models.one_answer(sj.cross_entropy)
    assert one_answer(XS[0], NONE, mask).count == 0


OUTPUTS = [models.full_softmax(D, 60), models.adaptive_softmax(D, 60, (10, 30)), models.sampled_softmax(D, 60, 8)]


@pytest.mark.parametrize("softmax", OUTPUTS, ids=repr)
def test_outputs(softmax):
    params = softmax.init(jax.random.key(0))
    assert softmax.log_probs(params, XS).shape == (T, 0, 60)
    for key in (None, jax.random.key(1)):
        assert softmax.loss(params, XS, IDS, MASK, key) == (0, 0)


MODEL = models.language_model(V, D, engine="scan")
PARAMS = MODEL.init(jax.random.key(0))
STATE = MODEL.initial_state(PARAMS, (0,))


@pytest.mark.parametrize("mask", [None, jnp.ones(0, bool)], ids=["plain", "mask"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key": jax.random.key(0), "temperature": jnp.ones(0)},
        {"key": jax.random.key(0), "top_k": 3, "top_p": jnp.ones(0)},
        {"prefix": IDS[:2], "prefix_lengths": NONE},
        {"no_repeat_ngram": 2, "forbidden": (0,)},
    ],
    ids=["greedy", "sample", "top", "prefix", "rules"],
)
def test_decoding(options, mask):
    drawn = sj.sample(MODEL, PARAMS, STATE, NONE, length=4, eos=1, mask=mask, **options)
    assert (drawn.symbols.shape, drawn.lengths.shape, drawn.log_probs.shape) == ((4, 0), (0,), (0,))
    if "key" not in options:
        found = sj.beam_search(MODEL, PARAMS, STATE, NONE, length=4, width=9, eos=1, mask=mask, **options)
        assert (found.symbols.shape, found.scores.shape) == ((9, 4, 0), (9, 0))


@pytest.mark.slow
def test_what_models_are_used_for():
    assert sj.free_run(sj.dense(D, D), sj.dense(D, D).init(jax.random.key(0)), (), XS[0], length=3)[1].shape == (
        3,
        0,
        D,
    )
    assert models.log_probability(MODEL, PARAMS, IDS, first=0).shape == (0,)
    assert models.log_probability(MODEL, PARAMS, IDS, first=0, lengths=NONE).shape == (0,)
    assert models.next_symbols(MODEL, PARAMS, IDS, 2).symbols.shape == (2, 0)
    both = sj.ensemble(MODEL, MODEL)
    assert sj.sample(both, (PARAMS, PARAMS), (STATE, STATE), NONE, length=2).symbols.shape == (2, 0)
    _, ys = models.scheduled_sampling(MODEL, PARAMS, STATE, IDS, rate=0.5, key=jax.random.key(0), mask=MASK)
    assert ys.shape == (T, 0, V)
    source = models.Source(IDS, MASK)
    for context in ("state", "every_tick", "attention"):
        model = models.encoder_decoder(V, V, D, context=context, both_ways=context == "attention")
        params, state = model.encode(model.init(jax.random.key(0)), source)
        assert sj.sample(model.decoder, params, state, NONE, length=3).symbols.shape == (3, 0)


SYMBOLS = jnp.zeros((40, 0), int)
HIDDEN = {
    "symbols": (hmm.random(jax.random.key(0), 3, 5), SYMBOLS),
    "gaussian": (hmm.random_gaussian(jax.random.key(0), 3, 2), jnp.zeros((40, 0, 2))),
    "one a step": (
        hmm.random(jax.random.key(0), 3, 5)._replace(log_transition=jnp.full((39, 3, 3), -np.log(3))),
        SYMBOLS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mask", [None, jnp.ones((40, 0), bool)], ids=["plain", "mask"])
@pytest.mark.parametrize("engine", ["scan", "associative"])
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_markov_models(name, engine, mask):
    model, xs = HIDDEN[name]
    options = {"mask": mask, "engine": engine}
    assert hmm.forward(model, xs, **options).log_likelihood.shape == (0,)
    assert hmm.backward(model, xs, **options).log_messages.shape == (40, 0, 3)
    assert hmm.posterior(model, xs, **options).log_marginals.shape == (40, 0, 3)
    assert hmm.viterbi(model, xs, **options).states.shape == (40, 0)
    assert hmm.top_paths(model, xs, 2, mask=mask).states.shape == (40, 0, 2)
    assert hmm.sample_paths(model, jax.random.key(0), xs, **options).shape == (40, 0)
    assert hmm.log_joint(model, SYMBOLS, xs, mask=mask).shape == (0,)
    assert not hmm.expected_counts(model, xs, **options).transition.any()
    found = hmm.fit(model, xs, steps=2, **options)
    np.testing.assert_array_equal(found.log_likelihood, 0)
    jax.tree.map(np.testing.assert_array_equal, found.model, model)  # nothing was seen, nothing is learned
    assert hmm.sample(model, jax.random.key(0), 40, (0,))[0].shape == (40, 0)


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "mask"])
@pytest.mark.parametrize("engine", ["scan", "associative"])
def test_conditional_random_fields(engine, mask):
    params = crf.init(jax.random.key(0), D)
    options = {"mask": mask, "engine": engine}
    assert crf.loss(params, XS, IDS, **options).shape == (0,)
    assert crf.log_partition(params, XS, **options).shape == (0,)
    assert crf.marginals(params, XS, **options).shape == (T, 0, D)
    assert crf.decode(params, XS, **options).states.shape == (T, 0)
    assert crf.top_taggings(params, XS, 2, mask=mask).states.shape == (T, 0, 2)
    objective = models.crf_objective(sj.dense(D, D))
    tagger = models.crf_tagger(sj.dense(D, D), D)
    params = tagger.init(jax.random.key(0))
    assert objective(params, tagger.initial_state(params, (0,)), sj.Batch(XS, IDS, mask))[1] == (0, 0)


def test_masks_and_norms():
    assert masks.from_lengths(NONE, T).shape == (T, 0)
    assert masks.first_valid(MASK, XS).shape == (0, D)
    assert normalization.standardize(XS).shape == XS.shape
    assert normalization.norm(XS).shape == (T, 0)
