"""The one list of cells and layers that every law runs over. Adding a cell is adding one line."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

import seqjax as sj

D, H = 3, 4


class CellCase(NamedTuple):
    """A cell and the inputs it reads: ``draw(key, shape) -> xs`` with ``shape = (T, *B)``."""

    make: Callable[[], sj.Cell]
    draw: Callable = lambda key, shape: jax.random.normal(key, (*shape, D))


class LayerCase(NamedTuple):
    """A layer, the inputs it reads, and whether its output at t depends on inputs up to t only."""

    make: Callable[[], sj.Layer]
    draw: Callable = lambda key, shape: jax.random.normal(key, (*shape, D))
    causal: bool = True


CELLS: dict[str, CellCase] = {
    "elman": CellCase(lambda: sj.elman(D, H)),
    "lstm": CellCase(lambda: sj.lstm(D, H)),
    "gru_after": CellCase(lambda: sj.gru(D, H)),
    "gru_before": CellCase(lambda: sj.gru(D, H, reset="before")),
    "layer_norm_lstm": CellCase(lambda: sj.layer_norm_lstm(D, H)),
    "stack": CellCase(lambda: sj.stack(sj.lstm(D, H), sj.gru(H, 2))),
    "zoneout": CellCase(lambda: sj.zoneout(sj.lstm(D, H), sj.LSTMState(h=0.05, c=0.3))),
}

LAYERS: dict[str, LayerCase] = {}


def perturbed(params, key, scale=0.3):
    """Parameters moved off their initial values, so that zero biases and unit gains cannot hide a missing term."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves)) if leaves else []
    moved = [
        p + scale * jax.random.normal(k, p.shape, p.dtype) if jnp.issubdtype(p.dtype, jnp.inexact) else p
        for p, k in zip(leaves, keys)
    ]
    return tree.unflatten(moved)
