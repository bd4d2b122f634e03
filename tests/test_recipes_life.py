"""The life of a run's folder: damage, kills, signals, versions, full disks and second processes."""

import concurrent.futures
import errno
import io
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

from seqjax.__main__ import main
from seqjax.recipes import charlm
from seqjax.recipes.language import characters
from seqjax.recipes.running import checkpoints, config, files, folders, learning, lock, loop, trackers
from seqjax.recipes.running.options import BadInput, Interval, RunOptions, interval
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import JsonLines

TEXT = "aab" * 100 + "\n"
SMALL = ["--hidden-size", "8", "--embedding-size", "4", "--batch-size", "2", "--window", "8", "--length", "9"]
COMMAND = ["charlm", *SMALL, "--text", "text.txt", "--steps", "12"]


class Killed(BaseException):
    """A kill: nothing behind it is done."""


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Evaluations, and with them checkpoints, of step 4, 8 and 12."""
    patch.setattr(learning, "EVALUATIONS", 3)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a text and a finished run in it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*COMMAND, "--run-dir", "run"]) == 0
    return folder


@pytest.fixture
def run(here, trained):
    """A copy of that run, to be damaged."""
    return shutil.copytree(trained / "run", here / "run")


def contents(folder):
    """Of every file but the locks."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    }


def state_of(folder):
    """The last checkpoint's leaves, and its step."""
    made = Run.open("charlm", folder)
    options = made.options(charlm.Options)
    step, state = made.restore(characters.initial(characters.language_model(options, 3), options))
    return step, jax.tree.leaves(state)


def assert_same_state(one, other):
    (a_step, a), (b_step, b) = state_of(one), state_of(other)
    assert a_step == b_step
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def evaluations(folder):
    return {r["step"]: r["validation_loss"] for r in Run.open("charlm", folder).metrics() if "validation_loss" in r}


def said(capsys, command, status=2):
    """The lines on stderr of a command."""
    capsys.readouterr()
    assert main(command) == status
    return capsys.readouterr().err


# Damage


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_a_bit(place):
    data = bytearray(largest(place / "state").read_bytes())
    data[len(data) // 2] ^= 1
    largest(place / "state").write_bytes(data)


def wrong_entry(place):
    entry = json.loads((place / "entry.json").read_text())
    (place / "entry.json").write_text(json.dumps(entry | {"value": 0.0}))


DAMAGE = {
    "a bit": flip_a_bit,
    "cut short": lambda place: largest(place).write_bytes(largest(place).read_bytes()[:100]),
    "a file less": lambda place: largest(place).unlink(),
    "a file more": lambda place: (place / "state" / "more").write_text("x"),
    "no entry": lambda place: (place / "entry.json").unlink(),
    "torn entry": lambda place: (place / "entry.json").write_text('{"digest"'),
    "empty entry": lambda place: (place / "entry.json").write_text("{}"),
    "wrong entry": wrong_entry,
    "entry elsewhere": lambda place: (place / "entry.json").rename(place.parent / f"{place.name}.json"),
    "nothing in it": lambda place: (shutil.rmtree(place), place.mkdir()),
    "another step's": lambda place: (shutil.rmtree(place), shutil.copytree(place.with_name("8"), place)),
}


@pytest.mark.parametrize("damage", quick(DAMAGE, "a bit"))
def test_a_damaged_checkpoint_falls_back_to_the_one_before(run, trained, capsys, damage):
    """Sampling reads that of step 8; the run goes on from there, and comes to the same bits."""
    DAMAGE[damage](run / "checkpoints" / "12")
    kept = contents(run / "checkpoints")
    err = said(capsys, ["sample", "run"], 0)
    assert err == "run: the checkpoint of step 12 is not as it was written, that of step 8 is read.\n"
    assert contents(run / "checkpoints") == kept
    err = said(capsys, ["charlm", "--resume", "run"], 0)
    assert "run: the checkpoint of step 12 is not as it was written. It is put aside as 12.damaged" in err
    assert err.count("\n") == 1
    assert contents(run / "checkpoints" / "12.damaged") == {
        path.relative_to("12"): data for path, data in kept.items() if path.parts[0] == "12"
    }
    assert_same_state("run", trained / "run")
    assert evaluations("run") == evaluations(trained / "run")


def every(damage):
    return lambda run: [damage(place) for place in (run / "checkpoints").iterdir()]


LOST = {
    "every entry": (every(DAMAGE["no entry"]), "got one without its entry.json. Put back its files."),
    "every array": (every(DAMAGE["cut short"]), "as it was written, got a damaged one. Put back its files."),
    "all": (lambda run: shutil.rmtree(run / "checkpoints"), "expected checkpoints in run/checkpoints, got none."),
    "moved": (lambda run: (run / "checkpoints").rename(run / "old"), "expected checkpoints in run/checkpoints, got"),
}


@pytest.mark.parametrize("lost", quick(LOST, "every entry"))
def test_a_run_whose_checkpoints_are_lost_never_begins_anew(run, capsys, lost):
    damage, sentence = LOST[lost]
    damage(run)
    before = contents(run)
    assert sentence in said(capsys, ["charlm", "--resume", "run", "--steps", "20"])
    assert said(capsys, ["sample", "run"]).count("\n") == 1
    assert contents(run) == before


def edited(run, change, *, stamp=False):
    made = json.loads((run / "config.json").read_text())
    change(made)
    if stamp:
        made = config.stamped(made, ())
    (run / "config.json").write_text(json.dumps(made))


EDITS = {
    "options": lambda c: c["options"].update(hidden_size=9),
    "vocabulary": lambda c: c["facts"].update(vocabulary=c["facts"]["vocabulary"][::-1]),
    "no vocabulary": lambda c: c["facts"].pop("vocabulary"),
    "no option": lambda c: c["options"].pop("layers"),
    "no digest": lambda c: c.pop("digest"),
    "free": lambda c: c.update(free=[]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_configuration_and_vocabulary_are_inside_the_digest(run, capsys, edit):
    edited(run, EDITS[edit])
    for command in (["sample", "run"], ["charlm", "--resume", "run"]):
        assert "run/config.json as the run wrote it, got another recipe, other options or" in said(capsys, command)


def test_the_configuration_of_another_run_is_refused(run, capsys):
    """Letters in another order fit the arrays, and would write nonsense."""
    edited(run, EDITS["vocabulary"], stamp=True)
    for command in (["sample", "run"], ["charlm", "--resume", "run"]):
        err = said(capsys, command)
        assert "to be of the run in config.json, got that of another" in err or "its vocabulary differs" in err


OLD = {
    "recipe": (lambda c: c.update(recipe="other"), "got a run of other."),
    "no options": (lambda c: c.pop("options"), "got another kind of config.json."),
    "size": (EDITS["options"], "of this model with .train.params[0][1].w_x float64[4,36], got float64[4,32]."),
    "type": (lambda c: c["options"].update(hidden_size="x"), "run/config.json as the run wrote it, got 'x'. Put back"),
    "choice": (lambda c: c["options"].update(cell="rnn"), "sample: expected cell in"),
    "range": (lambda c: c["options"].update(dropout=2), "expected --dropout of at least 0 and below 1, got 2."),
    "vocabulary": (EDITS["no vocabulary"], "config.json to hold the vocabulary as one string, got None. Put back"),
    "twice": (lambda c: c["facts"].update(vocabulary="aab"), "Vocabulary: expected distinct symbols, got 'a' twice."),
    "letters": (
        lambda c: c["facts"].update(vocabulary="abcd"),
        "of this model with .train.params[0][0].w float64[4,4], got float64[3,4].",
    ),
}


@pytest.mark.parametrize("edit", OLD)
def test_what_a_run_without_a_digest_can_be_refused_for(run, capsys, edit):
    change, sentence = OLD[edit]
    edited(run, lambda c: (c.pop("format"), c.pop("digest"), change(c)))
    err = said(capsys, ["sample", "run"])
    assert sentence in err
    assert err.count("\n") == 1


def test_a_configuration_that_is_not_json(run, capsys):
    (run / "config.json").write_text("{")
    assert "got a config.json that is not JSON. Name a folder" in said(capsys, ["sample", "run"])


# Logs

ENDS = {
    "torn": b'{"step": 13, "lo',
    "not UTF-8": b"\xff",
    "another": b'{"loss": 1.0}\n',
    "empty": b"\n",
    "zeros": b"\0" * 512,
    "torn, zeros": b'{"step"' + b"\0" * 9 + b"\n\0\0",
}


@pytest.mark.parametrize("end", quick(ENDS, "zeros"))
def test_a_torn_last_line_is_left_out_with_a_word(run, capsys, end):
    lines = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(lines + ENDS[end])
    err = said(capsys, ["charlm", "--resume", "run"], 0)
    assert err == "charlm: the last line of run/metrics.jsonl is torn, and is left out.\n"
    assert (run / "metrics.jsonl").read_bytes() == lines


@pytest.mark.slow
def test_a_last_line_without_its_end_is_whole(run, capsys):
    lines = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(lines.removesuffix(b"\n"))
    assert said(capsys, ["charlm", "--resume", "run"], 0) == ""
    assert (run / "metrics.jsonl").read_bytes() == lines


def test_a_line_in_the_middle_that_is_not_ours_is_refused(run, capsys):
    (run / "metrics.jsonl").write_bytes(b'{"step"\n' + (run / "metrics.jsonl").read_bytes())
    before = contents(run)
    assert "one JSON object with a step a line, got another line 1. Remove or mend it." in said(
        capsys, ["charlm", "--resume", "run"]
    )
    assert contents(run) == before


def test_a_line_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "log"
    files.append(path, "first")
    write = io.FileIO.write

    class Full(io.FileIO):
        def write(self, data):
            if len(data) < 5:
                raise OSError(28, "No space left on device")
            return write(self, data[:3])

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *_, **__: Full(str(self), "ab"))
        with pytest.raises(OSError, match="No space"):
            files.append(path, "second")
    assert path.read_bytes() == b"first\n"


# What is kept


def test_the_newest_and_the_best_are_kept(tmp_path):
    state = {"a": jnp.arange(4.0)}
    for step, value in enumerate([3.0, 1.0, 2.0, None, 4.0, 5.0, None, 6.0], 1):
        checkpoints.save(tmp_path, step, state, keep=3, value=value)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 3, 6, 7, 8]
    assert checkpoints.best(tmp_path) == 2
    flip_a_bit(tmp_path / "2")
    assert checkpoints.best(tmp_path) == 3
    assert checkpoints.find(tmp_path).step == 8


@pytest.mark.slow
def test_checkpoints_as_often_as_asked(here):
    asked = ["--keep", "3", "--checkpoint-every", "5", "--seed", "1"]
    assert main([*COMMAND, *asked, "--run-dir", "run"]) == 0
    losses = evaluations("run")
    best = sorted(losses, key=losses.get)[:2]
    assert {int(path.name) for path in (here / "run" / "checkpoints").iterdir()} == {8, 10, 12, *best}
    assert main(["charlm", "--resume", "run", "--steps", "13", "--keep", "2"]) == 0  # both may change
    assert len(list((here / "run" / "checkpoints").iterdir())) <= 4


def test_how_often():
    assert interval("who", "007") == Interval(updates=7)
    assert interval("who", "2h") == Interval(seconds=7200)
    for odd in ("0", "m", "1.5h", "10 m", "-3"):
        with pytest.raises(ValueError, match="expected --checkpoint-every as a number of updates, 200, or a time"):
            interval("who", odd)
    with pytest.raises(ValueError, match="expected --keep of at least 2"):
        RunOptions(keep=1).check("who")


class Numbers(NamedTuple):
    a: jax.Array
    skipped: jax.Array = np.zeros((), np.int32)


class State(NamedTuple):
    train: Numbers


def course(folder, states, **told):
    """The loop over states that are given, with a time between."""
    made = Run.create("echo", RunOptions(run_dir=str(folder), **told), {})

    def advance(state, step):
        yield from ()
        return states[step], {"loss": jnp.zeros(()), "skipped": 0}

    numbers = {"evaluate": lambda state: {"x": 1.0}, "show_evaluation": "", "show": "", "work": 1, "unit": "x"}
    for _ in loop.train(made, states[0], advance, steps=len(states), evaluate_every=2, **numbers):
        pass
    return made


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, odd):
    good, bad = State(Numbers(jnp.zeros(3))), State(Numbers(jnp.array([0, odd, 0])))
    with pytest.raises(BadInput, match=r"expected finite numbers in training, got others up to step 4\. .* step 2 is"):
        course(tmp_path / "run", [good, good, good, bad])
    assert Run.open("echo", tmp_path / "run").last_step() == 2


def test_checkpoints_by_the_clock(tmp_path, monkeypatch):
    clock = iter(range(0, 10000, 40))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    saved = []
    monkeypatch.setattr(Run, "save", lambda self, step, state, value=None: saved.append(step))
    course(tmp_path / "run", [State(Numbers(jnp.zeros(1)))] * 7, checkpoint_every="1m")
    assert saved == [2, 4, 6, 7]


# Kills and signals


@pytest.mark.parametrize("leave", quick([signal.SIGTERM, signal.SIGHUP], signal.SIGTERM))
def test_a_signal_to_leave_saves_like_ctrl_c(here, trained, monkeypatch, capsys, leave, request):
    """Twice, as a closed terminal may send it: that is no second Ctrl-C."""
    log, usual = JsonLines.log, signal.SIG_DFL
    before = signal.signal(leave, usual)  # which under nohup ignores it
    request.addfinalizer(lambda: signal.signal(leave, before))

    def log_and_leave(self, step, numbers):
        log(self, step, numbers)
        if step == 1 and "loss" in numbers:
            os.kill(os.getpid(), leave)
            os.kill(os.getpid(), leave)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "log", log_and_leave)
        err = said(capsys, [*COMMAND, "--run-dir", "run"], 130)
    assert err == (
        "Stopped; the checkpoint of step 2 of 12 is kept. Go on with: python -m seqjax charlm --resume run\n"
    )
    assert signal.getsignal(leave) is usual
    assert main(["charlm", "--resume", "run"]) == 0
    assert_same_state("run", trained / "run")


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored(here, monkeypatch):
    """As under nohup."""
    log = JsonLines.log

    def log_and_leave(self, step, numbers):
        log(self, step, numbers)
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(JsonLines, "log", log_and_leave)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main([*COMMAND, "--run-dir", "run"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def killed_in(monkeypatch, place, name, times=1):
    """The process dies as this is called for the n-th time."""
    usual, left = getattr(place, name), [times]

    def call(*given, **named):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return usual(*given, **named)

    monkeypatch.setattr(place, name, call)


SAVES = {
    "before the arrays": ("manager", 1),
    "before the entry": ("replace", 1),
    "before the second entry": ("replace", 2),
    "after the first": ("write", 1),
}


@pytest.mark.parametrize("when", quick(SAVES, "before the entry"))
@pytest.mark.parametrize("patience", quick(["0", "2"], "2"))
def test_a_kill_in_a_save_is_as_if_nothing_had_been(here, monkeypatch, when, patience, capsys):
    import orbax.checkpoint as ocp

    what, times = SAVES[when]
    place, name = {
        "manager": (ocp.CheckpointManager, "save"),
        "replace": (checkpoints, "replace"),
        "write": (Run, "write_config"),
    }[what]
    command = [*COMMAND, "--patience", patience, "--run-dir"]
    assert main([*command, "whole"]) == 0
    with monkeypatch.context() as patch:
        killed_in(patch, place, name, times + (what == "write"))
        with pytest.raises(Killed):
            main([*command, "killed"])
    assert main(["charlm", "--resume", "killed"]) == 0
    assert_same_state("killed", "whole")
    assert evaluations("killed") == evaluations("whole")
    samples = [(main(["sample", name]), capsys.readouterr().out)[1].splitlines()[-1] for name in ("killed", "whole")]
    assert samples[0] == samples[1]


# Versions


def test_a_run_of_a_later_format_is_refused(run, capsys):
    edited(run, lambda c: c.update(format=99), stamp=True)
    assert "expected a run of a format up to 2 in run, got 99. Use the version of seqjax that made it" in said(
        capsys, ["sample", "run"]
    )


def test_a_free_option_that_is_younger_than_the_run(run, capsys):
    """It does not change what the checkpoints name."""
    edited(run, lambda c: (c["options"].pop("keep"), c["free"].remove("keep")))
    assert said(capsys, ["charlm", "--resume", "run", "--keep", "3"], 0) == ""
    assert said(capsys, ["sample", "run"], 0) == ""
    assert json.loads((run / "config.json").read_text())["options"]["keep"] == 3


@pytest.mark.slow
def test_options_that_are_not_known_are_named_and_left_alone(run, capsys):
    """And one that the run lacks has its default."""

    def change(made):
        made["options"].update(later="x", other=[1])
        del made["options"]["optimizer"]

    edited(run, change, stamp=True)
    for place in (run / "checkpoints").iterdir():  # as the version that made the run would have
        entry = json.loads((place / "entry.json").read_text())
        entry["run"] = json.loads((run / "config.json").read_text())["digest"]
        del entry["digest"]
        (place / "entry.json").write_text(json.dumps(entry | {"digest": checkpoints._digest(place, entry)}))
    err = said(capsys, ["charlm", "--resume", "run", "--steps", "14"], 0)
    assert err == "charlm: options of run that this version does not know are left alone: later, other.\n"
    options = json.loads((run / "config.json").read_text())["options"]
    assert (options["later"], options["other"], options["steps"]) == ("x", [1], 14)
    assert said(capsys, ["sample", "run"], 0) == ""


# Disks and folders

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
TENSORSTORE = ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device [os_error_code='28']\nmore")


def fails_in(monkeypatch, place, name, error, times):
    """From the n-th call on."""
    usual, left = getattr(place, name), [times]

    def call(*given, **named):
        left[0] -= 1
        if left[0] <= 0:
            raise error
        return usual(*given, **named)

    monkeypatch.setattr(place, name, call)


FAILS = {
    "the first line": ("append", FULL, 1, "There is no checkpoint yet."),
    "a line": (
        "append",
        FULL,
        6,
        "The checkpoint of step 8 of 12 is kept. Go on with: python -m seqjax",
    ),
    "the first arrays": ("save", TENSORSTORE, 1, "There is no checkpoint yet."),
    "arrays": (
        "save",
        TENSORSTORE,
        2,
        "The checkpoint of step 4 of 12 is kept. Go on with: python -m seqjax",
    ),
    "an entry": ("replace", FULL, 3, "The checkpoint of step 8 of 12 is kept. Go on with: python -m seqjax"),
    "the picture": ("savefig", FULL, 1, "What was saved in /"),
    "what it came to": ("conclude", FULL, 1, "What was saved in /"),
}


@pytest.mark.parametrize("where", quick(FAILS))
def test_a_full_disk_ends_a_run_with_what_was_saved(here, trained, monkeypatch, capsys, where):
    import orbax.checkpoint as ocp
    from matplotlib.figure import Figure

    name, error, times, sentence = FAILS[where]
    places = {"append": trackers, "save": ocp.CheckpointManager, "replace": checkpoints, "savefig": Figure}
    with monkeypatch.context() as patch:
        fails_in(patch, places.get(name, learning), name, error, times)
        err = said(capsys, [*COMMAND, "--run-dir", "run"], 1)
    assert err.startswith("charlm: expected to write and read ")
    assert f"got No space left on device. {sentence}" in err
    assert err.count("\n") == 1
    assert main(["charlm", "--resume", "run"]) == 0
    assert_same_state("run", trained / "run")
    assert evaluations("run") == evaluations(trained / "run")


@pytest.mark.slow
def test_files_that_may_not_grow(here, capsys):
    """A limit of the system: arrays of 40 kB fit, then those of another run do not."""
    code = (
        "import resource, sys; from seqjax.__main__ import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [*COMMAND, "--hidden-size", "64", "--run-dir", "run"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "got File too large. There is no checkpoint yet." in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((here / "run" / "checkpoints").iterdir())


def test_writes_that_end_behind_a_failed_one_say_nothing(tmp_path, monkeypatch):
    """As tensorstore's threads, which call an event loop that is closed by then; other errors are told."""

    class Late:
        def __init__(self, words):
            self.words = words

        def __del__(self):
            raise RuntimeError(self.words)

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    checkpoints._let_late_writes_be.cache_clear()
    with checkpoints._writing(tmp_path / "1"):
        for words in ("Event loop is closed", "another"):
            Late(words)
    assert told == ["another"]
    checkpoints._let_late_writes_be.cache_clear()


@pytest.mark.parametrize("when", quick(["append", "save"], "append"))
def test_a_folder_that_is_lost_ends_the_run(here, monkeypatch, capsys, when):
    """As a mount that goes: nothing is made in its place."""
    place = {"append": trackers, "save": Run}[when]
    usual, calls = getattr(place, when), []

    def lose(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            (here / "run").rename(here / "elsewhere")
        return usual(*given, **named)

    monkeypatch.setattr(place, when, lose)
    err = said(capsys, [*COMMAND, "--run-dir", "run"], 1)
    assert err.startswith("charlm: expected to write and read ")
    assert err.count("\n") == 1
    assert not (here / "run").exists()


def test_a_folder_that_cannot_be_written_is_only_read(run, monkeypatch, capsys):
    before = contents(run)
    monkeypatch.setattr(
        lock.FileLock, "acquire", lambda self: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    err = said(capsys, ["charlm", "--resume", "run", "--steps", "20"])
    assert err == (
        "charlm: expected a folder that can be written, got run (Read-only file system). Free it, or copy it to "
        "another place.\n"
    )
    assert contents(run) == before
    assert said(capsys, ["sample", "run"], 0) == ""


# Locks


def in_a_thread(call, *given):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        return threads.submit(call, *given).result()


def test_a_second_process_is_refused_by_the_name_of_the_first(run, capsys):
    """Another thread's lock is as another process's to the system."""
    before = contents(run)
    in_a_thread(lock.take, "who", run)
    mine = re.escape(f"process {os.getpid()} of {platform.node()} since ")
    try:
        for command in (["charlm", "--resume", "run"], ["charlm", "--resume", "../" + run.parent.name + "/run/"]):
            assert re.fullmatch(
                rf"charlm: expected \S+ to itself, got {mine}.* in it\. Wait until that has ended, or end it\.\n",
                said(capsys, command),
            )
        assert said(capsys, ["sample", "run"], 0) == ""
    finally:
        lock.give_back(run)
    assert contents(run) == before
    assert said(capsys, ["charlm", "--resume", "run"], 0) == ""
    assert not (run / lock.OWNER).exists()


@pytest.mark.slow
def test_two_that_are_given_one_new_folder(here, capsys):
    (here / "run").mkdir()
    in_a_thread(lock.take, "who", here / "run")
    try:
        assert "expected run to itself, got process" in said(capsys, [*COMMAND, "--run-dir", "run"])
    finally:
        lock.give_back(here / "run")
    assert main([*COMMAND, "--run-dir", "run"]) == 0
    assert "got run with files in it" in said(capsys, [*COMMAND, "--run-dir", "run"])


@pytest.mark.slow
def test_the_lock_of_a_process_that_was_killed_is_told_and_taken(run, capsys):
    code = "import sys, time; from pathlib import Path; from seqjax.recipes.running import lock\n"
    code += "lock.take('who', Path('run')); print('taken', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "taken\n"
        assert f"got process {first.pid} of " in said(capsys, ["charlm", "--resume", "run"])
        first.kill()
    err = said(capsys, ["charlm", "--resume", "run"], 0)
    assert err.startswith(f"charlm: process {first.pid} of ")
    assert err.endswith("which was in run, is gone: its lock is taken.\n")
    assert said(capsys, ["charlm", "--resume", "run"], 0) == ""


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(here):
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        options = RunOptions()
        found = list(threads.map(lambda n: folders.new("charlm", options), range(80)))
    for folder in found:
        lock.give_back(folder)
    assert len({*found}) == 80
    assert all(folder.is_dir() for folder in found)


@pytest.mark.slow
def test_main_works_from_a_thread(here, trained):
    assert in_a_thread(main, [*COMMAND, "--run-dir", "run"]) == 0
    assert_same_state("run", trained / "run")
    assert in_a_thread(main, ["charlm", "--resume", "run"]) == 0
