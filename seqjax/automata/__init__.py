"""Finite automata and recurrent networks: automata compiled into networks, and read back out of trained ones.

    >>> import jax, seqjax as sj
    >>> from seqjax import automata
    >>> dfa = automata.regex("(ab)*")
    >>> cell, params = automata.compile(dfa)
    >>> xs = jax.nn.one_hot(automata.encode(dfa, "abab"), 2)
    >>> sj.unroll(cell, params, cell.initial_state(params), xs)[1][-1].item()
    1.0

In order of reading:

- `DFA`: tables, `run`, `complete`, `minimise`, `equivalent`. (dfa)
- `regex`: an automaton from a regular expression. (regex)
- `compile`, `network`, and networks whose weights are set by hand: `parity`, `running_sum`, `larger_total`. (networks)
- `extract`: an automaton out of a trained network. (extraction)
"""

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
