"""What a program is planned for, and the rules that follow from it; on a CPU they are those that were measured."""

import jax
import jax.numpy as jnp
import pytest
from lowering import planned_for
from marks import quick

import seqjax as sj
from seqjax.engines import platforms

CPU = jax.devices("cpu")[0]


def explained(cell, length=1024, batch=4, **options):
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: cell.initial_state(params, (batch,)), params)
    return sj.explain(cell, params, state, jax.ShapeDtypeStruct((length, batch, 8), jnp.float32), **options)


def test_the_mesh_in_use_says_what_for_then_the_default_device_then_the_backend(monkeypatch):
    assert platforms.planned() is platforms.CPU
    for platform, rules in (("cuda", platforms.GPU), ("tpu", platforms.TPU)):
        with planned_for(platform):
            assert platforms.planned() is rules
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert platforms.planned() is platforms.TPU
    for device in (CPU, "cpu"):
        with jax.default_device(device):
            assert platforms.planned() is platforms.CPU
    with jax.set_mesh(jax.make_mesh((1,), ("batch",))):
        assert platforms.planned() is platforms.CPU


def test_a_platform_that_is_not_known_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "metal")
    assert platforms.planned() == platforms.GPU._replace(name="metal")
    assert "rules for metal are estimates" in str(explained(sj.lstm(8, 128, dtype="float32")))


@pytest.mark.parametrize("engine", quick(["auto", "split"], "auto"))
def test_rules_that_nothing_measured_say_so(engine):
    cell = sj.lstm(8, 128, dtype="float32")
    assert "estimates" not in str(explained(cell, engine=engine))
    for platform, said in (("cuda", "gpu"), ("tpu", "tpu")):
        with planned_for(platform):
            why = explained(cell, engine=engine).why
            assert why[-1] == f"rules for {said} are estimates, measured nowhere: seqjax.tune measures"
            assert explained(cell, engine="scan").why == ("all activations kept",)


def test_chunks_follow_the_platform():
    """Stacked a tick: x̂ of 4 × 128 numbers, i, f, g, o counted as they are read later, h and c: 4 (512 + 256) B."""
    cell = sj.lstm(8, 128, dtype="float32")
    chunks = {"cpu": explained(cell, batch=16).chunk}
    for platform in ("cuda", "tpu"):
        with planned_for(platform):
            chunks[platform] = explained(cell, batch=16).chunk
    stacked = 4 * 16 * (4 * 128 + 2 * 128)
    target = {"cpu": max(8, 2**21 // stacked), "cuda": 2**24 // stacked, "tpu": 2**22 // stacked}
    assert target == {"cpu": 42, "cuda": 341, "tpu": 85}
    for platform, chunk in chunks.items():
        assert 1024 % chunk == 0
        assert target[platform] / 2 <= chunk <= 2 * target[platform], (platform, chunk)
    with planned_for("tpu"):
        assert explained(cell, batch=4096, memory="all").chunk == 16


def test_forward_passes_leave_the_loop_where_launches_cost():
    """A product of 8 × 8 weights, 256 bytes, is not worth storing its results on a CPU; on a GPU it is a launch."""
    cell = sj.elman(8, 8, dtype="float32")
    assert explained(cell, batch=64).forwards
    with planned_for("cuda"):
        assert not explained(cell, batch=64).forwards
    with planned_for("tpu"):  # bytes alone count there
        assert explained(cell, batch=64).forwards
