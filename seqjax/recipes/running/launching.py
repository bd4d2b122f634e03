"""The start of a run over several processes: on this machine, or among those that were started on many."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from seqjax import leaving
from seqjax.recipes.running import processes
from seqjax.recipes.running.options import BadInput

# What a process is told: where the first one listens, how many there are, which one it is.
ADDRESS, COUNT, RANK = "SEQJAX_COORDINATOR", "SEQJAX_PROCESSES", "SEQJAX_PROCESS"
# Seconds until a process that is not heard of counts as lost, and until all must have ended behind the last one's end.
HEARTBEAT, SHUTDOWN, GRACE = 20, 15, 10


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
    return any(name in os.environ for name in (ADDRESS, COUNT, RANK))


def _told(who: str) -> dict[str, Any]:
    """What the variables say, for `jax.distributed.initialize`."""
    address, *numbers = (os.environ.get(name, "") for name in (ADDRESS, COUNT, RANK))
    if not address or not all(number.isdecimal() for number in numbers):
        raise BadInput(
            f"{who}: expected {ADDRESS}, {COUNT} and {RANK}, an address with a port and two numbers, got {address!r}, "
            f"{numbers[0]!r} and {numbers[1]!r}. Set all three."
        )
    count, rank = map(int, numbers)
    if rank >= count:
        raise BadInput(f"{who}: expected {RANK} below {COUNT}, got {rank} of {count}. They are numbered from 0.")
    if address.startswith("127.0.0.1:"):
        here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jax.config.update("jax_num_cpu_devices", max(1, here // max(1, count)))
    return {"coordinator_address": address, "num_processes": count, "process_id": rank}


def join(who: str) -> None:
    """Meets the other processes: those that the environment tells of, or Slurm, Kubernetes, whatever JAX finds.

    Before JAX computes anything.

    Raises:
      BadInput: there are none.
    """
    where = _told(who) if told() else {}
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    usual = {number: signal.getsignal(number) for number in leaving.SIGNALS}
    try:
        jax.distributed.initialize(
            **where, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=SHUTDOWN, initialization_timeout=120
        )
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            f"{who}: expected processes that Slurm, Kubernetes or the variables {ADDRESS}, {COUNT} and {RANK} tell of "
            f"for --processes 0, met none ({error}). Start the command by srun, in pods with jax[k8s], or give "
            "--processes N."
        ) from error
    for number, handler in usual.items():  # JAX has put its own over that of SIGTERM
        signal.signal(number, handler)
    if not processes.first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)
