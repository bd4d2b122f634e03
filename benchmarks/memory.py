"""Bytes: what a compiled program asks for, what the process and the device really took, and what there is."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Bytes(NamedTuple):
    """A compiled program's temporaries, arguments and outputs, summed over its devices."""

    temporaries: int
    arguments: int
    outputs: int


def of_compiled(compiled: Any, devices: int) -> Bytes | None:
    """From XLA's buffer assignment; None where the backend does not tell."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    return Bytes(
        devices * analysis.temp_size_in_bytes,
        devices * analysis.argument_size_in_bytes,
        devices * analysis.output_size_in_bytes,
    )


def available() -> int:
    """Bytes free for use: the accelerator's limit, or the machine's free memory on a CPU."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return 1024 * _kilobytes(Path("/proc/meminfo"), "MemAvailable")


def growth(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """A call of JAX's result, and by how much the memory in use rose at its highest: the default device's."""
    return (process_growth if jax.default_backend() == "cpu" else device_growth)(call)


def process_growth(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """A call's result, and by how much the process's resident memory rose at its highest meanwhile.

    Memory that the allocator holds from earlier calls is handed back first, as far as it can be: what it keeps
    (buffers of up to 32 MB with glibc) is not seen again, so that small values are lower bounds. None where the
    kernel does not let the high-water mark be reset.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5")
        before = _kilobytes(STATUS, "VmRSS")
    except (OSError, AttributeError, StopIteration):
        return call(), None
    result = call()
    return result, 1024 * max(0, _kilobytes(STATUS, "VmHWM") - before)


def device_growth(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """A call's result, and by how much the accelerator's peak rose above what was in use before it.

    JAX cannot reset its peak: None where the call stayed below an earlier one's.
    """
    device = jax.devices()[0]
    before = device.memory_stats() or {}
    result = call()
    after = device.memory_stats() or {}
    if after.get("peak_bytes_in_use", 0) <= before.get("peak_bytes_in_use", 0):
        return result, None
    return result, int(after["peak_bytes_in_use"] - before["bytes_in_use"])


def _kilobytes(path: Path, name: str) -> int:
    return int(next(line for line in path.read_text().splitlines() if line.startswith(name)).split()[1])
