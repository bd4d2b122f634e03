"""Decoding for any recurrent model, in one compiled loop: greedy, sampled, beam search, under rules, in ensembles.

    >>> import jax, jax.numpy as jnp, seqjax as sj
    >>> model = sj.models.language_model(5, 8)
    >>> params = model.init(jax.random.key(0))
    >>> state, first = model.initial_state(params, (2,)), jnp.array([1, 1])
    >>> rules = (sj.forbid(5, [0]), sj.no_repeat(5, 2, 6))
    >>> sj.sample(model, params, state, first, length=6, key=jax.random.key(1), rules=rules).symbols.shape
    (6, 2)
    >>> sj.beam_search(model, params, state, first, length=6, width=3, rules=rules).symbols.shape
    (3, 6, 2)

In order of reading:

- `as_cell`, `ensemble`: what is run, one symbol at a time. (as_cell)
- `sample` draws, or takes the likeliest (sampling, on draws); `free_run` does the same for values. (free_running)
- `beam_search` keeps several (beam, on ranking and ends): in groups with `Diversity`, as `Coverage` prefers.
  (preferences)
- `ctc_beam_search` keeps several of what a recogniser heard, with a language model: a `Fusion`. (ctc)
- `forbid`, `state_machine`, `no_repeat`: what may come next. (rules)

What all of them ask of their arguments is in one place. (problem)
"""

from seqjax.decoding.as_cell import as_cell, ensemble
from seqjax.decoding.beam import Hypotheses, beam_search
from seqjax.decoding.ctc import Fusion, ctc_beam_search
from seqjax.decoding.free_running import free_run
from seqjax.decoding.preferences import Coverage, Diversity
from seqjax.decoding.rules import Rule, forbid, no_repeat, state_machine
from seqjax.decoding.sampling import Decoded, sample

__all__ = [
    "Coverage",
    "Decoded",
    "Diversity",
    "Fusion",
    "Hypotheses",
    "Rule",
    "as_cell",
    "beam_search",
    "ctc_beam_search",
    "ensemble",
    "forbid",
    "free_run",
    "no_repeat",
    "sample",
    "state_machine",
]
