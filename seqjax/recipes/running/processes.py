"""A run over several processes, each with devices of its own, on one machine or on many.

Every process runs the whole command: it reads the same data, holds the same parameters and computes its share of each
batch. What is written is the first one's, but checkpoints, which all write together. So that the rest of a recipe need
not know, another process than the first is quiet and has a folder of its own, for a while, in the place of the run's.
"""

import atexit
import dataclasses
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqjax import leaving
from seqjax.base import PyTree
from seqjax.devices import in_turn, mesh_of, shares_of
from seqjax.recipes.running.options import BadInput, RunOptions
from seqjax.stepping import Step

# What a process is told: where the first one listens, how many there are, which one it is.
ADDRESS, COUNT, RANK = "SEQJAX_COORDINATOR", "SEQJAX_PROCESSES", "SEQJAX_PROCESS"
# Seconds until a process that is not heard of counts as lost, and until all must have ended behind the last one's end.
HEARTBEAT, SHUTDOWN, GRACE = 20, 15, 10

_folders: dict[Path, Path] = {}  # a process's own folder of a run: the run's


def launch(count: int, arguments: Sequence[str]) -> int:
    """Starts the command in so many processes on this machine; when one fails, the others are ended.

    Each has a session of its own, so that what a terminal or a queue sends comes once, from here.

    Returns:
      0, or the status of the first process that failed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {ADDRESS: f"127.0.0.1:{port}", COUNT: str(count)}
    command = [sys.executable, "-m", "seqjax", *arguments]
    running: list[subprocess.Popen] = []

    def pass_on(number: int, frame: Any) -> None:
        for process in running:
            process.send_signal(number)

    usual = {number: signal.signal(number, pass_on) for number in leaving.SIGNALS if not _ignored(number)}
    try:
        for rank in range(count):
            environment = {**os.environ, **told, RANK: str(rank)}
            running.append(subprocess.Popen(command, env=environment, start_new_session=True))
        while all(process.poll() in (None, 0) for process in running):
            if all(process.poll() == 0 for process in running):
                return 0
            time.sleep(0.1)
        status = next(process.returncode for process in running if process.poll() not in (None, 0))
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(process.poll() is None for process in running):
            time.sleep(0.1)
        return status if status > 0 else 128 - status
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()


def _ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def told() -> bool:
    """Whether this process was started as one of several."""
    return RANK in os.environ


def join(who: str) -> None:
    """Meets the other processes: those that the environment tells of, or Slurm, Kubernetes, whatever JAX finds.

    Before JAX computes anything.

    Raises:
      BadInput: there are none.
    """
    where: dict[str, Any] = {}
    if told():
        where = {"coordinator_address": os.environ[ADDRESS]}
        where |= {"num_processes": int(os.environ[COUNT]), "process_id": int(os.environ[RANK])}
        if os.environ[ADDRESS].startswith("127.0.0.1:"):
            here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            jax.config.update("jax_num_cpu_devices", max(1, here // int(os.environ[COUNT])))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    usual = {number: signal.getsignal(number) for number in leaving.SIGNALS}
    try:
        jax.distributed.initialize(
            **where, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=SHUTDOWN, initialization_timeout=120
        )
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            f"{who}: expected processes that Slurm, Kubernetes or the variables {ADDRESS}, {COUNT} and {RANK} tell of "
            f"for --processes 0, met none ({error}). Start the command by srun, or give --processes N."
        ) from error
    for number, handler in usual.items():  # JAX has put its own over that of SIGTERM
        signal.signal(number, handler)
    if not first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)


def several() -> bool:
    """Whether there are other processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that tells of the run."""
    return not several() or jax.process_index() == 0


def by() -> str:
    """What stands in front of a complaint of another process than the first."""
    return "" if first() else f"process {jax.process_index()}: "


def placed(options: RunOptions, make: Callable[[], Path]) -> RunOptions:
    """The options, with a folder: the run's for the first process, one of its own for another, made like the run's.

    Args:
      options: of this start.
      make: of a run whose folder is not named.
    """
    if not several():
        return options
    if first():
        asked = options.resume or options.run_dir or str(make())
        _agreed_text(str(Path(asked).absolute()))
        wait("folders")  # the others read what this one will change
        return options if options.resume else dataclasses.replace(options, run_dir=asked)
    folder = Path(_agreed_text(""))
    own = Path(tempfile.mkdtemp(prefix="seqjax-")) / folder.name
    atexit.register(_tidy)
    leaving.last.append(_tidy)
    _folders[own] = folder
    if options.resume is not None:
        own.mkdir()
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith("."):  # which are the first process's, as its lock is
                shutil.copy(path, own)
    wait("folders")
    changed: dict[str, Any] = {"resume" if options.resume else "run_dir": str(own)}
    return dataclasses.replace(options, **changed)


def leave() -> None:
    """Takes leave of the other processes, of which none counts as lost then; all of them have to call."""
    _tidy()
    if several():
        jax.distributed.shutdown()


def _tidy() -> None:
    for own in _folders:
        shutil.rmtree(own.parent, ignore_errors=True)


def common(folder: Path) -> Path:
    """The folder that all processes mean by one of this process's own."""
    for own, run in _folders.items():
        if folder.is_relative_to(own):
            return run / folder.relative_to(own)
    return folder


def devices(count: int | None) -> int | list[jax.Device] | None:
    """So many devices of each process, for `seqjax.train_step`."""
    if not several():
        return count
    each = (count or jax.process_count()) // jax.process_count()
    return [device for own in _devices_by_process() for device in own[:each]]


def agreed(numbers: dict[str, float]) -> dict[str, float]:
    """The first process's numbers, for all."""
    if not several():
        return numbers
    bits = np.array(list(numbers.values()), np.float64).view(np.uint32)  # JAX would round them to 32
    return dict(zip(numbers, _of_all(bits)[0].view(np.float64).tolist()))


def any_asks(*asked: bool) -> tuple[bool, ...]:
    """Of each question whether a process says yes; all of them have to call."""
    if not several():
        return asked
    return tuple(bool(answer) for answer in _of_all(np.asarray(asked)).any(axis=0))


def wait(what: str) -> None:
    """Until all processes have come here.

    Raises:
      RuntimeError: another one waits elsewhere.
    """
    if several() and len(set(_of_all(np.uint32(zlib.crc32(what.encode()))).tolist())) > 1:
        raise RuntimeError(f"expected all processes to wait at the same place, got one elsewhere than at the {what}.")


def shared(tree: PyTree) -> PyTree:
    """The tree as arrays of all processes; those of one process, equal in all of them, become whole everywhere."""
    if not several():
        return tree
    everywhere = NamedSharding(_mesh(), PartitionSpec())
    mine = lambda x: not isinstance(x, jax.Array) or x.is_fully_addressable
    return jax.tree.map(lambda x: _put(x, everywhere) if mine(x) else x, tree)


def spread(given: tuple[PyTree, PyTree, PyTree], step: Step) -> tuple[PyTree, PyTree, PyTree]:
    """Arguments of a training step, which every process has, as arrays of which each holds its part."""
    if not several():
        return given
    mesh = step.mesh
    assert mesh is not None

    def leaf(spec: PartitionSpec, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: _put(x, NamedSharding(mesh, spec)), tree)

    shares = tuple(shares_of(given[2], step.in_front))
    return jax.tree.map(leaf, shares, given, is_leaf=lambda node: isinstance(node, PartitionSpec))


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array):
        if x.sharding == sharding:
            return x
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(_put(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    numbers = np.asarray(whole(x))
    return jax.make_array_from_callback(numbers.shape, sharding, lambda at: numbers[at])


def whole(tree: PyTree) -> PyTree:
    """Arrays of all processes, whole, as arrays of this one."""

    def leaf(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        if x.is_fully_replicated:
            return x.addressable_data(0)
        assert isinstance(x.sharding, NamedSharding)
        mesh = x.sharding.mesh
        assert isinstance(mesh, Mesh)
        return _everywhere(mesh, x)

    return jax.tree.map(leaf, tree)


def on_one(tree: PyTree) -> PyTree:
    """Arrays on this process's first device only, for what is not spread."""
    return jax.device_put(whole(tree), jax.local_devices()[0])


def _of_all(mine: np.ndarray | np.generic) -> np.ndarray:
    """A row of each process."""
    mesh = Mesh(np.array([own[0] for own in _devices_by_process()]), ("process",))
    rows = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("process")), mine[None])
    return np.asarray(_everywhere(mesh, rows))


def _everywhere(mesh: Mesh, x: jax.Array) -> jax.Array:
    """All of an array that is spread over a mesh, on this process."""
    (found,) = in_turn(mesh, _gather(NamedSharding(mesh, PartitionSpec())), (x,))
    return found.addressable_data(0)


@functools.cache
def _gather(everywhere: NamedSharding) -> Any:
    return jax.jit(lambda x: (x,), out_shardings=everywhere)


def _devices_by_process() -> list[list[jax.Device]]:
    found: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        found.setdefault(device.process_index, []).append(device)
    return [found[index] for index in sorted(found)]


def _mesh() -> Mesh:
    mesh = mesh_of(jax.devices())
    assert mesh is not None
    return mesh


def _agreed_text(text: str) -> str:
    room = np.zeros(4096, np.uint8)
    letters = np.frombuffer(text.encode(), np.uint8)
    room[: len(letters)] = letters
    return _of_all(room)[0].tobytes().rstrip(b"\0").decode()
