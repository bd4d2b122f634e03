"""Kernels, experimental: the split engine with another runner of its loops.

In order of reading:

1. `normal_form`: a tick as few kinds of equations: what does not change along time taken out, calls opened.
2. `roles`: what every axis is, batch, head or feature, and the proof that batch and heads never mix. In
   ``h' = tanh(x̂ + h U)`` with h ``[B, h]`` the first axis is the batch, the second a feature, U a weight.
3. `engine`: a loop as one kernel, and its transpose, tick by tick, as another.
4. `triton/`: what makes a kernel of such a tick on a CUDA device, through a backend that JAX has deprecated. No device
   has run it here; it is parked.

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
