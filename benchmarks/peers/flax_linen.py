"""Flax: linen's RNN over its fastest cells."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks.problem import Problem
from benchmarks.program import Adapter

CELLS = {"elman": "elman", "lstm": "lstm", "gru": "gru"}
MODULES = {"elman": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
GATES = {"lstm": "ifgo", "gru": "rzn"}


def adapter(row: Problem) -> Adapter:
    """One matrix a gate, in a dict."""
    dtype = jnp.dtype(row.dtype)
    model = nn.RNN(MODULES[row.cell](row.hidden_size, dtype=dtype, param_dtype=dtype), time_major=True)

    def apply(weights: Any, xs: jax.Array) -> jax.Array:
        return model.apply({"params": {"cell": weights}}, xs)

    return Adapter(lambda params: load(row.cell, params), apply, lambda weights: unload(row.cell, weights))


def load(cell: str, params: Any) -> dict:
    """Our parameters, cut into gates."""
    if cell == "elman":
        return {"i": {"kernel": params.w_x, "bias": params.b}, "h": {"kernel": params.w_h}}
    gates = GATES[cell]
    w_x, w_h, b = (dict(zip(gates, jnp.split(w, len(gates), axis=-1))) for w in params[:3])
    if cell == "lstm":
        return {f"i{g}": {"kernel": w_x[g]} for g in gates} | {f"h{g}": {"kernel": w_h[g], "bias": b[g]} for g in gates}
    weights = {f"i{g}": {"kernel": w_x[g], "bias": b[g]} for g in gates}
    weights |= {f"h{g}": {"kernel": w_h[g]} for g in gates}
    weights["hn"]["bias"] = params.b_n
    return weights


def unload(cell: str, weights: Any) -> Any:
    """Flax's weights, or their gradient, put together again."""
    if cell == "elman":
        return sj.ElmanParams(weights["i"]["kernel"], weights["h"]["kernel"], weights["i"]["bias"])

    def joined(part: str, leaf: str) -> jax.Array:
        return jnp.concatenate([weights[f"{part}{g}"][leaf] for g in GATES[cell]], axis=-1)

    w_x, w_h = joined("i", "kernel"), joined("h", "kernel")
    if cell == "lstm":
        return sj.LSTMParams(w_x, w_h, joined("h", "bias"))
    return sj.GRUParams(w_x, w_h, joined("i", "bias"), weights["hn"]["bias"])
