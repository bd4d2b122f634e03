"""Deterministic finite automata as tables, in NumPy."""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np


class DFA(NamedTuple):
    """A deterministic finite automaton: from state q, symbol a leads to ``transition[q, a]``.

    Attributes:
      transition: ``[Q, V]`` of int.
      accepting: ``[Q]`` of bool.
      start: the state before the first symbol.
      alphabet: the V symbols, in the order of the table's columns.
    """

    transition: np.ndarray
    accepting: np.ndarray
    start: int
    alphabet: tuple[Hashable, ...]


def table(
    transition: Sequence[Sequence[int]],
    accepting: Sequence[int],
    *,
    start: int = 0,
    alphabet: Sequence[Hashable] | None = None,
) -> DFA:
    """An automaton from its table.

    Args:
      transition: for each state the next state on each symbol, ``[Q, V]``.
      accepting: the accepting states, by number.
      start: the state before the first symbol.
      alphabet: the V symbols; 0 … V-1 if None.

    Returns:
      The automaton.

    Raises:
      ValueError: a transition is missing or leads nowhere, or states and symbols do not match the table.

    Example:
      An even number of b's:

      >>> from seqjax import automata
      >>> even = automata.table([[0, 1], [1, 0]], accepting=[0], alphabet="ab")
      >>> even.accepting[automata.run(even, "abba")].tolist()
      [True, False, True, True]
    """
    rows = [list(row) for row in transition]
    width = max((len(row) for row in rows), default=0)
    if not width:
        raise ValueError(
            "table: expected at least one state and one symbol, got an empty table. Give every state a row."
        )
    symbols = tuple(range(width)) if alphabet is None else tuple(alphabet)
    if len(set(symbols)) != len(symbols) or len(symbols) < width:
        raise ValueError(
            f"table: expected {width} different symbols, got {alphabet!r}. Name each column of the table once."
        )
    for q, row in enumerate(rows):
        for a, symbol in enumerate(symbols):
            target = row[a] if a < len(row) else None
            if target is None:
                raise ValueError(
                    f"table: expected a transition from state {q} on {symbol!r}, got none. "
                    "Add it, or call complete to send what is missing to a dead state."
                )
            _check_state("table", f"the transition from state {q} on {symbol!r}", target, len(rows))
    _check_state("table", "start", start, len(rows))
    for q in accepting:
        _check_state("table", "every accepting state", q, len(rows))
    flags = np.zeros(len(rows), bool)
    flags[list(accepting)] = True
    return DFA(np.array(rows, np.int32), flags, int(start), symbols)


def complete(transition: Sequence[Sequence[int | None]], symbols: int | None = None) -> list[list[int]]:
    """The rows of a table with every missing transition (None, or a row too short) sent to a new, dead state.

    Args:
      transition: rows of ``table``, with gaps.
      symbols: V; the longest row if None.

    Returns:
      Rows without gaps, one more if there were any.

    Example:
      >>> from seqjax import automata
      >>> automata.complete([[1, None], [0]])
      [[1, 2], [0, 2], [2, 2]]
    """
    width = symbols or max(len(row) for row in transition)
    dead = len(transition)
    rows = [[dead if q is None else q for q in [*row, *[None] * (width - len(row))]] for row in transition]
    return [*rows, [dead] * width] if any(dead in row for row in rows) else rows


def encode(dfa: DFA, string: Sequence[Hashable]) -> np.ndarray:
    """The column ``[T]`` of each symbol of a string.

    Raises:
      ValueError: a symbol is not in the alphabet.
    """
    columns = {symbol: a for a, symbol in enumerate(dfa.alphabet)}
    for t, symbol in enumerate(string):
        if symbol not in columns:
            listed = ", ".join(map(repr, dfa.alphabet))
            raise ValueError(
                f"encode: expected symbols out of {listed}, got {symbol!r} at position {t}. "
                "Leave it out, or build the automaton over a larger alphabet."
            )
    return np.array([columns[symbol] for symbol in string], np.int32)


def run(dfa: DFA, string: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """The state after each symbol, by table look-up.

    Args:
      dfa: the automaton.
      string: symbols of the alphabet, or an integer array ``[T, *B]`` of their columns.

    Returns:
      States, shaped like the columns.

    Raises:
      ValueError: a symbol that is not in the alphabet, or an array that does not hold columns.
    """
    columns = string if isinstance(string, np.ndarray) else encode(dfa, string)
    symbols = len(dfa.alphabet)
    if columns.size and not (columns.dtype.kind in "iu" and 0 <= columns.min() <= columns.max() < symbols):
        raise ValueError(
            f"run: expected columns of the table as whole numbers from 0 to {symbols - 1}, got {columns.dtype} from "
            f"{columns.min()} to {columns.max()}. Call encode to turn symbols into columns."
        )
    state = np.full(columns.shape[1:], dfa.start, np.int32)
    states = np.empty(columns.shape, np.int32)
    for t, column in enumerate(columns):
        states[t] = state = dfa.transition[state, column]
    return states


def minimise(dfa: DFA) -> DFA:
    """The smallest automaton of the same language, its states numbered in the order in which the strings reach them.

    Unreachable states go, then states that no string tells apart merge (Moore's refinement). Two automata have the
    same language exactly if their minimal ones are equal.

    References:
      Moore (1956), Gedanken-experiments on sequential machines.
    """
    block = dfa.accepting.astype(np.int64)
    while True:
        refined = block
        for successor in dfa.transition.T:
            refined = np.unique(refined * len(block) + block[successor], return_inverse=True)[1]
        if refined.max() == block.max():
            break
        block = refined
    order = {block[dfa.start]: 0}
    queue, rows, accepting = deque([dfa.start]), [], []
    while queue:
        q = queue.popleft()
        for target in dfa.transition[q]:
            if block[target] not in order:
                order[block[target]] = len(order)
                queue.append(target)
        rows.append([order[block[target]] for target in dfa.transition[q]])
        accepting.append(dfa.accepting[q])
    return DFA(np.array(rows, np.int32), np.array(accepting, bool), 0, dfa.alphabet)


def equivalent(a: DFA, b: DFA, *, empty: bool = True) -> bool:
    """Whether two automata over the same alphabet accept the same strings.

    Args:
      a: one automaton.
      b: the other.
      empty: whether the empty string counts; a network that answers after each symbol says nothing about it.

    Raises:
      ValueError: different alphabets.
    """
    if a.alphabet != b.alphabet:
        raise ValueError(
            f"equivalent: expected automata over one alphabet, got {a.alphabet} and {b.alphabet}. Rename the symbols."
        )
    a, b = (minimise(dfa if empty else _start_apart(dfa)) for dfa in (a, b))
    return np.array_equal(a.transition, b.transition) and np.array_equal(a.accepting, b.accepting)


def _start_apart(dfa: DFA) -> DFA:
    """The same automaton but for the empty string, which it rejects."""
    transition = np.concatenate([dfa.transition, dfa.transition[[dfa.start]]])
    return dfa._replace(transition=transition, accepting=np.append(dfa.accepting, False), start=len(dfa.accepting))


def _check_state(who: str, name: str, state: int, states: int) -> None:
    if not isinstance(state, (int, np.integer)) or isinstance(state, bool) or not 0 <= state < states:
        raise ValueError(
            f"{who}: expected {name} to be a state from 0 to {states - 1}, got {state!r}. Number the states by row."
        )
