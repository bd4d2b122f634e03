"""Training over processes on loopback: two are one, to rounding; one that is lost ends the other; resuming with one."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from seqjax.__main__ import main
from seqjax.recipes import charlm
from seqjax.recipes.running import launching, processes
from seqjax.recipes.running.options import BadInput

SIZES = ["--hidden-size", "6", "--batch-size", "4", "--steps", "6"]
COMMANDS = {
    "charlm": ["--text", "text", "--embedding-size", "4", "--window", "8", "--length", "5", *SIZES],
    "wordlm": ["--text", "text", "--embedding-size", "6", "--vocabulary", "20", *SIZES],
}
SCRIPT = """
import os, sys
import jax
rank, count, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if count > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, rank)
else:
    jax.config.update("jax_num_cpu_devices", 2)
import numpy as np, optax
import seqjax as sj

model = sj.serial(sj.embedding(7, 4), sj.recurrent(sj.lstm(4, 8)), sj.dense(8, 7))
optimizer, symbols = optax.adam(1e-2), np.random.default_rng(0).integers(0, 7, (12, 16))
step = sj.train_step(sj.objective(model, sj.cross_entropy), optimizer, devices=jax.device_count())
train = sj.train_state(model.init(jax.random.key(0)), optimizer)
for _ in range(5):
    state = model.initial_state(train.params, (16,))
    train, state, metrics = step(train, state, sj.Batch(symbols, (symbols + 1) % 7))
print("loss", float(metrics.loss), "devices", jax.device_count())
"""


def environment(**more):
    return {**os.environ, "JAX_PLATFORMS": "cpu", **more}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def folder(tmp_path):
    lines = ["the cat sees the dog", "a dog sees a cat", "the dog sleeps", "a cat sleeps and the dog sees"]
    text = [lines[i] for i in np.random.default_rng(0).integers(0, len(lines), 120)]
    (tmp_path / "text").write_text("\n".join(text) + "\n")
    return tmp_path


def run(folder, *words):
    command = [sys.executable, "-m", "seqjax", *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def numbers(folder):
    timed = lambda name: "second" in name
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not timed(name)} for line in lines]


def close(found, expected):
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for a, b in zip(found, expected):
        np.testing.assert_allclose(list(a.values()), [b[name] for name in a], rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_two_processes_are_one_and_another_number_goes_on(folder, command):
    """Records by the first process, every checkpoint by both; a run of two goes on in one, and of one in two."""
    words = COMMANDS[command]
    run(folder, command, *words, "--run-dir", "one")
    told = run(folder, command, *words, "--run-dir", "two", "--processes", "2")
    assert told.count("run folder") == 1
    close(numbers(folder / "two"), numbers(folder / "one"))
    for name, then in (("two", "1"), ("one", "2")):
        run(folder, command, "--resume", name, "--steps", "10", "--processes", then)
        assert json.loads((folder / name / "checkpoints" / "10" / "entry.json").read_text())["step"] == 10
    close(numbers(folder / "two"), numbers(folder / "one"))
    assert sorted(path.name for path in folder.iterdir()) == ["one", "text", "two"]


@pytest.mark.slow
def test_two_processes_stop_early_and_draw_as_one_does(folder):
    """The evaluation after which they end, the parameters taken, figures of another kind; resumed, they stay so."""
    words = [*COMMANDS["charlm"], "--steps", "60", "--learning-rate", "0.3", "--schedule", "constant"]
    words += ["--patience", "1", "--figures", "svg"]
    told = {}
    for name, count in (("one", "1"), ("two", "2")):
        told[name] = run(folder, "charlm", *words, "--run-dir", name, "--processes", count)
        assert "whose parameters are taken" in told[name]
    assert told["two"].count("whose parameters are taken") == 1
    close(numbers(folder / "two"), numbers(folder / "one"))
    assert numbers(folder / "two")[-1]["step"] < 60
    results = [json.loads((folder / name / "result.json").read_text()) for name in ("one", "two")]
    assert results[0]["steps"] == results[1]["steps"] < 60
    np.testing.assert_allclose(*[list(result["figures"].values()) for result in results], rtol=2e-4)
    files = lambda name: sorted(path.name for path in (folder / name).iterdir() if path.name[0] != ".")
    assert files("two") == files("one")
    assert "loss.svg" in files("two")
    again = run(folder, "charlm", "--resume", "two", "--processes", "2", "--figures", "pdf")
    assert f"of {results[1]['steps']}, whose parameters are taken" in again
    assert json.loads((folder / "two" / "result.json").read_text())["figures"] == results[1]["figures"]
    assert "loss.pdf" in files("two")


@pytest.mark.slow
def test_a_script_over_two_processes_is_one_process(folder):
    (folder / "script.py").write_text(SCRIPT)
    address = f"127.0.0.1:{free_port()}"

    def start(rank, count):
        words = [sys.executable, "script.py", str(rank), str(count), address]
        flags = {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
        return subprocess.Popen(words, cwd=folder, env=environment(**flags), stdout=subprocess.PIPE, text=True)

    told = [one.communicate(timeout=200)[0] for one in [start(0, 2), start(1, 2)]]
    losses = [float(text.split("loss ")[1].split()[0]) for text in (*told, start(0, 1).communicate(timeout=200)[0])]
    assert losses[0] == losses[1]
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-6)
    assert "devices 2" in told[0]


@pytest.mark.slow
def test_tasks_of_slurm_are_one_run(folder):
    """Told by nothing but the variables of srun, as two tasks of a node; the port is that of the job unless given."""
    words = COMMANDS["charlm"]
    slurm = {"SLURM_JOB_ID": "4242", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    command = [sys.executable, "-m", "seqjax", "charlm", *words, "--run-dir", "two", "--processes", "0"]

    def start(rank):
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "JAX_COORDINATOR_PORT": port}
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=folder, env=environment(**slurm, **own), **told)

    port = str(free_port())
    told = [one.communicate(timeout=300) for one in [start(0), start(1)]]
    assert [out.count("run folder") for out, _ in told] == [1, 0], told
    run(folder, "charlm", *words, "--run-dir", "one")
    close(numbers(folder / "two"), numbers(folder / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_within_a_minute(folder, lost):
    """Killed, not stopped; what was kept goes on in one process."""
    told = {launching.ADDRESS: f"127.0.0.1:{free_port()}", launching.COUNT: "2"}
    words = [*COMMANDS["charlm"], "--steps", "100000", "--run-dir", "run", "--processes", "0"]
    words += ["--checkpoint-every", "20"]

    def start(rank):
        own = environment(**told, **{launching.RANK: str(rank)})
        return subprocess.Popen([sys.executable, "-m", "seqjax", "charlm", *words], cwd=folder, env=own)

    both = [start(0), start(1)]
    try:
        until(lambda: [*folder.glob("run/checkpoints/*/entry.json")], 200)
        both[lost].send_signal(signal.SIGKILL)
        assert both[1 - lost].wait(60) != 0
    finally:
        for one in both:
            one.kill()
            one.wait()
    last = max(int(path.parent.name) for path in folder.glob("run/checkpoints/*[0-9]/entry.json"))
    run(folder, "charlm", "--resume", "run", "--steps", str(last + 20))
    assert [line["step"] for line in numbers(folder / "run") if "loss" in line][-1] == last + 20


def trained(folder):
    """Whether there is the record of an update: the file itself is there before the first one."""
    lines = folder / "run" / "metrics.jsonl"
    return lines.exists() and lines.stat().st_size > 0


def until(holds, seconds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_the_launcher_ends_what_is_left(folder):
    """Of two that were started, the second is killed: the command ends with a status of its own."""
    words = [*COMMANDS["charlm"], "--steps", "100000", "--run-dir", "run", "--processes", "2"]
    command = [sys.executable, "-m", "seqjax", "charlm", *words]
    launcher = subprocess.Popen(command, cwd=folder, env=environment())
    try:
        until(lambda: trained(folder), 200)
        children = pathlib.Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert launcher.wait(60) != 0
        assert not any(pathlib.Path(f"/proc/{child}").exists() for child in children)
    finally:
        launcher.kill()
        launcher.wait()


@pytest.mark.slow
def test_ctrl_c_saves_once_and_a_damaged_checkpoint_is_put_aside_once(folder):
    """Saves by the clock, which differs between processes; the newest is damaged: the one before it is gone on from."""
    words = [sys.executable, "-m", "seqjax", "charlm"]
    endless = ["--steps", "100000", "--run-dir", "run", "--processes", "2", "--checkpoint-every", "1s"]
    told = {"cwd": folder, "env": environment(), "stderr": subprocess.PIPE, "text": True}
    launcher = subprocess.Popen([*words, *COMMANDS["charlm"], *endless], **told)
    saved = lambda: sorted(int(path.parent.name) for path in folder.glob("run/checkpoints/*[0-9]/entry.json"))
    try:
        until(lambda: len(saved()) == 2, 200)
        launcher.send_signal(signal.SIGTERM)
        said = launcher.communicate(timeout=60)[1]
    finally:
        launcher.kill()
    assert launcher.returncode == 130, said
    before, last = saved()[-2:]
    assert said.count(f"the checkpoint of step {last} of 100000 is kept. Go on with: ") == 1, said
    place = folder / "run" / "checkpoints"
    biggest = max((path for path in (place / str(last)).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    biggest.write_bytes(biggest.read_bytes()[:-1])
    more = ["--resume", "run", "--steps", str(before + 40), "--processes", "2", "--checkpoint-every", "7"]
    done = subprocess.run([*words, *more], stdout=subprocess.DEVNULL, timeout=300, **told)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is put aside as") == 1, done.stderr
    assert (place / f"{last}.damaged").exists()
    assert saved()[-1] == before + 40
    assert [line["step"] for line in numbers(folder / "run") if "loss" in line][-1] == before + 40


def test_bad_input(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["charlm", *COMMANDS["charlm"], "--processes", "-1"]) == 2
    assert "expected --processes of at least 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected no --processes with --seeds"):
        charlm.Options(seeds=(1, 2), processes=2).check("charlm")
    with pytest.raises(BadInput, match=r"expected processes that Slurm, .* tell of for --processes 0, met none"):
        launching.join("charlm")


TOLD = {
    "a variable alone": ({"SEQJAX_PROCESS": "1"}, r"two numbers, got '', '' and '1'\. Set all three"),
    "no number": (
        {"SEQJAX_COORDINATOR": "127.0.0.1:7", "SEQJAX_PROCESSES": "two", "SEQJAX_PROCESS": "0"},
        r"got '127\.0\.0\.1:7', 'two' and '0'",
    ),
    "one too many": (
        {"SEQJAX_COORDINATOR": "127.0.0.1:7", "SEQJAX_PROCESSES": "2", "SEQJAX_PROCESS": "2"},
        r"SEQJAX_PROCESS below SEQJAX_PROCESSES, got 2 of 2\. They are numbered from 0",
    ),
    "a batch script without srun": (
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        r"met none \(.*\)\. Start the command by srun, in pods with jax\[k8s\]",
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_processes_that_cannot_meet_are_told(case, monkeypatch):
    variables, message = TOLD[case]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=r"^charlm: expected .*" + message):
        launching.join("charlm")


def test_one_process_is_left_as_it_is():
    """Nothing is made, gathered or waited for where there is one."""
    tree = {"a": jax.numpy.ones(3)}
    assert processes.shared(tree) is tree
    assert processes.spread(tree, None) is tree
    assert processes.agreed({"loss": 1.5}) == {"loss": 1.5}
    assert processes.devices(3) == 3
    assert processes.any_asks(True, False) == (True, False)
    assert processes.first()
    assert processes.common(pathlib.Path("runs")) == pathlib.Path("runs")
