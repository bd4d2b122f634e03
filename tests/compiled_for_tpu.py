"""Compiles a gradient of every cell for a TPU that is not there: by libtpu, from the description of its chips.

python tests/compiled_for_tpu.py v5e:2x2 pallas [CELL …]    # needs libtpu, 200 MB: pip install libtpu

Prints a line a cell: the kernels in its program, and bytes of temporaries.
"""

import os
import sys

os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu"}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import seqjax as sj
from seqjax.cells.registry import REGISTRY

T, B, UNITS, FEW = 64, 8, 64, 16


def compiled(name: str, engine: str, device: object) -> tuple[int, int]:
    """Kernels, and bytes of temporaries."""
    entry = REGISTRY[name]
    inputs = FEW if entry.input_size == 3 else UNITS
    cell, place = entry.sized(inputs, UNITS), NamedSharding(Mesh(np.array([device]), ("x",)), PartitionSpec())

    def there(tree):
        kind = lambda v: jnp.float32 if v.dtype == jnp.float64 else v.dtype
        return jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, kind(v), sharding=place), tree)

    def loss(params, state, xs):
        ys = sj.unroll(cell, params, state, xs, engine=engine)[1]
        return sum((jnp.abs(y) ** 2).sum() for y in jax.tree.leaves(ys))

    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (B,))
    xs = jax.ShapeDtypeStruct((T, B, *entry.sizes.get("shape", ()), inputs), jnp.float32)
    run = jax.jit(jax.value_and_grad(loss, allow_int=True))
    lowered = run.trace(*map(there, (params, state, xs))).lower(lowering_platforms=("tpu",))
    return lowered.as_text().count("tpu_custom_call"), lowered.compile().memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    topology, engine, *names = sys.argv[1:]
    device = topologies.get_topology_desc(topology, platform="tpu").devices[0]
    for name in names or REGISTRY:
        print(name, *compiled(name, engine, device), flush=True)
