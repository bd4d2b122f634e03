"""Kernels, experimental: the split engine with another runner of its loops.

Forwards a loop is a tick over time, backwards the transpose of the linear tick. In ``h' = tanh(x̂ + h U)`` with h
``[B, h]`` the one kernel holds U and h, reads x̂ and writes h'; the other holds U and the cotangent of h.

In order of reading:

1. `runner`: the two kernels of a loop in the places of the split engine's two scans.
2. `normal_form`: a tick as few kinds of equations: what does not change along time taken out, calls opened.
3. `roles`: what every axis is, batch, head or feature, and the proof that batch and heads never mix. In the example the
   first axis of h is the batch, the second a feature, U a weight.
4. `places`: how arrays lie in a TPU's memory, and how many bytes that takes.
5. `mosaic`: the kernel for TPUs: time as the grid, state and weights in VMEM, tiles of the batch where `roles` allow.
6. `tpu`: the engine: a program lowered for a TPU has kernels, for anything else the scans of `split`. A loop that does
   not fit, or that Mosaic does not lower, is split's there too, and `seqjax.explain` says why.
7. `engine`, `triton/`: kernels for CUDA devices, through a backend that JAX has deprecated; parked.

Those for TPUs are tested by interpretation and by XLA's compiler for them, not timed; no device has run any of them
here. Over several devices a kernel runs inside ``jax.shard_map(..., check_vma=False)``: nobody cuts it up by itself.
JAX exports kernels for one platform at a time.

Nothing of this is imported before ``engine="pallas"`` is asked for.
"""

import jax

from seqjax.engines.base import Prepared, Problem

# What kernels are made for: None for the default backend; "tpu", "cuda" for a device that is not there; "tpu
# interpreter", and "interpreter" for CUDA's, to run them as JAX operations on any device, slowly.
target = jax.make_user_context(None)


def prepare(problem: Problem) -> Prepared:
    """Experimental: the split engine with its loops as kernels on a TPU, forwards and backwards, not timed.

    What a program is lowered for decides; elsewhere, and where a kernel does not fit, loops are those of ``"split"``.
    With a CUDA device: parked kernels for pointwise work, sums over units and products with weights.

    Raises:
      ValueError: on a CUDA device, JAX has no Triton, or a loop does not qualify; says why.
    """
    if (target.value or jax.default_backend()) not in ("gpu", "cuda", "interpreter"):
        from seqjax.engines.pallas import tpu

        return tpu.prepare(problem)
    try:
        from seqjax.engines.pallas import engine
    except ImportError as error:
        raise ValueError(
            "unroll: expected a JAX with Pallas's Triton backend for engine='pallas', got "
            f"{jax.__version__}, where {error}. Use engine='split', which computes the same."
        ) from error
    return engine.prepare(problem)
