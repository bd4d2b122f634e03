"""Layers, transforms, models, decoders and objectives know their maker."""

import gc
import pickle
import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import no_compiles

import seqjax as sj
from seqjax import automata, gradients, hmm, layers, models, records, transforms

KEY = jax.random.key(0)


@sj.maker
def small(input_size, hidden_size):
    """A cell that knows its maker, whatever those of the package do."""
    return sj.elman(input_size, hidden_size)


PRINTED = [
    "serial(embedding(4, 16), recurrent(small(16, 32)), dense(32, 4))",
    "recurrent(small(3, 4), reverse=True, memory='sqrt')",
    "bidirectional(small(3, 4), small(3, 4), engine='scan')",
    "layers.reverse(recurrent(small(3, 4)))",
    "residual(small(4, 4))",
    "residual(dense(4, 4))",
    "stack(small(3, 4), small(4, 4))",
    "dropout(0.5)",
    "layer_norm(4, epsilon=0.1)",
    "weight_norm(causal_conv(3, 4, width=2, dilation=4))",
    "causal_conv(4, 4, width=4, groups=4)",
    "layers.rms_norm(4, groups=2)",
    "layers.input_batch_norm(small(3, 4), epsilon=0.001)",
    "layers.windowed_attention(8, 2, 16, kv_heads=1)",
    "layers.gated_mlp(4, 8)",
    "layers.self_gate(4)",
    "layers.gated_recurrence(small, 4, 8, conv=None)",
    "layers.block(small, 4, mlp_size=8, conv=3, gate=None)",
    "models.deep_blocks(4, block=partial(griffin_block, cell=small), layers=2)",
    "models.griffin_block(4, cell=small)",
    "models.mamba_block(4, cell=partial(gru, reset='before'))",
    "models.minimal_block(4)",
    "models.xlstm_block(4, heads=2)",
    "models.s5_block(4)",
    "models.attention_block(8, window=16)",
    "models.deep(3, 4, cell=partial(gru, reset='before'))",
    "feed_forward(4, 8)",
    "tied_embedding(5, 4, recurrent(small(4, 4)), b_init=None)",
    "attend(small(8, 4), 4, 5, 6, score='dot')",
    "learned_initial_state(small(3, 4))",
    "random_initial_state(small(3, 4), 0.1)",
    "first_bias(small(3, 4))",
    "variational_dropout(small(3, 4), 0.1)",
    "recurrent_dropout(small(3, 4), 0.1)",
    "zoneout(small(3, 4), 0.1)",
    "with_states(small(3, 4))",
    "perturbed(small(3, 4))",
    "as_cell(dense(4, 4))",
    "ensemble(dense(4, 4), small(4, 4), mean='geometric')",
    "automata.network(3, 4, 2)",
    "gradients.clip_state_gradient(gradients.watch_state_gradient(small(3, 4)), 0.1, by='value')",
    "gradients.with_saturation(gradients.with_gates(lstm(3, 4)))",
    "gradients.lessons.map_cell(softplus)",
    "models.language_model(65, 16, tied=True)",
    "models.fixed_window_model(65, 16, window=3)",
    "models.symbols_or_nothing(65, 16)",
    "models.classifier(recurrent(small(3, 4)), 4, 2, pool='max')",
    "models.tagger(50, 7, characters=30)",
    "models.spelled_words(50, 7, 30, 4, 5)",
    "models.crf_tagger(models.tagger(50, 7), 7)",
    "models.deep(3, 4, layers=2, rate=0.5)",
    "models.forecaster(1, 8)",
    "models.next_frame_model(88, 8)",
    "models.nade(8, 88, 4)",
    "models.corrected(1, 3, dense(1, 1))",
    "models.temporal_convolution(1, [25, 25])",
    "models.temporal_block(1, 25, width=2, dilation=1)",
    "models.encoder_decoder(5, 6, 8, context='attention', cell=small)",
    "models.captioner(11, 35, 14, 16, cell=small)",
    "models.output_layer(recurrent(small(3, 4)), models.adaptive_softmax(4, 50, [10, 20]))",
    "models.sampled_softmax(4, 50, 10)",
    "objective(dense(3, 4), mean_squared_error)",
    "over_chunks(dense(3, 4), mean_squared_error, 5)",
    "truncated(dense(3, 4), mean_squared_error, 5, redraw=False)",
    "models.one_answer(cross_entropy)",
    "models.crf_objective(dense(3, 4))",
    "models.output_objective(dense(3, 4), models.full_softmax(4, 50))",
    "models.scheduled_objective(models.language_model(5, 4), cross_entropy)",
    "models.conditional_objective(models.captioner(11, 35, 14, 16, cell=small), cross_entropy)",
]


def made(text):
    """What a call makes."""
    rooms = {"layers": layers, "models": models, "automata": automata, "gradients": gradients}
    return eval(
        text,
        {
            **vars(transforms),
            **vars(layers),
            **vars(sj),
            **rooms,
            "small": small,
            "softplus": jax.nn.softplus,
            "partial": partial,
            "griffin_block": models.griffin_block,
        },
    )


@pytest.mark.parametrize("text", PRINTED)
def test_records_print_as_the_call_equal_each_other_and_pickle(text):
    record, again = made(text), made(text)
    assert record is not again
    assert record == again
    assert hash(record) == hash(again)
    assert repr(record) == re.sub(r"\b(layers|models|automata|gradients|lessons)\.", "", text)
    assert records.name(record, "") == repr(record).partition("(")[0]
    assert pickle.loads(pickle.dumps(record)) == record


def test_names():
    assert made("serial(dense(3, 4))").name == "serial"
    assert models.captioner(11, 35, 14, 16).name == "captioner"
    assert models.captioner(11, 35, 14, 16).decoder.name == "writer"
    assert sj.dense(3, 4)._replace(apply=len).name == "layer"


def test_other_options_make_another_record():
    assert sj.dense(3, 4) != sj.dense(3, 4, activation=jnp.tanh)
    assert models.language_model(5, 4) != models.language_model(5, 4, cell=sj.gru)
    assert sj.serial(sj.dense(3, 4)) != sj.serial(sj.serial(sj.dense(3, 4)))
    assert sj.residual(sj.dense(4, 4)) != sj.dense(4, 4)


def test_a_cell_is_decoded_as_it_is():
    cell = small(4, 4)
    assert sj.as_cell(cell) is cell


def test_models_of_equal_sizes_share_a_cell():
    """The numbers of a hidden Markov model are the cell's parameters, and no option."""
    one, two = (hmm.random(jax.random.key(seed), 3, 5) for seed in (1, 2))
    for cell in (hmm.cell, hmm.viterbi_cell, hmm.belief_cell):
        assert cell(one) == cell(two) != cell(hmm.random(KEY, 4, 5))
    assert hmm.cell(one) != hmm.viterbi_cell(one)
    assert pickle.loads(pickle.dumps(hmm.cell(one))) == hmm.cell(two)


def test_rules_made_anew_are_equal():
    assert sj.no_repeat(5, 2, 7) == sj.no_repeat(5, 2, 7) != sj.no_repeat(5, 3, 7)
    assert sj.forbid(5, [1]).cell == sj.forbid(6, [2]).cell
    assert sj.state_machine(np.zeros((2, 3), int)).cell == sj.state_machine(np.ones((2, 4), int)).cell


def test_preset_models_are_equal():
    one, two = (models.zaremba("small", 50, updates_per_epoch=3).model for _ in range(2))
    assert one == two
    assert repr(one) == "zaremba_model('small', 50)"


FRESH = """
import pickle, sys
import seqjax as sj
record = pickle.load(sys.stdin.buffer)
new = sj.serial(sj.models.language_model(65, 16, cell=sj.gru, tied=True), sj.layer_norm(65), sj.dropout(0.5))
assert record == new and hash(record) == hash(new) and record != sj.models.language_model(65, 16)
print(record)
"""


def test_records_pickle_into_a_fresh_process():
    model = sj.serial(models.language_model(65, 16, cell=sj.gru, tied=True), sj.layer_norm(65), sj.dropout(0.5))
    found = subprocess.run([sys.executable, "-c", FRESH], input=pickle.dumps(model), capture_output=True, check=True)
    assert found.stdout.decode().strip() == repr(model)


def test_a_whole_model_made_anew_compiles_once():
    """Model, loss and step are made in every call; 200 calls compile nothing and leave nothing behind."""
    optimizer = optax.adam(1e-2)
    symbols = jnp.arange(12).reshape(6, 2) % 5

    def build():
        body = models.deep(4, 4, layers=2, both_ways=True, rate=0.1)
        return sj.serial(sj.embedding(5, 4), sj.residual(sj.dense(4, 4)), body, sj.dense(8, 5))

    def train(trained, state):
        step = sj.train_step(sj.objective(build(), sj.cross_entropy), optimizer, clip=CLIP)
        trained, state, metrics = step(trained, state, sj.Batch(symbols, symbols))
        return trained, build().initial_state(trained.params, (2,)), metrics

    params = build().init(KEY)
    carried = sj.train_state(params, optimizer, key=KEY), build().initial_state(params, (2,))
    for _ in range(3):
        *carried, _ = train(*carried)
    step = sj.train_step(sj.objective(build(), sj.cross_entropy), optimizer, clip=CLIP)
    gc.collect()
    objects, arrays, programs = len(gc.get_objects()), len(jax.live_arrays()), step._cache_size()
    with no_compiles():
        for _ in range(200):
            *carried, metrics = train(*carried)
    gc.collect()
    assert carried[0].step == 203
    assert step._cache_size() == programs == 1
    assert len(jax.live_arrays()) <= arrays + 8
    assert len(gc.get_objects()) < objects + 2000
    assert metrics.loss < 1.0


CLIP = sj.clip_by_global_norm(1.0)


def test_decoding_with_a_model_made_anew_compiles_nothing():
    def write(key):
        model = sj.ensemble(models.language_model(5, 4), sj.serial(sj.embedding(5, 4), sj.dense(4, 5)))
        rules = (sj.no_repeat(5, 2, 6), sj.forbid(5, [0]))
        state = model.initial_state(params, (2,))
        return sj.sample(model, params, state, jnp.array([1, 2]), length=6, key=key, rules=rules)

    params = sj.ensemble(models.language_model(5, 4), sj.serial(sj.embedding(5, 4), sj.dense(4, 5))).init(KEY)
    write(KEY)
    with no_compiles():
        write(jax.random.key(1))


def test_records_can_be_cached_by_jax():
    """JAX keeps what it traced under weak references to the function."""
    shapes = jax.eval_shape(sj.dense(3, 4).init, KEY)
    assert shapes.w.shape == (3, 4)
    jax.jit(sj.dense(3, 4).apply)(sj.dense(3, 4).init(KEY), (), jnp.ones((2, 3)))


def test_rooms_hold_functions_not_files():
    for room in (layers, transforms):
        for name in room.__all__:
            assert callable(getattr(room, name)), name
            assert f"{room.__name__}.{name}" not in sys.modules
