"""Releases of jaxlib with slow loops: who is warned, and that this one has none."""

import time

import jax
import jax.numpy as jnp
import jaxlib
import pytest

import seqjax as sj
from seqjax.engines import versions


@pytest.fixture
def forget():
    """Each test's first warning is a first one."""
    versions.warn_of_slow_loops.cache_clear()
    yield
    versions.warn_of_slow_loops.cache_clear()


def test_says_who_expected_got_and_the_remedy():
    reason = versions.slow_loops("0.11.1", "cpu")
    assert reason.startswith("unroll: expected a jaxlib whose loops take time in proportion to their length")
    assert "got 0.11.1" in reason
    assert "issues/40101" in reason
    assert reason.endswith("pip install 'jaxlib!=0.11.1' 'jax!=0.11.1'")


@pytest.mark.parametrize(
    ("version", "backend"), [("0.11.1", "gpu"), ("0.11.1", "tpu"), ("0.11.0", "cpu"), ("0.11.2", "cpu")]
)
def test_others_are_left_alone(version, backend):
    assert versions.slow_loops(version, backend) is None


def test_warns_once(forget, monkeypatch):
    monkeypatch.setattr(jaxlib, "__version__", "0.11.1")
    with pytest.warns(RuntimeWarning, match=r"got 0\.11\.1"):
        versions.warn_of_slow_loops()
    versions.warn_of_slow_loops()  # a second one would be an error


def test_is_silent_with_a_good_one(forget, monkeypatch):
    monkeypatch.setattr(jaxlib, "__version__", "0.12.0")
    versions.warn_of_slow_loops()  # a warning would be an error


@pytest.mark.parametrize("engine", ["scan", "split"])
def test_cost_grows_with_the_length_and_not_with_its_square(engine):
    """One number a tick, 32 times as many ticks: 32 times the time, or 1,024 times in a quadratic loop."""
    cell = sj.elman(1, 1)
    params = cell.init(jax.random.key(0))

    @jax.jit
    def gradient(xs):
        return jax.grad(lambda p: sj.unroll(cell, p, cell.initial_state(p), xs, engine=engine, memory="all")[1].sum())(
            params
        )

    def least(ticks):
        xs = jnp.ones((ticks, 1))
        jax.block_until_ready(gradient(xs))
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            jax.block_until_ready(gradient(xs))
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    assert least(32_000) < 200 * least(1_000)
