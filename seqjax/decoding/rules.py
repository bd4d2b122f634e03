"""Rules: which symbols may come next. A rule is a cell over symbols whose output is a mask ``[*B, V]``.

A rule first reads the symbol that decoding starts from, then every symbol chosen. Rules decide what may be
chosen; scores stay the model's own log-probabilities.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.products import along
from seqjax.records import maker


class Rule(NamedTuple):
    """A cell that reads the last symbol ``[*B]`` and returns the mask ``[*B, V]`` of those allowed next."""

    cell: Cell
    params: PyTree


def forbid(vocabulary_size: int, symbols: Sequence[int]) -> Rule:
    """Some symbols may never come, ``<unk>`` for instance.

    Raises:
      ValueError: a symbol outside the vocabulary, or none left.

    Example:
      >>> rule = forbid(4, [0, 2])
      >>> rule.cell.step(rule.params, (), jnp.array(1))[1].tolist()
      [False, True, False, True]
    """
    checks.sizes("forbid", vocabulary_size=vocabulary_size)
    if any(not 0 <= symbol < vocabulary_size for symbol in symbols):
        raise ValueError(
            f"forbid: expected symbols from 0 to {vocabulary_size - 1}, got {list(symbols)}. "
            "Give numbers of the vocabulary."
        )
    allowed = np.ones(vocabulary_size, bool)
    allowed[list(symbols)] = False
    if not allowed.any():
        raise ValueError("forbid: expected at least one symbol to stay, got all forbidden. Forbid fewer.")
    return Rule(_forbidding(), jnp.asarray(allowed))


def _forbid_step(allowed: Array, state: tuple, symbol: Array) -> tuple[tuple, Array]:
    return state, jnp.broadcast_to(allowed, (*symbol.shape, *allowed.shape))


@maker
def _forbidding() -> Cell:
    return Cell(lambda key: (), lambda params, batch_shape=(), *, key=None: (), _forbid_step)


def state_machine(table: np.ndarray) -> Rule:
    """A finite automaton says what may come.

    The first state is state 0. Symbol w is allowed in state s if ``table[s, w]`` is a state, and leads there;
    -1 forbids it. To let sequences end in some states only, allow ``<eos>`` there only.

    Args:
      table: ``[S, V]`` of integers, the next state or -1.

    Returns:
      The rule.

    Raises:
      ValueError: a table of another shape, or with states that do not exist.

    Example:
      >>> rule = state_machine(np.array([[0, 1], [0, -1]]))
      >>> state, _ = rule.cell.step(rule.params, rule.cell.initial_state(rule.params), jnp.array(0))  # the start
      >>> rule.cell.step(rule.params, state, jnp.array(1))[1].tolist()
      [True, False]
    """
    table = np.asarray(table)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer) or table.min() < -1 or table.max() >= len(table):
        raise ValueError(
            f"state_machine: expected a table [states, symbols] of states from -1 to {len(table) - 1}, got "
            f"{table.dtype} {table.shape}. Use -1 where a symbol is forbidden."
        )
    return Rule(_machine(), jnp.asarray(table, jnp.int32))


def _machine_step(table: Array, state: Array, symbol: Array) -> tuple[Array, Array]:
    state = jnp.where(state < 0, 0, jnp.maximum(table[state, symbol], 0))
    return state, table[state] >= 0


@maker
def _machine() -> Cell:
    def initial_state(params: Array, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> Array:
        return jnp.full(batch_shape, -1, jnp.int32)

    return Cell(lambda key: (), initial_state, _machine_step)


class History(NamedTuple):
    """``symbols [*B, n]`` read so far and their number ``length [*B]``."""

    symbols: Array
    length: Array


def no_repeat(vocabulary_size: int, n: int, length: int) -> Rule:
    """No sequence of ``n`` symbols may come twice, the symbol that decoding starts from included.

    Args:
      vocabulary_size: V.
      n: 1 allows every symbol once.
      length: how many symbols are decoded at most.

    Returns:
      The rule, whose state keeps all symbols so far.

    Raises:
      ValueError: a size below 1.

    Example:
      >>> rule = no_repeat(3, 1, 5)
      >>> rule.cell.step(rule.params, rule.cell.initial_state(rule.params), jnp.array(1))[1].tolist()
      [True, False, True]
    """
    checks.sizes("no_repeat", vocabulary_size=vocabulary_size, n=n, length=length)
    return Rule(_history(vocabulary_size, n, length + 1), ())


@maker
def _history(vocabulary_size: int, n: int, size: int) -> Cell[tuple, History]:
    """What `no_repeat` runs; ``size`` symbols are read at most."""

    def initial_state(params: tuple, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> History:
        return History(jnp.full((*batch_shape, size), -1, jnp.int32), jnp.zeros(batch_shape, jnp.int32))

    def step(params: tuple, state: History, symbol: Array) -> tuple[History, Array]:
        length = state.length[..., None]
        here = along(jnp.arange(size), length) == length
        symbols = jnp.where(here, symbol[..., None].astype(jnp.int32), state.symbols)
        read = state.length + 1
        if n > size:
            return History(symbols, read), jnp.ones((*symbol.shape, vocabulary_size), bool)
        seen = along(jnp.arange(n, size + 1), length) <= read[..., None]
        for i in range(n - 1):
            tail = jnp.take_along_axis(symbols, jnp.maximum(read - (n - 1) + i, 0)[..., None], -1)
            seen &= symbols[..., i : i + size - n + 1] == tail
        last = jnp.where(seen, symbols[..., n - 1 :], vocabulary_size)
        allowed = jnp.ones((*symbol.shape, vocabulary_size + 1), bool)
        ban = jnp.vectorize(lambda allowed, last: allowed.at[last].set(False), signature="(v),(k)->(v)")
        return History(symbols, read), ban(allowed, last)[..., :-1]

    return Cell(lambda key: (), initial_state, step)
