"""Decoding for any recurrent model, in one compiled loop: greedy, sampled, beam search, under rules, in ensembles."""

from seqjax.decoding.as_cell import as_cell, ensemble
from seqjax.decoding.beam import Hypotheses, beam_search
from seqjax.decoding.rules import Rule, forbid, no_repeat, state_machine
from seqjax.decoding.sampling import Decoded, free_run, sample

__all__ = [
    "Decoded",
    "Hypotheses",
    "Rule",
    "as_cell",
    "beam_search",
    "ensemble",
    "forbid",
    "free_run",
    "no_repeat",
    "sample",
    "state_machine",
]
