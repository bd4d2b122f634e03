"""Outputs of Haiku cores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.interop import verified
from seqjax.interop.extras import needed


def outputs_of(cores: Sequence[tuple[Callable[[], Any], Mapping[str, Any]]]) -> verified.Run:
    """The outputs of cores with their parameters, layer by layer."""
    hk = needed("haiku", extra="haiku")

    def unrolled(make_core: Callable[[], Any], weights: Mapping[str, Any]) -> Any:
        core = hk.without_apply_rng(hk.transform(lambda xs, first: hk.dynamic_unroll(make_core(), xs, first)[0]))

        def run(xs: Any, state: tuple) -> Any:
            given = jax.tree.map(jnp.asarray, (dict(weights), xs, state))
            return core.apply(*given[:2], hk.LSTMState(*given[2]) if len(state) == 2 else given[2][0])

        return run

    def run(xs: Any, states: Any) -> Any:
        with jax.enable_x64(True):
            return verified.through([[unrolled(*each)] for each in cores], xs, states)

    return run
