"""Measured settings: what is tried, what is chosen, where it is taken, refused, written and read."""

import contextlib
import functools
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close
from marks import quick

import seqjax as sj
from seqjax.__main__ import main
from seqjax.engines import plan, scan
from seqjax.engines.split.engine import Split
from seqjax.settings import books, files
from seqjax.settings.cases import case_of
from seqjax.tuning import candidates, programs, rounds, tuner
from seqjax.unroll import checked

KEY = jax.random.key(0)
T, B, D, H = 12, 4, 2, 3
CELL = sj.gru(D, H)
PARAMS = CELL.init(KEY)
STATE = CELL.initial_state(PARAMS, (B,)) + 0.3
XS = jax.random.normal(jax.random.key(1), (T, B, D))
GIVEN = (CELL, PARAMS, STATE, XS)
LENGTHS = jnp.array([12, 5, 0, 1])
ROOT = pathlib.Path(__file__).parent.parent
FEW = {"engines": ("split",), "memory": ("all",), "chunks": (4,), "show": None}


@pytest.fixture
def clock(monkeypatch):
    """No real times: ``clock.times[engine, memory, chunk]`` or 1; ``clock.now`` goes on by ``clock.each`` a call."""

    class Clock:
        def __init__(self):
            self.times, self.now, self.each, self.calls = {}, 0.0, 0.0, []

        def timed(self, settings, call):
            jax.block_until_ready(call())
            self.calls.append(settings)
            self.now += self.each
            time = self.times.get(settings[:3], 1.0)
            return next(time) if hasattr(time, "__next__") else time

    made = Clock()
    monkeypatch.setattr(rounds, "timed", made.timed)
    monkeypatch.setattr(rounds, "now", lambda: made.now)
    return made


@pytest.fixture
def pretended(clock, monkeypatch):
    """Nor real programs: all compute the same, at once."""

    class Program:
        lower = compile = lambda self, *given: self
        memory_analysis = lambda self: None
        __call__ = lambda self, given: np.ones(3)

    monkeypatch.setattr(tuner, "program", lambda *args, **options: Program())
    return clock


def gradients(settings=None, given=GIVEN, **ticks):
    """Of a loss that weighs all outputs, in params and state."""

    def loss(params, state):
        last, ys = sj.unroll(given[0], params, state, given[3], settings=settings, **ticks)
        weights = lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return sum((weights(leaf) * leaf).sum() for leaf in jax.tree.leaves((last, ys)))

    return jax.grad(loss, (0, 1))(given[1], given[2])


def rows_of(text):
    """The table as dictionaries, and the lines below it."""
    head, *lines = text.splitlines()[2:]
    names = head.split()
    table = [re.split(r"  +", line.strip()) for line in lines if re.match(r"\w+ +\w+ +[\d,]+ ", line)]
    return [dict(zip([*names, "marks"], row)) for row in table], [line for line in lines if ": " in line]


# ---- what is tried


def test_the_table_says_what_explain_and_the_compiler_say(clock):
    told = []
    sj.tune(*GIVEN, engines=("split",), memory=("all", "sqrt"), chunks=(5,), show=told.append)
    table, _ = rows_of(told[0])
    assert [(row["engine"], row["memory"], row["chunk"]) for row in table] == [
        ("scan", "all", "12"), ("split", "all", "12"), ("split", "all", "5"), ("split", "sqrt", "12"),
    ]  # fmt: skip
    problem = checked(*GIVEN)
    given = programs.Given(PARAMS, STATE, XS, None, None, None)
    for row in table[:3]:
        chunk = 5 if row["chunk"] == "5" else None
        settings = sj.Settings(row["engine"], row["memory"], chunk)
        assert row["predicted"] == f"{sj.explain(*GIVEN, settings=settings).total_bytes:,}"
        compiled = programs.program(problem, settings, gradient=True).lower(given).compile()
        assert row["temporaries"] == f"{compiled.memory_analysis().temp_size_in_bytes:,}"


def tried(given=GIVEN, engines=candidates.ENGINES, memory=candidates.MEMORY, chunks=None, devices=(1,)):
    problem = checked(*given)
    explain = lambda settings: tuner._explained(problem, settings)
    options = {"engines": engines, "memory": memory, "chunks": chunks, "devices": devices}
    return [*candidates.candidates(explain, **options, gradient=True)]


def test_every_program_is_tried_once():
    """Of a linear recurrence auto is the linear engine, by name; of a GRU that engine refuses, once."""
    found = tried(memory=("all", "carries"))
    names = [each.settings[:3] for each in found if each.plan]
    assert names == [
        ("scan", "all", None), ("split", "all", None), ("split", "all", 6),
        ("scan", "carries", None), ("split", "carries", None), ("split", "carries", 6),
    ]  # fmt: skip
    assert [each.own for each in found[:3]] == [False, True, False]
    refused = [each for each in found if not each.plan]
    assert [each.settings.engine for each in refused] == ["linear"]
    assert "logistic" in refused[0].refused
    cell = sj.cells.mingru(D, H)
    given = cell, cell.init(KEY), cell.initial_state(cell.init(KEY), (B,)), XS
    found = tried(given, memory=("all",))
    assert [(each.settings.engine, each.own) for each in found[:3]] == [
        ("scan", False), ("linear", True), ("split", False),
    ]  # fmt: skip


@pytest.mark.slow
def test_what_has_no_engines_name_is_autos():
    mixed = sj.stack(CELL, sj.cells.mingru(H, H))
    params = mixed.init(KEY)
    found = tried((mixed, params, mixed.initial_state(params, (B,)), XS), memory=("all",))
    assert [each.settings[:3] for each in found if each.own] == [("auto", "all", None)]


def test_one_tick_is_the_scan():
    found = tried((CELL, PARAMS, STATE, XS[:1]), memory=("all",))
    assert [(each.settings.engine, each.own) for each in found if each.plan] == [("scan", True), ("split", False)]


def test_chunks_around_an_engines_own():
    assert candidates.around(8, 64) == [4, 16, 32, 64]
    assert candidates.around(1, 1) == []
    assert candidates.around(40, 64) == [20, 64]


# ---- what is chosen


@pytest.mark.parametrize(
    "best", [("scan", "all", None), ("split", "all", None), ("split", "carries", 4)], ids=lambda best: best[0]
)
def test_the_fastest_is_chosen(pretended, best):
    pretended.times = {best: 0.5}
    settings = sj.tune(*GIVEN, engines=("split",), memory=("all", "carries"), chunks=(4,), show=None)
    assert settings[:4] == (*best, 1)
    assert settings.of == case_of(checked(*GIVEN), gradient=True)


def test_medians_decide_and_not_the_luckiest_round(pretended):
    pretended.times = {("split", "all", 4): itertools.chain([0.1], itertools.repeat(2.0)), ("split", "all", None): 0.9}
    told = []
    settings = sj.tune(*GIVEN, **{**FEW, "show": told.append})
    assert settings.chunk is None
    assert [row["time"] for row in rows_of(told[0])[0]] == ["1.000", "0.900", "2.000"]
    assert pretended.calls[:3] == pretended.calls[3:6], "in turns"
    assert len(pretended.calls) == 3 * rounds.ROUNDS


def test_the_time_is_kept_and_two_are_measured_whatever_it_is(pretended):
    pretended.each, told = 10.0, []
    options = {"engines": ("split",), "memory": ("all", "carries"), "chunks": (4,), "show": told.append}
    sj.tune(*GIVEN, seconds=0, **options)
    table, below = rows_of(told[0])
    assert [row["engine"] for row in table] == ["scan", "split"]
    assert len(pretended.calls) == 2
    late = "split all in chunks of 4, split carries, split carries in chunks of 4"
    assert below == [f"{late}: not measured: two thirds of 0 s were over"]
    pretended.now, pretended.calls = 0.0, []
    sj.tune(*GIVEN, seconds=44, **options)  # three until 30, of which the last began at 20; two more until 50
    assert [row["chunk"] for row in rows_of(told[1])[0]] == ["12", "12", "4"]
    assert [settings.chunk for settings in pretended.calls] == [None, None, 4, None, None]


def test_the_memory_is_one_that_was_asked_for(pretended):
    """The scan is there to be compared with, however fast it is."""
    pretended.times, told = {("scan", "all", None): 0.1, ("split", "sqrt", None): 0.9}, []
    long = CELL, PARAMS, STATE, jnp.ones((64, B, D))
    for seconds in (60, 0):
        settings = sj.tune(*long, engines=("split",), memory=("sqrt",), seconds=seconds, show=told.append)
        assert settings[:2] == ("split", "sqrt") if seconds else settings.memory == "sqrt"
    assert [row["engine"] for row in rows_of(told[0])[0]] == ["scan", "split"]
    with pytest.raises(ValueError, match=r"tune: expected something with memory among \('1KB',\) .*allow at least"):
        sj.tune(*long, engines=("split",), memory=("1KB",), show=None)


class Wrong(Split):
    """An engine whose outputs of two sequences are exchanged."""

    def run(self, schedule):
        state, ys = super().run(schedule)
        return state, ys[:, ::-1]


@pytest.fixture
def engines(monkeypatch):
    """The table of engines, to be changed for a while; nothing compiled goes in or out."""
    jax.clear_caches()
    yield functools.partial(monkeypatch.setitem, plan.ENGINES)
    jax.clear_caches()


def test_wrong_numbers_are_dropped_by_name(clock, engines):
    engines("split", Wrong)
    clock.times, told = {("split", "all", None): 0.1, ("split", "all", 4): 0.1}, []
    for gradient in (True, False):
        settings = sj.tune(*GIVEN, **{**FEW, "show": told.append}, gradient=gradient)
        assert settings.engine == "scan"
        table, below = rows_of(told[-1])
        assert [row["engine"] for row in table] == ["scan"]
        assert re.search(
            r"split all, split all in chunks of 4: dropped: differs from scan by [\d.]+, allowed 1e-07", below[0]
        )


def test_what_fails_while_it_is_compiled_is_told_and_the_rest_goes_on(clock, engines):
    class Broken(scan.Scan):
        name, keeps = "broken", ("all",)

        def run(self, schedule):
            raise NotImplementedError("no such product")

    engines("linear", Broken)
    told = []
    sj.tune(*GIVEN, engines=("linear", "split"), memory=("all",), chunks=(), show=told.append)
    table, below = rows_of(told[0])
    assert [row["engine"] for row in table] == ["scan", "split"]
    assert below == ["linear all: failed: NotImplementedError: no such product"]


def test_what_no_engine_can_run_is_an_error():
    with pytest.raises(ValueError, match="gru: expected inputs of size 2, got 5"):
        sj.tune(CELL, PARAMS, STATE, jnp.ones((T, B, 5)), show=None)


def test_every_output_counts_by_itself():
    """The loss of an exchange of two outputs differs, whichever two; the devices' shares add up to it."""
    y, zero = jax.random.normal(KEY, (5, 3, 2)), jnp.zeros((), jnp.int32)
    weights = np.asarray(jax.jit(jax.grad(lambda y: programs.weighed(y, zero).sum()))(y)).reshape(-1)
    assert len(set(weights)) == y.size
    assert 0.5 <= weights.min() <= weights.max() < 1.5
    parts = [programs.weighed(y[:, i : i + 1], jnp.int32(i)).sum() for i in range(3)]
    np.testing.assert_allclose(sum(parts), programs.weighed(y, zero).sum())


def test_differences_are_parts_of_the_largest_number():
    large, small = np.array([100.0, 1.0]), np.array([1e-9])
    assert programs.difference([large + 1, small], [large, small]) == pytest.approx(0.01)
    assert programs.difference([large, small * 2], [large, small]) == pytest.approx(1e-8)
    assert programs.difference([np.array([1, np.nan])], [large]) == np.inf
    assert programs.difference([np.array([1, np.nan])], [np.array([1, np.nan])]) == 0


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        pytest.param({"dtype": "float64"}, 1e-7, marks=pytest.mark.slow),
        pytest.param({"dtype": "float32"}, 1e-3, marks=pytest.mark.slow),
        ({"dtype": "float32", "compute_dtype": "bfloat16"}, 0.1),
    ],
    ids=["64", "32", "16 inside"],
)
def test_what_is_allowed_follows_the_narrowest_float(options, allowed):
    cell = sj.lstm(D, H, **options)
    params = cell.init(KEY)
    xs = XS.astype(options["dtype"])
    assert programs.tolerance(checked(cell, params, cell.initial_state(params, (B,)), xs)) == allowed


@pytest.mark.slow
def test_few_bits_are_compared_with_more_of_them(clock):
    """In bfloat16 a scan's sums stop growing: an engine that adds up better is none that differs."""
    one = sj.Cell(
        lambda key: jnp.full((), 0.5, jnp.bfloat16),
        lambda params, batch_shape=(), *, key=None: jnp.zeros(batch_shape, jnp.bfloat16),
        lambda params, state, x: (state * 0, params * x),
    )
    given = one, one.init(KEY), one.initial_state(None, (1,)), jnp.ones((2000, 1), jnp.bfloat16)
    told = []
    sj.tune(*given, engines=("split",), memory=("all",), chunks=(), show=told.append)
    assert [row["engine"] for row in rows_of(told[0])[0]] == ["scan", "split"]


# ---- how it is taken


@pytest.mark.parametrize(
    "ticks", [{}, pytest.param({"lengths": LENGTHS, "reverse": True}, marks=pytest.mark.slow)], ids=["plain", "ragged"]
)
def test_gradients_by_the_settings_are_the_scans(clock, ticks):
    clock.times = {("split", "carries", 4): 0.1}
    settings = sj.tune(*GIVEN, engines=("split",), memory=("carries",), chunks=(4,), show=None, **ticks)
    assert settings[:3] == ("split", "carries", 4)
    assert settings.of.flags == tuple(ticks)
    assert_close(gradients(settings, **ticks), gradients(sj.Settings("scan", "all"), **ticks))


def test_settings_are_what_is_run():
    settings = sj.Settings("split", "all", 4)
    said = sj.explain(*GIVEN, settings=settings)
    assert (said.engine, said.chunk, said.keep) == ("split", 4, "all")
    assert said.why[0] == "settings: engine split, memory all, chunk 4"
    assert sj.explain(*GIVEN, settings=sj.Settings("scan", 3)).chunk == 3
    run = lambda settings: str(jax.make_jaxpr(lambda p: sj.unroll(CELL, p, STATE, XS, settings=settings))(PARAMS))
    assert run(settings) != run(settings._replace(chunk=6))
    assert run(settings) == run(settings._replace(devices=2)), "devices are train_step's"


def test_a_chunk_longer_than_time_is_all_of_it():
    assert sj.explain(*GIVEN, settings=sj.Settings("split", "all", 100)).chunk == T


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (sj.Settings("split", "all", 0), "unroll: expected chunk to be a whole number of at least 1, got 0"),
        (sj.Settings("split", "all", True), "expected chunk to be a whole number"),
        (
            sj.Settings("scan", "all", 4),
            r"expected an engine that cuts .* chunk=4, got 'scan' over 12. Leave chunk out",
        ),
        (sj.Settings("split", "sqrt", 4), "beside chunk=4, got 'sqrt', which says itself how time is cut"),
        (sj.Settings("split", 3, 4), "beside chunk=4, got 3"),
        (sj.Settings("spilt"), "unroll: expected engine to be one of"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sj.unroll(*GIVEN, settings=settings)


OF = sj.Settings("split", "all", 4, of=case_of(checked(*GIVEN), gradient=True))


def test_settings_of_something_else_are_refused():
    other = sj.elman(D, H)
    with pytest.raises(
        ValueError, match=r"expected settings for elman\(2, 3\), .* measured for other: step gru\(2, 3\)"
    ):
        sj.unroll(other, other.init(KEY), STATE, XS, settings=OF)
    with pytest.raises(
        ValueError, match=r"other: xs float64\[12,4,2\]; length 12. Tune for this too, or use settings._rep"
    ):
        sj.unroll(CELL, PARAMS, STATE, XS[:5], settings=OF)
    with pytest.raises(ValueError, match="other: flags none"):
        sj.unroll(*GIVEN, lengths=LENGTHS, settings=OF)
    sj.unroll(CELL, PARAMS, STATE, XS[:5], settings=OF._replace(of=None))
    sj.unroll(CELL, PARAMS, STATE[:2], XS[:, :2], settings=OF._replace(devices=2))  # a device's share


@pytest.mark.parametrize("way", ["unroll", "recurrent", "bidirectional", "explain"])
def test_settings_go_alone(way):
    take = {
        "unroll": lambda **how: sj.unroll(*GIVEN, **how),
        "explain": lambda **how: sj.explain(*GIVEN, **how),
        "recurrent": lambda **how: sj.recurrent(CELL, **how),
        "bidirectional": lambda **how: sj.bidirectional(CELL, CELL, **how),
    }[way]
    for beside in ({"engine": "scan"}, {"memory": "sqrt"}):
        with pytest.raises(ValueError, match=r"expected settings= alone, got engine=.* beside them. Leave these out"):
            take(settings=OF, **beside)
    with pytest.raises(TypeError, match=r"expected a Settings, got str. Make them by seqjax.tune"):
        take(settings="split")


def test_layers_take_them():
    layer = sj.recurrent(CELL, settings=OF)
    assert layer == sj.recurrent(CELL, settings=OF)
    assert layer != sj.recurrent(CELL, settings=OF._replace(chunk=6))
    assert_close(layer.apply(PARAMS, STATE, XS), sj.recurrent(CELL, engine="scan").apply(PARAMS, STATE, XS))
    with pytest.raises(ValueError, match="measured for other"):
        layer.apply(PARAMS, STATE, XS[:5])
    assert sj.summary(layer, XS).parameter_count == sj.summary(CELL, XS[0]).parameter_count
    both = sj.bidirectional(CELL, CELL, settings=OF)
    plain = sj.bidirectional(CELL, CELL, engine="scan")
    params = both.init(KEY)
    state = both.initial_state(params, (B,))
    assert_close(both.apply(params, state, XS), plain.apply(params, state, XS))
    model = sj.serial(sj.recurrent(sj.stack(CELL, sj.gru(H, H)), settings=sj.Settings("split", "all", 4)))
    assert sj.interop.from_config(sj.interop.to_config(model)) == model
    assert sj.interop.from_config(json.loads(json.dumps(sj.interop.to_config(layer)))) == layer


# ---- training


MODEL = sj.serial(sj.recurrent(CELL), sj.dense(H, 1))
BATCH = sj.Batch(XS, jnp.ones((T, B, 1)))
SGD = optax.sgd(0.1)


def update(model=MODEL, batch=BATCH, **options):
    params = model.init(KEY)
    step = sj.train_step(sj.objective(model, sj.mean_squared_error), SGD, **options)
    return step, step(sj.train_state(params, SGD), model.initial_state(params, (B,)), batch)


@pytest.fixture
def asked(monkeypatch):
    """What the plan was asked for."""
    jax.clear_caches()
    calls, choose = [], plan.choose
    monkeypatch.setattr(plan, "choose", lambda problem, *how: calls.append(how) or choose(problem, *how))
    return calls


def test_a_training_step_runs_as_measured(asked):
    _, (train, _, _) = update()
    step, (tuned, _, _) = update(settings=OF._replace(devices=2))
    assert asked[0] == ("auto", "auto", None)
    assert asked[-1] == ("split", "all", 4)
    assert step.mesh.size == 2
    assert_close(tuned.params, train.params)
    again, _ = update(settings=OF._replace(devices=2))
    assert again is step
    step, _ = update(settings=sj.Settings(devices=2))
    assert step.mesh.size == 2


def test_a_training_step_with_settings_of_a_layer_of_its_own():
    update(sj.serial(sj.recurrent(CELL, settings=OF), sj.dense(H, 1)), settings=OF)


def test_a_training_step_refuses_the_settings_of_another():
    other = sj.serial(sj.recurrent(sj.elman(D, H)), sj.dense(H, 1))
    with pytest.raises(
        ValueError, match=r"train_step: expected a model with engine='auto' for gru\(2, 3\), .* got none"
    ):
        update(other, settings=OF)
    with pytest.raises(ValueError, match="unroll: expected settings to know gru"):
        update(batch=sj.Batch(XS[:5], jnp.ones((5, B, 1))), settings=OF)
    with pytest.raises(ValueError, match="train_step: expected settings= alone, got devices=2 beside them"):
        update(settings=OF, devices=2)
    with pytest.raises(TypeError, match="train_step: expected a Settings, got int"):
        update(settings=2)


def test_devices_are_tried(clock, monkeypatch):
    monkeypatch.setattr(rounds, "timed", lambda settings, call: 1 / settings.devices)
    told = []
    settings = sj.tune(*GIVEN, devices=(1, 2, 3), **{**FEW, "chunks": (), "show": told.append})
    table, below = rows_of(told[0])
    assert settings[:4] == ("scan", "all", None, 2)
    assert [(row["engine"], row["devices"]) for row in table] == [
        ("scan", "1"), ("scan", "2"), ("split", "1"), ("split", "2"),
    ]  # fmt: skip
    assert "expected at most 2 devices, got devices=3" in below[0]


@pytest.mark.slow
def test_forward_passes_on_devices(monkeypatch):
    monkeypatch.setattr(rounds, "timed", lambda settings, call: 1 / settings.devices)
    told = []
    forward = sj.tune(*GIVEN, lengths=LENGTHS, devices=(1, 2), gradient=False, **{**FEW, "show": told.append})
    assert forward.devices == 2
    assert "dropped" not in told[0]


def test_a_batch_that_devices_cannot_share(pretended):
    told, odd = [], (CELL, PARAMS, STATE[:3], XS[:, :3])
    sj.tune(*odd, devices=(1, 2), **{**FEW, "show": told.append})
    assert "a first batch axis that 2 devices can share equally" in rows_of(told[0])[1][0]


# ---- files


@pytest.fixture
def written(pretended, tmp_path):
    """A file with settings that differ from auto's."""
    path = tmp_path / "settings.json"
    pretended.times = {("split", "all", 4): 0.1}
    return path, sj.tune(*GIVEN, path=path, **FEW)


def test_a_file_is_asked_inside_of_tuned_only(written, asked):
    path, settings = written
    assert files.read(path) == (settings,)
    asked.clear()
    run = jax.jit(lambda params: sj.unroll(CELL, params, STATE, XS))
    outside = run(PARAMS)
    with sj.tuned(path):
        inside = run(PARAMS)
        run(PARAMS)
        assert f"{path}: engine split, memory all, chunk 4" in sj.explain(*GIVEN).why
        assert sj.explain(*GIVEN, engine="scan").why == ("all activations kept",)
        assert sj.explain(CELL, PARAMS, STATE, XS[:5], memory="all").engine == "split"
    with sj.tuned(path):
        run(PARAMS)
    run(PARAMS)
    assert asked[:2] == [("auto", "auto", None), ("split", "all", 4)]
    assert [how for how in asked if how[2] == 4] == 2 * [("split", "all", 4)], "compiled once, and one explain"
    assert_close(inside, outside)


def test_a_step_at_other_shapes_is_refused(written):
    path, _ = written
    with sj.tuned(path):
        with pytest.raises(
            ValueError, match=r"otherwise only, got xs float64\[12,4,2\]; length 12. Tune for this shape too"
        ):
            sj.unroll(CELL, PARAMS, STATE, XS[:5])
        with pytest.raises(
            ValueError, match=r"got flags none. Tune for this shape too, give the engine by name, or leave"
        ):
            sj.unroll(*GIVEN, reverse=True)
        sj.unroll(CELL, PARAMS, STATE, XS[:5], engine="auto", memory="all")
        sj.unroll(CELL, PARAMS, STATE, XS[:5], settings=sj.Settings("scan"))
        sj.summary(sj.recurrent(CELL), XS[:5])


def test_a_step_that_the_file_does_not_know(written):
    path, _ = written
    cell = sj.elman(D, H)
    with sj.tuned(path):
        said = sj.explain(cell, cell.init(KEY), STATE, XS)
        assert said.why[0] == f"{path} does not know this step"
        assert said.engine == "split"
    with sj.tuned(path, gradient=False):
        assert sj.explain(*GIVEN).why[0] == f"{path} does not know this step", "measured for training steps"


def test_two_entries_and_a_new_one_in_the_place_of_an_old_one(pretended, written):
    path, first = written
    pretended.times = {("scan", "all", None): 0.1}
    second = sj.tune(CELL, PARAMS, STATE, XS[:5], path=path, **FEW)
    assert files.read(path) == (first, second)
    with sj.tuned(path):
        assert sj.explain(*GIVEN).engine == "split"
        assert sj.explain(CELL, PARAMS, STATE, XS[:5]).engine == "scan"
        third = sj.tune(*GIVEN, path=path, **FEW)
        assert sj.explain(*GIVEN).engine == "split", "a book stays open as it was opened"
    assert files.read(path) == (second, third)
    with sj.tuned(path):
        assert sj.explain(*GIVEN).engine == "scan"


def leaky(rate):
    """A cell without maker."""

    def step(params, h, x):
        h = rate * h + jnp.tanh(x @ params)
        return h, h

    return sj.Cell(lambda key: jax.random.normal(key, (D, H)), lambda p, b=(), *, key=None: jnp.zeros((*b, H)), step)


def test_a_cell_without_maker_is_known_by_its_equations(pretended, tmp_path):
    path = tmp_path / "settings.json"
    params = leaky(0.5).init(KEY)
    sj.tune(leaky(0.5), params, STATE, XS, path=path, **FEW)
    with sj.tuned(path):
        assert str(path) in sj.explain(leaky(0.5), params, STATE, XS).why[0]
        with pytest.raises(ValueError, match=r"to know a cell without maker, \w{16}, 5 ticks"):
            sj.explain(leaky(0.5), params, STATE[:2], XS[:5, :2])
        other = leaky(0.5)._replace(step=lambda p, h, x: (h + jnp.sin(x @ p), h))
        assert "does not know this step" in sj.explain(other, params, STATE, XS).why[0]


READER = f"""
import jax, sys
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, seqjax as sj
cell = sj.gru({D}, {H})
params = cell.init(jax.random.key(0))
given = cell, params, cell.initial_state(params, ({B},)), jnp.ones(({T}, {B}, {D}))
ys = jax.jit(sj.unroll, static_argnums=0)(*given)[1]
print(sj.explain(*given).why[0])
"""


def in_a_process(code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_another_process_reads_it_where_the_variable_says_so(written):
    path, _ = written
    done = in_a_process(READER, SEQJAX_SETTINGS=str(path))
    assert done.stdout == f"{path}: engine split, memory all, chunk 4\n", done.stderr


def test_the_variable_in_this_process(written, monkeypatch):
    path, _ = written
    monkeypatch.setenv(books.VARIABLE, str(path))
    assert sj.explain(*GIVEN).chunk == 4
    with pytest.raises(ValueError, match="Tune for this shape too"):
        sj.unroll(CELL, PARAMS, STATE, XS[:5])
    sj.tune(CELL, PARAMS, STATE, XS[:5], **FEW)  # looks into no file
    monkeypatch.setenv(books.VARIABLE, str(path) + ".not")
    with pytest.raises(FileNotFoundError, match=r"tuned: expected a file of settings, got nothing at .*json.not"):
        sj.unroll(*GIVEN)
    monkeypatch.setenv(books.VARIABLE, "")
    assert sj.explain(*GIVEN).chunk == T


def test_a_command_says_in_a_sentence_what_is_wrong_with_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(books.VARIABLE, str(tmp_path / "no.json"))
    assert main(["addition", "--steps", "1", "--run-dir", str(tmp_path / "run")]) == 2
    assert re.fullmatch(r".*tuned: expected a file of settings, got nothing at .*\n", capsys.readouterr().err)


WRITER = """
import sys
from seqjax.settings import Case, Settings, files
for i in range(20):
    case = Case(f"step {i} of {sys.argv[1]}", (), (), (), 1, (), True, "cpu")
    files.add(sys.argv[2], Settings("scan", of=case))
"""


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "settings.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(i), str(path)], env=environment) for i in range(3)]
    assert [each.wait() for each in started] == [0, 0, 0]
    assert len(files.read(path)) == 60
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]


def changed(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


def test_other_versions_and_formats_are_refused(written):
    path, _ = written
    changed(path, versions={**files.versions(), "jaxlib": "0.0.1"})
    for use in (sj.tuned(path), contextlib.nullcontext(lambda: sj.tune(*GIVEN, path=path, **FEW))):
        with (
            pytest.raises(ValueError, match=r"tuned: expected settings measured with jax .*jaxlib 0.0.1, .*new file"),
            use as f,
        ):
            f()
    changed(path, versions=files.versions(), format=2)
    with pytest.raises(ValueError, match=r"tuned: expected settings of format 1 in .*, got format 2"), sj.tuned(path):
        pass


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"format": 1, "versions": {}, "settings": [{}]}',
     '{"format": 1, "versions": {}, "settings": [{"of": {}}]}'],
)  # fmt: skip
def test_a_damaged_file_is_refused_and_left_as_it_is(pretended, tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"expected .*settings.json to be a file of settings, got one that is damaged"):
        sj.tune(*GIVEN, path=path, **FEW)
    assert pretended.calls == [], "refused before anything is measured"
    assert path.read_text("utf-8") == text


def test_settings_of_other_devices_are_refused(written):
    path, settings = written
    files.add(path, settings._replace(of=settings.of._replace(device="TPU ×8")))
    entries = files.read(path)
    assert [each.of.device for each in entries] == [settings.of.device, "TPU ×8"]
    book = books.Book("the file", entries[1:])
    with pytest.raises(ValueError, match="got device TPU ×8"), books.asked(book):
        sj.unroll(*GIVEN)


# ---- bad questions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engines": ("spilt",)}, "tune: expected engines to be one of"),
        ({"devices": ()}, r"tune: expected devices as a sequence of numbers, got \(\). Write devices=\(1, 2\)"),
        ({"devices": 2}, "tune: expected devices as a sequence of numbers, got 2"),
        ({"devices": (0,)}, r"tune: expected devices\[0\] to be a whole number of at least 1"),
        ({"chunks": (4, 0)}, r"tune: expected chunks\[1\] to be a whole number of at least 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        sj.tune(*GIVEN, **{**FEW, **options})


def test_nothing_can_be_measured_inside_of_jit():
    with pytest.raises(
        ValueError, match=r"tune: expected arrays to measure with, got tracers. Call it outside of jax.jit"
    ):
        jax.jit(lambda xs: sj.tune(CELL, PARAMS, STATE, xs, **FEW) and xs)(XS)
    with pytest.raises(ValueError, match="tune: expected arrays to measure with, got shapes"):
        sj.tune(CELL, PARAMS, STATE, jax.ShapeDtypeStruct(XS.shape, XS.dtype), **FEW)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tune: expected a folder to write s.json to, got nothing at"):
        sj.tune(*GIVEN, path=tmp_path / "no" / "s.json", **FEW)


def test_ctrl_c_leaves_everything_as_it_was(written, monkeypatch):
    path, settings = written

    def pressed(name, call):
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "timed", pressed)
    with pytest.raises(KeyboardInterrupt), sj.tuned(path):
        sj.tune(*GIVEN, path=path, **FEW)
    assert files.read(path) == (settings,)
    assert sj.explain(*GIVEN).why[0].startswith("split: 12 ticks"), "no book is open"


# ---- odd steps


def counter():
    step = lambda p, s, x: (s + x, s * 2)
    return sj.Cell(lambda key: (), lambda p, b=(), *, key=None: jnp.zeros(b, jnp.int32), step)


ODD = {
    "integers, nothing to differentiate": lambda: (counter(), (), jnp.zeros(B, jnp.int32), jnp.ones((T, B), jnp.int32)),
    "noise keys in the state": lambda: (
        zoneout := sj.zoneout(CELL, 0.2), PARAMS, zoneout.initial_state(PARAMS, (B,), key=KEY), XS,
    ),
    "no batch, one tick": lambda: (CELL, PARAMS, STATE[0], XS[:1, 0]),
    "two batch axes": lambda: (CELL, PARAMS, STATE.reshape(2, 2, H), XS.reshape(T, 2, 2, D)),
    "complex": lambda: (
        lru := sj.cells.lru(D, H), p := lru.init(KEY), lru.initial_state(p, (B,)), XS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", quick(ODD, "integers, nothing to differentiate"))
def test_odd_steps(clock, name):
    """All candidates are equal to the scan there too, and the settings are taken."""
    given, told = ODD[name](), []
    settings = sj.tune(*given, engines=("split", "auto"), memory=("all",), show=told.append)
    assert "dropped" not in told[0]
    assert "failed" not in told[0]
    sj.explain(*given, settings=settings)


def test_without_inputs_in_chunks(clock):
    cell = sj.Cell(
        lambda key: jnp.eye(H) * 0.9,
        lambda p, b=(), *, key=None: jnp.ones((*b, H)),
        lambda p, h, x: (jnp.tanh(h @ p),) * 2,
    )
    told = []
    options = {"engines": ("split",), "memory": ("all",), "chunks": (5,)}
    sj.tune(cell, cell.init(KEY), STATE, None, length=T, show=told.append, **options)
    assert [row["chunk"] for row in rows_of(told[0])[0]] == ["12", "12", "5"]


def test_a_short_call_is_timed_more_than_once():
    count, zero = [], jnp.zeros(())
    seconds = rounds.timed("one", lambda: count.append(1) or zero)
    assert len(count) > 2
    assert 0 < seconds < rounds.SHORT
