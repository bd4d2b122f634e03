"""Everything lowers everywhere: a step of training every model, decoding, filtering, every engine, for a CPU, a CUDA
device and a TPU, from a CPU. What lowering cannot show is in docs/devices.md.

A program may call what its platform is known to have, and nothing of Python.
"""

import functools
import re

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.interpreters import mlir
from lowering import planned_for
from marks import quick

import seqjax as sj
from seqjax import hmm, models

pytestmark = pytest.mark.usefixtures("as_users_have_it")

PLATFORMS = ("cpu", "cuda", "tpu")
T, B, V, D, H = 6, 2, 7, 3, 8
KEY = jax.random.key(0)
# Custom calls that a platform is known to have, and whence.
PLUGIN = "in JAX's plugin for CUDA, which pip install 'seqjax[cuda]' brings"
KNOWN = {
    "cpu": {},
    "cuda": {"cu_threefry2x32_ffi": PLUGIN, "cudnn_rnn_ffi": PLUGIN, "cudnn_rnn_bwd_ffi": PLUGIN},
    "tpu": {"tpu_custom_call": "a kernel of Mosaic, compiled by libtpu"},
}
# How a program asks the host for something.
HOST = ("stablehlo.send", "stablehlo.recv", "stablehlo.infeed", "stablehlo.outfeed")


@pytest.fixture
def as_users_have_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def ints(*shape, below=V):
    return jnp.arange(jnp.zeros(shape).size, dtype=jnp.int32).reshape(shape) % below


def floats(*shape):
    return jnp.sin(ints(*shape, below=1000).astype(jnp.float32))


# Programs: each a function and its arguments.


def training(model, objective, batch):
    """One update, with dropout and whatever else is drawn."""
    optimizer = optax.adam(1e-3)
    step = sj.train_step(objective, optimizer, clip=sj.clip_by_global_norm(1.0))
    train = jax.eval_shape(lambda: sj.train_state(model.init(KEY), optimizer, key=KEY))
    state = ()
    if not isinstance(model, models.Conditional):
        state = jax.eval_shape(lambda train: model.initial_state(train.params, (B,), key=KEY), train)
    return lambda *given: step(*given), (train, state, batch)


def symbols(model, loss=sj.cross_entropy, **given):
    return training(model, sj.objective(model, loss), sj.Batch(ints(T, B), ints(T, B), **given))


def frames(model, loss=sj.cross_entropy, size=D, targets=None):
    targets = ints(T, B) if targets is None else targets
    return training(model, sj.objective(model, loss), sj.Batch(floats(T, B, size), targets, lengths=ints(B) + 2))


def conditioned(model, condition):
    objective = models.conditional_objective(model, sj.cross_entropy)
    return training(model, objective, sj.Batch((condition, ints(T, B)), ints(T, B), lengths=ints(B) + 2))


def classified(pool):
    model = models.classifier(models.deep(D, H, cell=sj.gru, both_ways=True, rate=0.2), 2 * H, V, pool=pool)
    return training(model, sj.objective(model, models.one_answer(sj.cross_entropy)), sj.Batch(floats(T, B, D), ints(B)))


def tagged_together():
    scores = models.tagger(V, V, embedding_size=D, hidden_size=H)
    batch = sj.Batch(ints(T, B), ints(T, B), lengths=ints(B) + 2)
    return training(models.crf_tagger(scores, V), models.crf_objective(scores), batch)


def spelled():
    model = sj.serial(models.spelled_words(V, D, 5, D, H), sj.recurrent(sj.gru(D + 2 * H, H)), sj.dense(H, V))
    batch = sj.Batch(models.Words(ints(T, B), ints(T, B, 4, below=5)), ints(T, B))
    return training(model, sj.objective(model, sj.cross_entropy), batch)


def scheduled():
    model = models.language_model(V, H)
    objective = models.scheduled_objective(model, sj.cross_entropy)
    return training(model, objective, sj.Batch((ints(T, B), jnp.float32(0.3)), ints(T, B)))


def large_vocabulary(softmax):
    body = sj.serial(sj.embedding(V, H), sj.recurrent(sj.gru(H, H)))
    objective = models.output_objective(body, softmax)
    return training(models.output_layer(body, softmax), objective, sj.Batch(ints(T, B), ints(T, B)))


def keys_together():
    body, output = models.deep(D, H), models.nade(H, D, 3)
    both = sj.Layer(
        lambda key: (body.init(key), output.init(key)),
        lambda params, batch=(), *, key=None: body.initial_state(params[0], batch),
        body.apply,
    )
    return training(both, models.output_objective(body, output), sj.Batch(floats(T, B, D), floats(T, B, D) > 0))


def recognised():
    language = models.language_model(V, H)
    params = jax.eval_shape(language.init, KEY)

    def run(logits, params):
        return sj.decoding.ctc_beam_search(logits, width=4, fusion=sj.decoding.Fusion(language, params, 0.5))

    return run, (floats(T, B, V), params)


def block(make):
    return symbols(sj.serial(sj.embedding(V, H), make, sj.dense(H, V)))


def speech():
    model = sj.serial(sj.bidirectional(sj.lstm(D, H), sj.lstm(D, H)), sj.dense(2 * H, V))
    said = sj.Labels(ints(2, B, below=V - 1) + 1, jnp.ones((2, B), bool))
    return frames(model, sj.ctc, targets=said)


MODELS = {
    "language_model": lambda: symbols(models.language_model(V, H, layers=2, dropout=0.3), lengths=ints(B) + 2),
    "fixed_window_model": lambda: symbols(models.fixed_window_model(V, H, window=3)),
    "zaremba": lambda: symbols(models.zaremba("small", V, updates_per_epoch=3).model),
    "encoder_decoder": lambda: conditioned(
        models.encoder_decoder(V, V, H, context="attention", dropout=0.2),
        models.Source(ints(5, B), lengths=ints(B) + 2),
    ),
    "captioner": lambda: conditioned(models.captioner(8, 12, V, H, channels=(2, 3)), floats(B, 8, 12)),
    "classifier": lambda: classified("mean"),
    "tagger": lambda: symbols(models.tagger(V, V, embedding_size=D, hidden_size=H), lengths=ints(B) + 2),
    "crf_tagger": tagged_together,
    "spelled_words": spelled,
    "speech": speech,
    "next_frame_model": lambda: frames(
        models.next_frame_model(D, H), sj.multi_label_cross_entropy, targets=floats(T, B, D) > 0
    ),
    "forecaster": lambda: frames(models.forecaster(D, H), sj.mean_squared_error, targets=floats(T, B, D)),
    "corrected": lambda: frames(
        models.corrected(D, 3, models.forecaster(D, H)), sj.mean_squared_error, targets=floats(T, B, D)
    ),
    "nade": keys_together,
    "scheduled_sampling": scheduled,
    "full_softmax": lambda: large_vocabulary(models.full_softmax(H, V)),
    "adaptive_softmax": lambda: large_vocabulary(models.adaptive_softmax(H, V, [2, 4])),
    "sampled_softmax": lambda: large_vocabulary(models.sampled_softmax(H, V, 3)),
    "temporal_convolution": lambda: frames(
        sj.serial(models.temporal_convolution(D, [H, H], width=3, dropout=0.1), sj.dense(H, V))
    ),
    **{
        name: lambda name=name: block(getattr(models, name)(H))
        for name in ("griffin_block", "mamba_block", "minimal_block", "xlstm_block", "s5_block", "attention_block")
    },
    "deep_blocks": lambda: block(models.deep_blocks(H, block=models.griffin_block, layers=2)),
}


def decoding(run, **given):
    model = models.language_model(V, H)
    params = jax.eval_shape(model.init, KEY)
    return lambda params, first: run(model, params, model.initial_state(params, (B,)), first, length=T, **given), (
        params,
        ints(B),
    )


def writing():
    model = models.encoder_decoder(V, V, H, context="attention")

    def run(params, read):
        writer, state = model.encode(params, models.Source(read))
        coverage = sj.decoding.Coverage(lambda state: state.weights)
        options = {"length": T, "width": 3, "eos": 1, "coverage": coverage}
        return sj.beam_search(model.decoder, writer, state, jnp.zeros(B, jnp.int32), **options)

    return run, (jax.eval_shape(model.init, KEY), ints(5, B))


DECODING = {
    "greedy": lambda: decoding(sj.sample, eos=1),
    "recognised": recognised,
    "typical": lambda: decoding(sj.sample, key=KEY, typical_p=0.8),
    "diverse": lambda: decoding(sj.beam_search, width=4, eos=1, diversity=sj.decoding.Diversity(2)),
    "sampled": lambda: decoding(sj.sample, key=KEY, temperature=0.8, top_k=3, top_p=0.9, rules=(sj.forbid(V, [0]),)),
    "beams": lambda: decoding(sj.beam_search, width=3, eos=1, rules=(sj.no_repeat(V, 2, T),)),
    "attention": writing,
}


def markov(run):
    """With observations of T ticks and B sequences."""
    model = jax.eval_shape(lambda: hmm.random(KEY, 3, V))
    return run, (model, ints(T, B))


HMM = {
    "forward": lambda: markov(lambda model, xs: hmm.forward(model, xs)),
    "posterior": lambda: markov(lambda model, xs: hmm.posterior(model, xs)),
    "counts": lambda: markov(lambda model, xs: hmm.expected_counts(model, xs)),
    "lagged": lambda: markov(lambda model, xs: hmm.fixed_lag(model, xs, 2)),
    "viterbi": lambda: markov(lambda model, xs: hmm.viterbi(model, xs)),
    "paths": lambda: markov(lambda model, xs: hmm.sample_paths(model, KEY, xs)),
    "gaussian": lambda: (
        lambda model, xs: hmm.posterior(model, xs),
        (jax.eval_shape(lambda: hmm.random_gaussian(KEY, 3, D)), floats(T, B, D)),
    ),
}


def engine(name, make=sj.lstm):
    """Value and gradient of all weights, with padding."""
    cell = make(D, H, dtype=jnp.float32)

    def loss(params, xs):
        state = cell.initial_state(params, (B,))
        return sj.unroll(cell, params, state, xs, lengths=ints(B) + 2, engine=name)[1].sum()

    return jax.value_and_grad(loss, (0, 1)), (jax.eval_shape(cell.init, KEY), floats(T, B, D))


def heads(make):
    return lambda size, hidden, **options: make(size, hidden, heads=2, **options)


ENGINES = {
    "auto": lambda: engine("auto"),
    "auto, matrix": lambda: engine("auto", heads(sj.cells.linear_attention)),
    "auto, delta rule": lambda: engine("auto", heads(sj.cells.delta_rule)),
    "scan": lambda: engine("scan"),
    "split": lambda: engine("split", sj.layer_norm_lstm),
    "linear": lambda: engine("linear", sj.cells.mingru),
    "linear, complex": lambda: engine("linear", sj.cells.lru),
    "cudnn": lambda: engine("cudnn"),
    "pallas": lambda: engine("pallas"),
}
# The platforms of those that are not for all; one line for an engine of its own.
ONLY = {"cudnn": ("cuda",), "pallas": ("tpu",)}

KINDS = {"model": MODELS, "decoding": DECODING, "hmm": HMM, "engine": ENGINES}
CASES = {
    f"{kind}: {name}, {platform}": (make, platform)
    for kind, programs in KINDS.items()
    for name, make in programs.items()
    for platform in ONLY.get(name, PLATFORMS)
}
OFTEN = ("model: language_model, tpu", "decoding: sampled, cuda", "hmm: posterior, tpu")
OFTEN += ("engine: auto, matrix, tpu", "engine: split, cuda", "engine: cudnn, cuda", "engine: pallas, tpu")


def lowered(f, arguments, platform):
    """The text of a program for a platform."""
    with planned_for(platform):
        return jax.jit(f).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def missing(text, platform):
    """What a platform is not known to have."""
    calls = set(re.findall(r"custom_call @([\w.$]+)", text))
    return sorted((calls - set(KNOWN[platform])) | {name for name in HOST if name in text})


@pytest.fixture
def descriptors(monkeypatch):
    """Where JAX's plugin for CUDA is not installed, its two functions that describe a call of cuDNN."""
    rnn = pytest.importorskip("jax.experimental.rnn")
    gpu = pytest.importorskip("jaxlib.gpu_rnn")
    if hasattr(gpu, "compute_rnn_workspace_reserve_space_sizes"):
        return

    class Plugin:
        build_rnn_descriptor = staticmethod(lambda *sizes: b"")

    monkeypatch.setattr(gpu, "compute_rnn_workspace_reserve_space_sizes", lambda *sizes: (8, 8), raising=False)
    for primitive, rule in ((rnn.rnn_fwd_p, gpu._rnn_fwd_lowering), (rnn.rnn_bwd_p, gpu._rnn_bwd_lowering)):
        mlir.register_lowering(primitive, functools.partial(rule, Plugin, "cu"), platform="cuda")


@pytest.mark.parametrize("case", quick(CASES, *OFTEN))
def test_it_lowers_with_what_the_platform_has(case, descriptors):
    make, platform = CASES[case]
    text = lowered(*make(), platform)
    assert missing(text, platform) == []
    if "pallas" in case:
        assert "custom_call @tpu_custom_call" in text
    if "cudnn" in case:
        assert {"cudnn_rnn_ffi", "cudnn_rnn_bwd_ffi"} <= set(re.findall(r"custom_call @(\w+)", text))


def test_every_model_is_here():
    """What takes sizes or layers and makes a model, but for the parts of others."""
    makers = {name for name in models.__all__ if name[0].islower()}
    parts = {"deep", "temporal_block", "output_layer", "output_objective", "conditional_objective", "crf_objective"}
    parts |= {
        "accumulated",
        "one_answer",
        "draw_keys",
        "inverse_sigmoid_decay",
        "receptive_field",
        "symbols_or_nothing",
    }
    parts |= {"log_probability", "perplexity", "rank", "next_symbols", "scheduled_objective", "fitted"}
    assert parts <= makers
    assert makers - parts == set(MODELS) - {"speech"}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_a_platform_lacks_is_told(platform):
    """Eigenvalues go to another library on each; a CPU is known to have none of them here, nor a callback."""
    square = (jnp.ones((3, 3)),)
    expected = {"cpu": "lapack_ssyevd_ffi", "cuda": "cusolver_syevd_ffi", "tpu": "Eigh"}[platform]
    assert missing(lowered(lambda x: jnp.linalg.eigh(x)[0], square, platform), platform) == [expected]
    callback = lambda x: jax.pure_callback(lambda x: x, x, x)
    if platform == "cpu":
        assert missing(lowered(callback, square, platform), platform) == ["xla_ffi_python_cpu_callback"]
    else:  # its lowering asks for the device itself
        with pytest.raises(ValueError, match="is different from the lowering platform"):
            lowered(callback, square, platform)
