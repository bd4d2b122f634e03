"""Where and with what a number was measured, and the JSON lines that keep both."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "dm-haiku",
    "equinox",
    "keras",
    "torch",
    "dynamax",
    "hmmlearn",
    "numpy",
)
VARIABLES = ("XLA_FLAGS", "GLIBC_TUNABLES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "XLA_PYTHON_CLIENT_PREALLOCATE")
SETTINGS = ("jax_num_cpu_devices", "jax_enable_x64", "jax_default_matmul_precision")


class Records:
    """A file of JSON lines; what is the same for all of them is added to each, unless it has its own."""

    def __init__(self, path: Path) -> None:
        """The file is made, with its folder, when the first line is written."""
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.facts = facts()

    def write(self, row: dict[str, Any]) -> None:
        """Appends one row."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        row = {**self.facts, "time": now, **row}
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Setting(NamedTuple):
    """What figures hold for."""

    processor: str
    cores: int
    jax: str

    def __str__(self) -> str:
        """As pages name it."""
        return f"{self.processor}, {self.cores} cores, jax {self.jax}"


def setting(row: Mapping[str, Any]) -> Setting:
    """Of a row: its processor, or its accelerator, and the version of JAX."""
    machine = row["machine"]
    processor = machine["processor"] if machine.get("backend", "cpu") == "cpu" else machine["device"]
    return Setting(processor, machine["cores"], row["versions"]["jax"])


def facts() -> dict[str, Any]:
    """Machine, versions, environment and commit."""
    return {
        "machine": machine(),
        "versions": versions(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "settings": {name: getattr(jax.config, name) for name in SETTINGS},
        "load_average": round(os.getloadavg()[0], 2),
        "commit": commit(),
    }


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory, accelerator."""
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
    }


def processor() -> str:
    """Its name; with family and model where it tells them, as virtual machines call many processors alike."""
    name = _first("/proc/cpuinfo", "model name")
    numbers = [f"{word} {n}" for word in ("cpu family", "model") if (n := _first("/proc/cpuinfo", word)).isdigit()]
    return f"{name} ({', '.join(numbers)})" if name and numbers else name or platform.processor()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of Python and of every library that takes part and is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The short hash, with a plus where the tree has changes that are not committed; None outside git."""
    hash_ = _git("rev-parse", "--short", "HEAD")
    if not hash_:
        return None
    return hash_ + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _first(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
