"""Ctrl-C at any moment of a command, its imports included: one sentence and status 130."""

import os
import re
import signal
import subprocess
import sys

import pytest
from marks import quick

STOPPED = re.compile(r"(seqjax|[a-z-]+): stopped\.\n")
SMALL = ["--text", "text.txt", "--hidden-size=8", "--batch-size=2", "--window=8", "--embedding-size=4", "--length=2000"]
COMMANDS = {
    "charlm": [*SMALL, "--steps=8000", "--run-dir=run"],
    "automaton": ["--steps=8000", "--run-dir=run"],
    "reservoir": ["--run-dir=run"],
    "hmm-tag": ["--run-dir=run"],
    "hmm-learn": ["--text=text.txt", "--window=50", "--steps=8000", "--run-dir=run"],
    "memory": ["--task=copy", "--steps=8000", "--run-dir=run"],
}
# What has just been imported, or printed, as the signal comes.
IMPORTED = ["jaxlib", "jax.numpy", "seqjax.base", "seqjax.training", "seqjax", "tyro", "seqjax.recipes.running.loop"]
PRINTED = {
    "charlm": ["text.txt: ", "model: "],
    "automaton": ["'(a|b)*abb' over", "trying all ", "compiled: "],
    "reservoir": ["Mackey-Glass", "seed 0"],
    "hmm-tag": ["3 tags", "ln P"],
    "hmm-learn": ["text.txt: "],
    "memory": ["model: "],
}


def interrupted(folder, command, start, there, number=signal.SIGINT, flags=("-u",)):
    """Status, stdout and stderr without the lines of imports, of a command that is sent a signal behind a line."""
    (folder / "text.txt").write_text("aab" * 100)
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {sent: signal.signal(sent, handler) for sent, handler in usual.items()}  # a child ignores what is ignored
    process = subprocess.Popen(
        [sys.executable, *flags, "-m", "seqjax", command, *COMMANDS[command]],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder, "env": environment},
    )
    for sent, handler in before.items():
        signal.signal(sent, handler)
    with process:
        for line in getattr(process, start):
            if there(line):
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    return process.returncode, out, "".join(x for x in err.splitlines(True) if not x.startswith("import time:"))


@pytest.mark.parametrize("module", quick(IMPORTED, "jax.numpy"))
def test_in_the_middle_of_the_imports(tmp_path, module):
    there = lambda line: line.split("|")[-1].strip() == module
    status, out, err = interrupted(tmp_path, "charlm", "stderr", there, flags=("-X", "importtime"))
    assert (status, out) == (130, "")
    assert STOPPED.fullmatch(err)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "line"), [(command, line) for command in PRINTED for line in PRINTED[command]])
def test_in_every_part_of_a_command(tmp_path, command, line):
    """Where there is no checkpoint yet, or nothing to keep: at once."""
    status, _, err = interrupted(tmp_path, command, "stdout", lambda said: said.startswith(line))
    assert status == 130
    assert err.count("\n") == 1
    assert STOPPED.fullmatch(err) or err.startswith("Stopped; the checkpoint of step ")
    assert not list(tmp_path.glob("run/.lock.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("charlm", signal.SIGINT),
        ("charlm", signal.SIGTERM),
        ("charlm", signal.SIGHUP),
        ("automaton", signal.SIGINT),
        ("hmm-learn", signal.SIGINT),
    ],
)
def test_while_it_trains(tmp_path, command, number):
    """After the first evaluation; a process of its own, which ends without a word of anybody else's."""
    there = lambda line: re.match(r" +\d+ steps ", line)
    status, _, err = interrupted(tmp_path, command, "stdout", there, number)
    assert status == 130
    found = re.fullmatch(r"Stopped; the checkpoint of step (\d+) of 8000 is kept\. Go on with: .* --resume run\n", err)
    assert found
    assert (tmp_path / "run" / "checkpoints" / found[1] / "entry.json").exists()
