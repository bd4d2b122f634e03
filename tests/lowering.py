"""Programs for a device that is not there, lowered on a CPU."""

import contextlib

import jax
import pytest

from seqjax.engines import pallas

# Newer JAX calls Pallas on Triton deprecated; it still lowers, which is what is asked here.
lowers = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
KINDS = {"cpu": ("cpu", "cpu"), "cuda": ("gpu", "NVIDIA H100 80GB HBM3"), "tpu": ("tpu", "TPU v5 lite")}


@contextlib.contextmanager
def planned_for(platform):
    """While it lasts, what is traced is planned for a device of this platform."""
    name, kind = KINDS[platform]
    device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=None, platform=name)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device)):
        yield


def for_cuda(f, params):
    """The gradient of ``f`` as text."""
    with pallas.target("cuda"), planned_for("cuda"):
        return jax.jit(jax.grad(f)).trace(params).lower(lowering_platforms=("cuda",)).as_text()
