"""Whether programs of a kernel meet on this device: tried once in a process, before any kernel relies on it."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.engines.grid import Grid

TICKS, BATCH, UNITS = 200, 16, 1024


@functools.cache
def failure() -> str | None:
    """What went wrong with a recurrence of 1,024 units shared out over the device; None if nothing did."""
    found: list[str | None] = ["the test on this device was cut off"]

    def run() -> None:
        try:
            found[0] = attempt()
        except Exception as error:
            found[0] = f"the test on this device failed: {type(error).__name__}: {error}"

    # A thread of its own: whoever asks may be tracing, or have settings that this test must not have.
    thread = threading.Thread(target=run, name="seqjax-selftest")
    thread.start()
    thread.join()
    return found[0]


def attempt(*, ticks: int = TICKS, batch: int = BATCH, units: int = UNITS, interpret: bool = False) -> str | None:
    """h_t = tanh(h_{t-1} U + x_t) by programs that meet, beside the same in NumPy."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(units, units)).astype(np.float32) / np.float32(units) ** 0.5
    xs = rng.normal(size=(ticks, batch, units)).astype(np.float32)
    h, expected = np.zeros((batch, units), np.float32), []
    for x in xs:
        h = np.tanh(h @ u + x)
        expected.append(h)

    def tick(values: list) -> list:
        u, h, x = values
        h = jnp.tanh(jnp.matmul(h, u, precision="highest") + x)
        return [h, h]

    types = ([jax.ShapeDtypeStruct(a.shape, a.dtype)] for a in (u, h, xs[0]))
    kernel = Grid(tick, *types)

    @jax.jit
    def run(u: jax.Array, h: jax.Array, xs: jax.Array) -> jax.Array:
        return kernel.run([u], [h], [xs], length=ticks, reverse=False, interpret=interpret)[1][0]

    found = np.asarray(run(u, np.zeros_like(h), xs))
    if not np.isfinite(found).all():
        return "programs waited in vain for each other in the test on this device"
    error = np.abs(found - np.stack(expected)).max()
    if error > 1e-2:
        return f"the test on this device was wrong by {error:.2g}"
    return None
