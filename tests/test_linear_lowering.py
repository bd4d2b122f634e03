"""The linear engine where the device is no CPU: what it makes there lowers, and computes what a scan does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from zoo import drawn

import seqjax as sj
from seqjax.engines.equations import jaxprs

CELLS = {
    "mingru": lambda: sj.cells.mingru(3, 8, dtype=jnp.float32),
    "lru": lambda: sj.cells.lru(3, 8, dtype=jnp.float32),
    "mlstm": lambda: sj.cells.mlstm(3, 16, heads=2, dtype=jnp.float32),
    "linear_attention": lambda: sj.cells.linear_attention(3, 16, heads=2, decay="channel", dtype=jnp.float32),
    "delta_rule": lambda: sj.cells.delta_rule(3, 16, heads=2, gated=True, dtype=jnp.float32),
}
LENGTH, B = 37, 2


@pytest.mark.parametrize("name", quick(CELLS, "lru", "mlstm"))
@pytest.mark.parametrize("platform", quick(["cuda", "tpu"], "cuda"))
def test_lowers_and_computes_what_a_scan_does(name, platform, monkeypatch):
    """Forwards too, where such a device has chunks and a CPU has ticks."""
    monkeypatch.setattr(jax, "default_backend", lambda: {"cuda": "gpu"}.get(platform, platform))
    cell = CELLS[name]()
    params = drawn(cell, scale=0.5)
    start = cell.initial_state(params, (B,))
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(LENGTH, B, 3)), jnp.float32)

    def run(engine):
        return lambda params: sj.unroll(cell, params, start, xs, engine=engine)[1]

    forwards = jax.jit(run("auto"))
    np.testing.assert_allclose(forwards(params), jax.jit(run("scan"))(params), atol=2e-5)
    states = {(*jnp.shape(s)[1:],) for s in jax.tree.leaves(start) if s.ndim > 2}
    for program in (forwards, jax.jit(jax.grad(lambda params: run("auto")(params).sum()))):
        traced = program.trace(params)
        assert traced.lower(lowering_platforms=(platform,)).as_text()
        for shape in shapes(traced.jaxpr.jaxpr):  # no matrix a tick
            assert not any(shape[0:1] == (LENGTH,) and shape[-len(s) :] == s for s in states)


def shapes(jaxpr):
    """Of every value at any depth."""
    found = set()

    def note(equation):
        found.update(v.aval.shape for v in equation.outvars)
        return False

    for equation in jaxpr.eqns:
        jaxprs.any_equation(equation, note)
    return found
