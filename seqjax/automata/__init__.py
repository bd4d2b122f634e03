"""Finite automata and recurrent networks: automata compiled into networks, and read back out of trained ones."""

from seqjax.automata.dfa import DFA, complete, encode, equivalent, minimise, run, table
from seqjax.automata.extraction import Extraction, extract
from seqjax.automata.networks import (
    NetworkParams,
    compile,
    larger_total,
    network,
    parity,
    running_sum,
    threshold,
    weights,
)
from seqjax.automata.regex import regex

__all__ = [
    "DFA",
    "Extraction",
    "NetworkParams",
    "compile",
    "complete",
    "encode",
    "equivalent",
    "extract",
    "larger_total",
    "minimise",
    "network",
    "parity",
    "regex",
    "run",
    "running_sum",
    "table",
    "threshold",
    "weights",
]
