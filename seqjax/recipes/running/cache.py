"""Programs that a command compiled are kept on disk: its next start finds them there and compiles nothing.

JAX keeps them, in the folder that JAX_COMPILATION_CACHE_DIR names or else in one of the user's, such as
``~/.cache/seqjax/programs-4f1a…``; with JAX_ENABLE_COMPILATION_CACHE=false there is none. Its key is all that decides
a program (equations, shapes, versions, XLA's flags) but the processor, whose instructions are in it: a home folder may
be shared by machines, and each kind has a folder. Whatever happens to it costs time and nothing else.

References:
  https://docs.jax.dev/en/latest/persistent_compilation_cache.html
"""

import contextlib
import hashlib
import os
import platform
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jaxlib

LIMIT = 2**29  # bytes; the programs of a command take about one megabyte
REFUSED = "refused"  # a file that says which jaxlib does not take back what it wrote on this machine
TROUBLE = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)", re.DOTALL)


def use() -> None:
    """Keeps what is compiled from now on; to be called in a process of one's own, before JAX computes anything."""
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # many small ones take most of the time
    chosen: Any = jax.config
    if chosen.jax_compilation_cache_dir or not chosen.jax_enable_compilation_cache:
        return
    with contextlib.suppress(OSError, RuntimeError):  # no home, or none that can be written: compiled each time
        folder = folder_of(os.environ, sys.platform) / f"programs-{machine()}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        refused = folder / REFUSED
        if own(folder) and not (refused.exists() and refused.read_text("utf-8") == jaxlib.__version__):
            trim(folder)
            listen(folder)
            jax.config.update("jax_compilation_cache_dir", str(folder))


def folder_of(environment: Mapping[str, str], system: str) -> Path:
    """Where this system keeps what a program can make again.

    >>> folder_of({"XDG_CACHE_HOME": "/var/cache/ann"}, "linux").as_posix()
    '/var/cache/ann/seqjax'
    """
    chosen = environment.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        base = Path(chosen)
    elif system == "win32" and "LOCALAPPDATA" in environment:
        base = Path(environment["LOCALAPPDATA"])
    else:
        base = Path.home() / ("Library/Caches" if system == "darwin" else ".cache")
    return base / "seqjax"


def machine() -> str:
    """The processor by its instructions, or the machine by its name where these are not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0].splitlines()
        told = [line for line in lines if re.match(r"model name|flags|Features|CPU (part|implementer)", line)]
    except OSError:
        told = []
    return hashlib.sha256(repr((platform.machine(), told or platform.node())).encode()).hexdigest()[:12]


def own(folder: Path) -> bool:
    """Whether it is this user's: what is in it will be executed."""
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()


def trim(folder: Path, limit: int = LIMIT) -> None:
    """Removes the oldest programs of more than a number of bytes."""
    found = [(path, path.stat()) for path in folder.glob("*-cache")]
    for path, stat in sorted(found, key=lambda pair: pair[1].st_mtime, reverse=True):
        limit -= stat.st_size
        if limit < 0:
            path.unlink(missing_ok=True)


def listen(folder: Path) -> None:
    """Has JAX's warnings about the cache mended instead of shown."""
    show = warnings.showwarning

    def shown(message: Any, *rest: Any, **more: Any) -> None:
        trouble = TROUBLE.match(str(message))
        if trouble is None:
            show(message, *rest, **more)
            return
        with contextlib.suppress(OSError):
            mend(folder, *trouble.groups())

    warnings.filterwarnings("always", message="Error (reading|writing) persistent compilation cache entry")
    warnings.showwarning = shown


def mend(folder: Path, doing: str, program: str, error: str) -> None:
    """Removes a program that was torn by a full disk or an end in the middle; JAX writes over none.

    What XLA itself refuses to load it will refuse again: some versions do so on processors whose features they do not
    know themselves by.
    """
    for path in folder.glob(f"{program}-*-cache"):
        path.unlink(missing_ok=True)
    if doing == "reading" and "RuntimeError" in error.split(":")[0]:
        (folder / REFUSED).write_text(jaxlib.__version__, "utf-8")
