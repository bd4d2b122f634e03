"""Releases of jaxlib in which recurrences are slow for a known reason, and a warning where one is met."""

import functools
import warnings

import jax
import jaxlib

# Found by timing a scan with small outputs at T = 10,000 and 40,000 on jaxlib 0.10.2, 0.11.0, 0.11.1, 0.11.2,
# 0.12.0 and 0.12.0.1: 16 to 22 times the time in 0.11.1, about 4 times in the others.
QUADRATIC_LOOPS = ("0.11.1",)


def slow_loops(version: str, backend: str) -> str | None:
    """Why loops are slow in this jaxlib on this backend, and the remedy; None where nothing is known.

    >>> slow_loops("0.11.1", "gpu"), slow_loops("0.11.2", "cpu")
    (None, None)
    """
    if backend != "cpu" or version not in QUADRATIC_LOOPS:
        return None
    return (
        f"unroll: expected a jaxlib whose loops take time in proportion to their length, got {version}: on a "
        "CPU they copy a whole stacked output at every tick that writes less than some 250 to 500 bytes of it "
        "(https://github.com/jax-ml/jax/issues/40101). Install another one: "
        "python -m pip install 'jaxlib!=0.11.1' 'jax!=0.11.1'"
    )


@functools.cache
def warn_of_slow_loops() -> None:
    """Warns once in a process, if the default backend and the installed jaxlib call for it."""
    reason = slow_loops(jaxlib.__version__, jax.default_backend())
    if reason is not None:
        warnings.warn(reason, RuntimeWarning, stacklevel=3)
