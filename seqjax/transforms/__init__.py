"""Transforms: a cell in, a cell out. What they return is run, stored and stacked like any other cell.

    >>> import jax, jax.numpy as jnp, seqjax as sj
    >>> from seqjax import transforms
    >>> cell = transforms.stack(
    ...     transforms.zoneout(sj.lstm(3, 4), 0.1),
    ...     transforms.residual(transforms.learned_initial_state(sj.gru(4, 4))),
    ... )
    >>> params = cell.init(jax.random.key(0))
    >>> state = cell.initial_state(params, (2,), key=jax.random.key(1))
    >>> state, ys = sj.unroll(cell, params, state, jnp.ones((5, 2, 3)))
    >>> ys.shape
    (5, 2, 4)

In order of reading:

- `stack`, `skip_stack`, `residual`: cells on top of each other. (compose)
- `memoryless`: a function in a stack. (functions)
- `learned_initial_state`, `random_initial_state`, `first_bias`: what a recurrence starts from. (initial_states)
- `variational_dropout`, `recurrent_dropout`, `zoneout`, `weight_drop`: regularisers; their randomness is part of the
  state. `example_keys`: a key for each place in the batch, on however many devices. (regularizers, on noise)
- `with_states`, `perturbed`: looking into a recurrence. (trajectory)

The regularisers that change the middle of a step, and `perturbed`, read its jaxpr. (replay)
"""

from seqjax.transforms.compose import residual, skip_stack, stack
from seqjax.transforms.functions import memoryless
from seqjax.transforms.initial_states import (
    FirstBiasParams,
    FirstBiasState,
    LearnedInitialStateParams,
    first_bias,
    learned_initial_state,
    random_initial_state,
)
from seqjax.transforms.noise import example_keys
from seqjax.transforms.regularizers import recurrent_dropout, variational_dropout, weight_drop, zoneout
from seqjax.transforms.trajectory import perturbed, with_states, zero_perturbation

__all__ = [
    "FirstBiasParams",
    "FirstBiasState",
    "LearnedInitialStateParams",
    "example_keys",
    "first_bias",
    "learned_initial_state",
    "memoryless",
    "perturbed",
    "random_initial_state",
    "recurrent_dropout",
    "residual",
    "skip_stack",
    "stack",
    "variational_dropout",
    "weight_drop",
    "with_states",
    "zero_perturbation",
    "zoneout",
]
