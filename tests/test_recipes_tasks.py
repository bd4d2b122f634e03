"""The recipes of generated tasks: what they leave in the run folder, what they compute, and how they refuse."""

import contextlib
import functools
import gzip
import io
import json
import os
import signal

import jax
import matplotlib.image
import mido
import numpy as np
import pytest
import scipy.io
import scipy.special
from marks import quick

import seqjax as sj
from seqjax import tasks
from seqjax.__main__ import main
from seqjax.models import encoder_decoder
from seqjax.recipes import addition, agreement, caption, execute, forecast, memory, music
from seqjax.recipes.language.pairs import Pairs, answerer
from seqjax.recipes.pictures import piano_roll
from seqjax.recipes.running import learning
from seqjax.recipes.running.cells import convolutions
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import JsonLines


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Few sequences are enough."""
    patch.setattr(learning, "EVALUATIONS", 1)
    patch.setattr(memory, "EVALUATIONS", 1)
    patch.setattr(music, "EVALUATIONS", 1)
    patch.setattr(memory, "HELD_BACK", 5)  # as many as are shown: one program answers both
    for recipe in (addition, execute, caption):
        patch.setattr(recipe, "HELD_BACK", 10)
    patch.setattr(execute, "EACH", 10)  # as many as are held back
    patch.setattr(agreement, "CELLS", {"LSTM": sj.lstm})
    patch.setattr(agreement, "EACH", 4)
    patch.setattr(agreement, "MEASURED", 3)
    patch.setattr(music, "PIECES", {"train": 6, "valid": 2, "test": 2})
    patch.setattr(forecast, "VALUES", 600)
    patch.setattr(forecast, "STARTS", 3)


def finite(folder):
    """The records of a run, every number of them finite, the last one an evaluation."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([value for record in records for value in record.values()]).all()
    losses = [record for record in records if "loss" in record]
    assert {"gradient_norm", "clip_rate", "seconds"} <= set(losses[-1])
    assert "loss" not in records[-1]
    return records


def is_picture(path):
    return path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 5000


STEPS = 5
STARTED = {
    "memory": (["--hidden-size", "4", "--length", "12"], "loss.png", "held back: squared error", "held_back"),
    "addition": (
        ["--hidden-size", "4", "--digits", "2", "--examples", "12", "--cell", "elman"],
        "accuracy.png",
        "of sums right",
        "exact",
    ),
    "execute": (
        ["--hidden-size", "4", "--nesting", "2", "--scramble", "--cell", "elman"],
        "accuracy.png",
        "whole results right, by operations",
        "exact",
    ),
    "agreement": (["--hidden-size", "4", "--gap", "2", "--reach", "5"], "gaps.png", "(chance 50 %)", "trained_LSTM"),
    "caption": (
        ["--hidden-size", "4", "--cell", "elman"],
        "captions.png",
        "of captions right (chance 0.033%)",
        "exact",
    ),
    "music": (["--hidden-size", "4", "--length", "5"], "played.png", "the rules themselves", "valid"),
    "forecast": (
        ["--series", "walk", "--hidden-size", "4", "--horizon", "9", "--warm-up", "20"],
        "forecast.png",
        "persistence",
        "one",
    ),
}


def command_of(name, folder):
    return [name, "--steps", str(STEPS), "--batch-size", "4", *STARTED[name][0], "--run-dir", str(folder)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A recipe's name to its run, never stopped, and what it printed; made when first asked for, then to be read."""

    @functools.cache
    def made(name):
        folder, out = tmp_path_factory.mktemp(name) / "run", io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main(command_of(name, folder)) == 0
        return folder, out.getvalue()

    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(STARTED, "addition", "forecast", "memory"))
def test_every_recipe_starts_and_leaves_its_files(name, runs):
    _, picture, said, field = STARTED[name]
    folder, out = runs(name)
    assert said in out
    assert field in finite(folder)[-1]
    assert is_picture(folder / picture)
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == STEPS
    assert result["figures"]
    assert set(result["floors"])
    assert np.isfinite([value for value in result["figures"].values() if value is not None]).all()
    run = Run.open(name, folder)
    assert run.last_step() == STEPS
    assert run.config["options"]["hidden_size"] == 4


@pytest.mark.slow
def test_stopped_and_resumed_equals_never_stopped(runs, tmp_path, monkeypatch, capsys):
    """Stopped in the first pass over the sums, and on beyond it."""
    whole, two = runs("addition")[0], tmp_path / "two"
    log = JsonLines.log

    def log_and_interrupt(self, step, numbers):
        log(self, step, numbers)
        if step == 1 and "loss" in numbers:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "log", log_and_interrupt)
        assert main(command_of("addition", two)) == 130
    assert f"the checkpoint of step 2 of {STEPS} is kept" in capsys.readouterr().err
    assert main(["addition", "--resume", str(two)]) == 0
    one, other = (finite(folder)[-1] for folder in (whole, two))
    assert one == other
    assert main(["addition", "--resume", str(two), "--digits", "3"]) == 2
    assert "expected --digits 2 as in the run to resume, got 3" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("task", quick(sorted(set(memory.TASKS) - {"adding"}), "copy", "reber"))
def test_every_memory_task_starts(task, tmp_path, capsys):
    cell = "chrono-gru" if task == "latch" else "elman"
    command = ["memory", "--task", task, "--steps", "1", "--batch-size", "4", "--hidden-size", "4"]
    assert main([*command, "--cell", cell, "--length", "24", "--run-dir", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    problem = memory.TASKS[task].make(24)
    assert f"(chance {problem.chance:.4f})" in out
    told = {"copy": "24 ticks later:", "latch": "23 ticks of noise", "temporal-order": " of 2", "recall": "; key "}
    assert told.get(task, "right ") in out
    last = finite(tmp_path / "run")[-1]
    assert ("recalled" in last) == (task == "copy")
    assert ("strings" in last) == (task == "reber")
    if problem.measure == "accuracy":
        assert 0 <= last["held_back"] <= 1


@pytest.mark.slow
def test_programs_are_judged_over_all_kinds_if_asked(tmp_path, capsys):
    words = "execute --judge mix --length 2 --nesting 2 --steps 1 --batch-size 4 --hidden-size 4 --cell elman"
    assert main([*words.split(), "--run-dir", str(tmp_path / "run")]) == 0
    assert "programs of 1 to 2 operations on numbers of up to 2 digits" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    chance = tasks.execution(2, 2, mixed=True).chance
    assert result["floors"] == {"commonest result": chance}
    assert chance > 3 * tasks.execution(2, 2).chance
    assert set(result["figures"]) == {"exact", "written", "symbols"}


# What is computed


def test_one_answer_a_sequence_counts_at_its_last_tick():
    mask = np.array([[1, 1], [1, 1], [1, 0]], bool)
    examples = tasks.Examples(np.zeros((3, 2), int), np.array([5, 7]), mask, np.ones(2, bool))
    ticks = memory.ticks_of(examples)
    assert np.argwhere(ticks.scored).tolist() == [[1, 1], [2, 0]]
    assert ticks.batch.targets[0][ticks.scored].tolist() == [7, 5]
    problem = tasks.latch(3)
    ys = np.zeros((3, 2, 8))
    ys[1, 1, 7] = ys[2, 0, 4] = 1
    assert memory.measures(problem, ticks, ys) == {"held_back": 0.5}


def test_where_little_is_asked_nothing_else_is_learned():
    examples = tasks.selective_copying(5, width=2).draw(np.random.default_rng(0), 3)
    for task, learned in (("selective-copying", examples.scored), ("parity", examples.mask)):
        ticks = memory.ticks_of(examples, all_learned=memory.TASKS[task].all_learned)
        np.testing.assert_array_equal(ticks.batch.targets[1], learned)
        np.testing.assert_array_equal(ticks.scored, examples.scored)


def test_a_string_is_right_if_no_symbol_is_above_those_that_may_come():
    """All strings of the embedded Reber grammar against its definition, one forbidden symbol raised at a time."""
    problem = tasks.embedded_reber(12)
    ticks = memory.ticks_of(problem.draw(np.random.default_rng(0), 6))
    ticks = ticks._replace(legal=memory.legal(ticks.batch))
    ys = np.random.default_rng(1).uniform(size=ticks.legal.shape) + 2 * ticks.legal
    assert memory.measures(problem, ticks, ys)["strings"] == 1
    text = "".join("BTPSXVE"[x] for x in ticks.batch.xs[ticks.batch.mask[:, 2], 2])
    for t, allowed in enumerate(tasks.reber_legal(text)):
        forbidden = next(k for k, symbol in enumerate("BTPSXVE") if symbol not in allowed)
        other = ys.copy()
        other[t, 2, forbidden] = min(ys[t, 2, "BTPSXVE".index(symbol)] for symbol in allowed) + 0.01
        assert memory.measures(problem, ticks, other)["strings"] == pytest.approx(5 / 6)
    other = ys.copy()
    other[len(text) :, 2] = np.arange(7)  # behind the end anything goes
    assert memory.measures(problem, ticks, other)["strings"] == 1


def test_the_latch_has_the_noise_of_1997():
    xs = memory.TASKS["latch"].make(100).draw(np.random.default_rng(0), 500).xs
    assert set(xs[0].ravel()) == {-1, 1}
    assert xs[1:].var() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("ticks", [13, 14])
def test_convolutions_see_all_of_a_sequence(ticks):
    layer = convolutions(1, 3, ticks=ticks)
    params = jax.jit(layer.init)(jax.random.key(0))
    params = jax.tree.map(lambda p: np.abs(p) + 0.1, params)  # nothing cancels, relu lets all by
    xs = np.ones((ticks, 1))

    def last(xs):
        return layer.apply(params, layer.initial_state(params), xs)[1][-1].sum()

    assert (np.abs(jax.jit(jax.grad(last))(xs)) > 0).all()


@pytest.mark.slow
def test_when_a_task_was_solved(tmp_path, monkeypatch, capsys):
    """The first evaluation below the mark, in sequences."""
    found = iter([0.2, 5e-4, 0.3, 1e-4])
    monkeypatch.setattr(learning, "EVALUATIONS", 4)
    monkeypatch.setattr(memory, "EVALUATIONS", 4)
    measures = memory.measures

    def told(problem, ticks, ys):
        return measures(problem, ticks, ys) | ({"held_back": next(found)} if len(ys) == 24 else {})

    monkeypatch.setattr(memory, "measures", told)
    command = ["memory", "--steps", "4", "--batch-size", "4", "--hidden-size", "4", "--length", "24"]
    assert main([*command, "--run-dir", str(tmp_path / "run")]) == 0
    assert "solved (0.001) after 8 sequences" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["figures"]["sequences until solved"] == 8
    assert result["figures"]["held_back"] == 1e-4
    assert result["floors"] == {"chance": pytest.approx(1 / 6)}


def test_copying_is_measured_by_nats_a_tick_and_by_what_is_recalled():
    problem = tasks.copy_memory(3, width=2)
    ticks = memory.ticks_of(problem.draw(np.random.default_rng(0), 5))
    ys = np.random.default_rng(1).normal(size=(*ticks.scored.shape, 10))
    right = ticks.batch.targets[0]
    expected = -scipy.special.log_softmax(ys, -1)[(*np.indices(right.shape), right)].mean()
    found = memory.measures(problem, ticks, ys)
    assert found["held_back"] == pytest.approx(expected, rel=1e-12)
    assert found["recalled"] == (ys.argmax(-1) == right)[-2:].mean()


def test_no_sum_held_back_is_learned():
    options = addition.Options(digits=2, examples=2000)
    sums = addition.different_sums(options, 2010)
    seen = [frozenset(pair.source.split("+")) for pair in sums]
    assert len(set(seen)) == 2010
    assert all(sum(map(int, pair.source.split("+"))) == int(pair.target) for pair in sums)


@pytest.mark.slow
def test_answers_are_those_of_a_greedy_loop_and_compared_as_texts():
    examples = [tasks.Pair("12", "3"), tasks.Pair("1", "12"), tasks.Pair("21", "13"), tasks.Pair("2", "")]
    pairs = Pairs.of("12", "123", examples)
    model = encoder_decoder(len(pairs.source), len(pairs.target), 5)
    params = model.init(jax.random.key(0))
    batch = pairs.batch(examples)
    symbols, right, numbers = answerer(model, pairs.target)(params, batch)
    cell, texts = sj.as_cell(model.decoder), []
    for pair in examples:
        decoder, state = model.encode(params, batch.xs[0]._replace(symbols=pairs.source.encode(pair.source), mask=None))
        symbol, text = pairs.target.bos, []
        for _ in range(pairs.target_length):
            state, logits = cell.step(decoder, state, np.int32(symbol))
            symbol = int(logits.argmax())
            text.append(symbol)
        texts.append(pairs.target.decode(text))
    assert [pairs.target.decode(column) for column in symbols.T] == texts
    # An answer is right if its text is, and if it ends where the text does.
    expected = ["".join(text) == pair.target for text, pair in zip(texts, examples)]
    assert [bool(r) for r in right] == [e and pairs.target.eos in s for e, s in zip(expected, symbols.T)]
    assert numbers["exact"] == np.mean(right)
    hits = [
        symbol == symbols[t, b]
        for b, pair in enumerate(examples)
        for t, symbol in enumerate(pairs.target.encode(pair.target, eos=True))
    ]
    assert 0 < numbers["written"] == np.mean(hits) < 1
    logits = model.decoder.apply(*model.encode(params, batch.xs[0]), batch.xs[1])[1]
    log_probs = scipy.special.log_softmax(np.asarray(logits), -1)
    nats = [
        -log_probs[t, b, symbol]
        for b, pair in enumerate(examples)
        for t, symbol in enumerate(pairs.target.encode(pair.target, eos=True))
    ]
    assert numbers["held_back_loss"] == pytest.approx(np.mean(nats), rel=1e-9)


def test_the_tick_asked_is_the_one_before_the_verb():
    vocabulary = tasks.Vocabulary([tasks.PAD, *tasks.agreement(0).source_symbols])
    asked = agreement.sentences(vocabulary, np.random.default_rng(0), np.array([0, 3, 7, 2]))
    verbs = asked.batch.targets[asked.at, np.arange(4)]
    assert [vocabulary.symbols[v] for v in verbs] == ["were" if many else "was" for many in asked.plural]
    assert sum(asked.plural) == 2
    assert [words[1].endswith("s") for words in asked.words] == asked.plural.tolist()


def test_a_midi_file_holds_the_roll(tmp_path):
    roll = (np.random.default_rng(0).random((9, 88)) < 0.1).astype(np.float32)
    roll[3:5] = 0  # silence in the middle
    piano_roll.write_midi(tmp_path / "a.mid", roll)
    file = mido.MidiFile(tmp_path / "a.mid")
    heard, on, tick = np.zeros((9, 88)), set(), 0
    for message in file.tracks[0]:
        frames, rest = divmod(message.time, file.ticks_per_beat)
        assert rest == 0
        for key in on:
            heard[tick : tick + frames, key - 21] = 1
        tick += frames
        if message.type == "note_on":
            on.add(message.note)
        elif message.type == "note_off":
            on.remove(message.note)
    assert not on
    np.testing.assert_array_equal(heard, roll)


def test_floors_of_music_are_those_of_counting():
    rng = np.random.default_rng(0)
    train, test = ([(rng.random((n, 3)) < 0.4) * 1.0 for n in lengths] for lengths in ((5, 8), (6, 3)))
    sums = np.zeros(2)
    for roll in test:
        for t in range(1, len(roll)):
            for key in range(3):
                after = [r[1:, key] for r in train]
                before = [r[:-1, key] for r in train]
                counts = [[1 if a == 1 else 0 for a in np.concatenate(after)]]
                counts.append([a for a, b in zip(*map(np.concatenate, (after, before))) if b == roll[t - 1, key]])
                for i, seen in enumerate(counts):
                    p = (sum(seen) + 0.5) / (len(seen) + 1)
                    sums[i] -= np.log(p if roll[t, key] else 1 - p)
    frames = sum(len(roll) - 1 for roll in test)
    assert music.marginal(train, test) == pytest.approx(sums[0] / frames, rel=1e-12)
    assert music.markov(train, test) == pytest.approx(sums[1] / frames, rel=1e-12)


def test_the_linear_forecast_goes_on_with_a_linear_series():
    t = np.arange(300)
    series = np.stack([np.sin(0.3 * t) + 0.5, np.cos(0.5 * t)], 1)
    past = np.stack([series[100:104], series[150:154]], 1)
    found = forecast.linear(series[:100], past, 20)
    for start, ys in zip((104, 154), found.swapaxes(0, 1)):
        np.testing.assert_allclose(ys, series[start : start + 20], atol=1e-6)


# Real files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with small files of every kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    images = np.arange(24, dtype=np.uint8).repeat(16).reshape(24, 4, 4)
    labels = (np.arange(24) % 10).astype(np.uint8)
    for name, array in (("train-images-idx3-ubyte.gz", images), ("train-labels-idx1-ubyte", labels)):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        data = header + array.tobytes()
        (tmp_path / "digits" / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    rng = np.random.default_rng(0)
    rolls = {split: rolls_of(rng, 88) for split in ("traindata", "validdata", "testdata")}
    scipy.io.savemat(tmp_path / "rolls.mat", rolls)
    scipy.io.savemat(tmp_path / "narrow.mat", {split: rolls_of(rng, 12) for split in rolls})
    (tmp_path / "series.txt").write_text("".join(f"{x:.6f}\n" for x in tasks.mackey_glass(400)))
    (tmp_path / "flat.txt").write_text("1.0\n" * 400)
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    return tmp_path


def rolls_of(rng, keys):
    """A MATLAB cell array of four rolls."""
    cells = np.empty((1, 4), object)
    for i in range(4):
        cells[0, i] = (rng.random((5 + i, keys)) < 0.1) * 1.0
    return cells


@pytest.mark.slow
@pytest.mark.parametrize("context", ["state", "first"])
def test_a_picture_in_colour_is_seen_once_and_asked_about(tmp_path, context, capsys):
    """A picture of a file is captioned as the strip that it was made of."""
    run, words = tmp_path / "run", ["--shortest", "2", "--longest", "2", "--channels", "2", "--hidden-size", "4"]
    few = ["--steps", "3", "--batch-size", "4", "--colour", "--context", context, "--run-dir", str(run)]
    assert main(["caption", *words, *few]) == 0
    assert "of captions right (chance 0.111%)" in capsys.readouterr().out
    shown = json.loads((run / "captions.json").read_text())["numbers"]
    picture = np.array(shown["images"][0])
    assert picture.shape[-1] == 3
    matplotlib.image.imsave(tmp_path / "strip.png", picture)
    assert main(["ask", str(run), str(tmp_path / "strip.png")]) == 0
    assert shown["said"][0] in capsys.readouterr().out


def test_handwritten_digits_are_split(folder):
    train, held_back = caption.handwritten("digits")
    assert [len(part.labels) for part in (train, held_back)] == [20, 4]
    assert train.pictures[19, 0, 0] == 19
    assert held_back.pictures[0, 0, 0] == 20


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            ["music", "--data", "rolls.mat", "--model", "tcn", "--layers", "1", "--batch-size", "2"],
            marks=pytest.mark.slow,
        ),
        ["forecast", "--data", "series.txt", "--horizon", "5", "--warm-up", "9", "--window", "20", "--cell", "tcn"],
    ],
)
def test_real_files_are_read(command, folder, capsys):
    assert main([*command, "--hidden-size", "4", "--steps", "1", "--run-dir", "run"]) == 0
    assert command[2] in capsys.readouterr().out
    finite(folder / "run")


BAD = {
    "length": (["memory", "--length", "-1"], "memory: expected --length to be a whole number of at least 1, got -1"),
    "a block around convolutions": (
        ["memory", "--block", "mamba", "--cell", "tcn"],
        "memory: expected a cell of its own with --block mamba, got tcn. Name --cell, such as gru.",
    ),
    "layers without blocks": (
        ["memory", "--layers", "2"],
        "memory: expected no --layers with --block none, got both. Leave one of them out.",
    ),
    "a size that a block divides": (
        ["memory", "--block", "attention", "--cell", "chrono-lstm", "--hidden-size", "12"],
        "memory: expected --hidden-size to be a multiple of 8 with --block attention, got 12. Change it.",
    ),
    "too short": (["memory", "--length", "1"], "memory: adding: expected a length of at least 2 ticks, got 1"),
    "few sums": (["addition", "--digits", "1"], "addition: expected at most half of the 55 sums of --digits 1 in use"),
    "digits": (["addition", "--digits", "10"], "addition: expected --digits of at most 9, got 10"),
    "long numbers": (["execute", "--length", "40"], "execute: expected --length of at most 9, got 40"),
    "nesting": (["execute", "--nesting", "21"], "execute: program: expected a nesting of at most 20, got 21"),
    "window": (["agreement", "--window", "6"], "agreement: expected --window from 1 to 5, short of the noun, got 6"),
    "reach": (["agreement", "--gap", "-1"], "agreement: expected --gap of at least 0 and finite, got -1"),
    "no digits": (
        ["caption", "--data", "nowhere"],
        "caption: nowhere/train-images-idx3-ubyte: expected a file, got none",
    ),
    "channels": (["caption", "--channels", "0"], "caption: expected --channels of positive sizes, got (0,)"),
    "order": (["caption", "--shortest", "6"], "caption: expected --shortest of at most --longest, got 6 and 5"),
    "no music": (["music", "--data", "words.txt"], "music: words.txt: expected a MATLAB file of piano rolls, got"),
    "keys": (["music", "--data", "narrow.mat"], "music: expected train pieces of at least two frames of 88 keys, got"),
    "taps": (["music", "--width", "5"], "music: expected no --width with --model lstm, got both."),
    "temperature": (["music", "--temperature", "0"], "music: expected --temperature above 0 and finite, got 0.0"),
    "no series": (["forecast", "--data", "words.txt"], "forecast: words.txt, line 1: expected numbers, got 'one'"),
    "short series": (["forecast", "--data", "series.txt"], "forecast: expected a series of at least 1505 values"),
    "two series": (
        ["forecast", "--data", "series.txt", "--series", "walk"],
        "forecast: expected no --series with --data, got both",
    ),
    "constant": (
        ["forecast", "--data", "flat.txt", "--horizon", "5", "--warm-up", "5"],
        "forecast: expected a series that changes, got one constant value",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, folder, capsys):
    arguments, message = BAD[case]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (folder / "runs").exists()
