"""States of layers: put together from others', part by part, and taken apart for them."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.base import Cell, Layer, PyTree, without_noise
from seqjax.cells.states import LSTMState
from seqjax.interop.rows import as_nested, made_by, taken_apart
from seqjax.layers import BidirectionalEnds, BidirectionalState, bidirectional, dropout, recurrent, serial
from seqjax.products import accumulator
from seqjax.transforms import stack


def cells_of(layer: Cell | Layer) -> list[Cell]:
    """The cells of a layer, in the order of its rows and directions."""
    params = jax.eval_shape(layer.init, jax.random.key(0))
    return [part.cell for row in taken_apart("state", layer, params) for part in row]


def state_built(who: str, layer: Cell | Layer, parts: Sequence[tuple]) -> PyTree:
    """A layer's state of each part's ``(h,)`` or ``(h, c)``; in two directions both readers start from theirs.

    Raises:
      ValueError: another number of parts, another size, or a memory c that is missing or not wanted.
    """
    cells = cells_of(layer)
    if len(parts) != len(cells):
        raise ValueError(
            f"{who}: expected a state for each of {len(cells)} layers and directions of {layer}, got {len(parts)}. "
            "Stack them: layer by layer, forward before backward."
        )
    return _built(layer, iter([_cell_state(who, cell, *part) for cell, part in zip(cells, parts)]))


def _cell_state(who: str, cell: Cell, h: Any, c: Any = None) -> PyTree:
    rest = jax.eval_shape(lambda key: cell.initial_state(cell.init(key)), jax.random.key(0))
    two = isinstance(rest, LSTMState)
    if two != (c is not None):
        got = "one with c0" if c is not None else "none"
        raise ValueError(
            f"{who}: expected {'h0 and c0 for' if two else 'h0 alone for'} {cell}, got {got}. "
            f"{'Pass both.' if two else 'Leave c0 out.'}"
        )
    state = jax.tree.map(_wide, LSTMState(h, c) if two else h)
    for name, found, wanted in zip("hc", jax.tree.leaves(state), jax.tree.leaves(rest)):
        if np.shape(found)[-1:] != wanted.shape:
            raise ValueError(
                f"{who}: expected {name}0 of size {wanted.shape[-1]} for {cell}, got shape {np.shape(found)}. "
                "Pass states of this layer, features last."
            )
    return state


def _wide(s: Any) -> Any:
    """States are kept in float32 or wider."""
    return s.astype(accumulator(s.dtype)) if hasattr(s, "dtype") else np.asarray(s)


def _built(module: Cell | Layer, states: Iterator) -> PyTree:
    maker, options = made_by("state", module)
    if maker in (serial, stack):
        return tuple(_built(one, states) for one in options["layers" if maker is serial else "cells"])
    if maker is dropout:
        return ()
    if maker is recurrent:
        return _built(options["cell"], states)
    if maker is bidirectional:
        forward, backward = (_built(options[name], states) for name in ("forward", "backward"))
        if options["keep_backward"]:
            return BidirectionalEnds(forward, backward, without_noise(backward))
        return BidirectionalState(forward, backward)
    return next(states)


def state_parts(who: str, layer: Cell | Layer, state: PyTree) -> list[tuple]:
    """Each part's ``(h,)`` or ``(h, c)`` of a layer's state; the inverse of `state_built`.

    Raises:
      ValueError: a state in two directions that holds the forward one alone.
    """
    maker, options = made_by(who, layer)
    if maker in (serial, stack):
        inner = options["layers" if maker is serial else "cells"]
        return [part for one, s in zip(inner, state) for part in state_parts(who, one, s)]
    if maker is dropout:
        return []
    if maker is recurrent:
        return state_parts(who, options["cell"], state)
    if maker is bidirectional:
        kept = getattr(state, "backward", None)  # the last one, where the layer keeps it
        backward = kept if jax.tree.leaves(kept) else state.noise
        if not jax.tree.leaves(backward):
            raise ValueError(
                f"{who}: expected a state of both readers of {layer}, got the forward one alone. "
                "Keep the backward one, bidirectional(…, keep_backward=True), or give it: state.with_backward(…)."
            )
        return state_parts(who, options["forward"], state.forward) + state_parts(who, options["backward"], backward)
    return [tuple(state) if isinstance(state, LSTMState) else (state,)]


def state_nested(who: str, layer: Cell | Layer, h0: Any, c0: Any, carry: Any) -> PyTree:
    """`state_built` of states nested like weights; ``carry`` makes ``(h, c)`` of what an LSTM carries, c0 not given."""
    params = jax.eval_shape(layer.init, jax.random.key(0))
    rows = taken_apart(who, layer, params)

    def flat(values: Any) -> list[Any]:
        if len(rows) == 1:
            values = [values]
        if len(values) != len(rows):
            raise ValueError(
                f"{who}: expected states of {len(rows)} layers, got {len(values)}. Pass a list, one a layer."
            )
        return [part for row, value in zip(rows, values) for part in ([value] if len(row) == 1 else value)]

    if c0 is not None:
        return state_built(who, layer, list(zip(flat(h0), flat(c0))))
    return state_built(who, layer, [carry(part) if isinstance(part, list | tuple) else (part,) for part in flat(h0)])


def state_as_nested(who: str, layer: Cell | Layer, state: PyTree, carry: Any) -> Any:
    """`state_parts` nested like weights; ``carry`` makes of ``h, c`` what an LSTM carries elsewhere."""
    parts = iter([part[0] if len(part) == 1 else carry(*part) for part in state_parts(who, layer, state)])
    rows = taken_apart(who, layer, jax.eval_shape(layer.init, jax.random.key(0)))
    return as_nested([[next(parts) for _ in row] for row in rows])


def stacked_from(who: str, layer: Cell | Layer, h0: Any, c0: Any) -> PyTree:
    """`state_built` of states stacked along a first axis, layer by layer, forward before backward."""
    given = [each.detach().cpu().numpy() if hasattr(each, "detach") else each for each in (h0, c0) if each is not None]
    return state_built(who, layer, list(zip(*given)))


def stacked_to(who: str, layer: Cell | Layer, state: PyTree) -> Any:
    """`state_parts` stacked along a first axis: h, or ``(h, c)``."""
    stacked = [np.stack([np.asarray(each) for each in part]) for part in zip(*state_parts(who, layer, state))]
    return stacked[0] if len(stacked) == 1 else tuple(stacked)
