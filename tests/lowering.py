"""Programs for a CUDA device, lowered on a machine without one."""

import jax
import pytest

from seqjax.engines import pallas

# Newer JAX calls Pallas on Triton deprecated; it still lowers, which is what is asked here.
lowers = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")


def for_cuda(f, params):
    """The gradient of ``f`` as text."""
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    with pallas.target("cuda"), jax.sharding.use_abstract_mesh(mesh):
        return jax.jit(jax.grad(f)).trace(params).lower(lowering_platforms=("cuda",)).as_text()
