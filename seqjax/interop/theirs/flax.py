"""Outputs of Flax modules, linen's or nnx's."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.interop.extras import needed
from seqjax.interop.layouts.flax import single_cells, tree_of
from seqjax.interop.verified import Run


def outputs_of(modules: Sequence[Any], trees: Sequence[Any]) -> Run:
    """The outputs of modules as they stand, of linen's with their parameters."""

    def run(xs: Any, states: Any) -> Any:
        left = iter(states)
        carry = lambda state: jax.tree.map(jnp.asarray, (state[1], state[0]) if len(state) == 2 else state[0])
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            ys = jnp.asarray(xs)
            for module, tree in zip(modules, trees):
                both = hasattr(module, "forward_rnn")
                first = tuple(carry(next(left)) for _ in range(1 + both))
                options = {"initial_carry": first} if both else {"initial_carry": first[0], "keep_order": True}
                ys = _called(module, tree)(ys, time_major=True, return_carry=False, **options)
            return np.asarray(ys, min((ys.dtype, *_dtypes(modules)), key=lambda dtype: jnp.finfo(dtype).bits))

    return run


def _dtypes(modules: Sequence[Any]) -> list[Any]:
    """In which modules compute, where they say it: a carry may be wider, and with it their outputs."""
    ends = [
        end for each in modules for end in (getattr(each, "forward_rnn", each), getattr(each, "backward_rnn", each))
    ]
    said = [getattr(getattr(end, "cell", end), "dtype", None) for end in ends]
    return [jnp.dtype(dtype) for dtype in said if dtype is not None]


def _called(module: Any, tree: Any) -> Callable:
    """A module as a function of inputs; a cell runs in Flax's own loop."""
    nn, nnx = (needed(f"flax.{name}", extra="flax") for name in ("linen", "nnx"))
    linen = isinstance(module, nn.Module)
    alone = module.clone(parent=None, name=None) if linen else nnx.clone(module)
    alone = alone if hasattr(module, "forward_rnn") or hasattr(module, "cell") else (nn if linen else nnx).RNN(alone)
    given = None if tree is None else jax.tree.map(jnp.asarray, tree_of(single_cells(tree)[0]))
    if linen:
        return functools.partial(alone.apply, {"params": given})
    if given is not None:
        own = nnx.state(alone, nnx.Param)
        nnx.replace_by_pure_dict(own, given)
        nnx.update(alone, own)
    return alone
