"""What a beam may prefer beside the likeliest: that groups of it differ, that all that was read was looked at."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, PyTree
from seqjax.products import along


class Diversity(NamedTuple):
    """A beam in groups, each of which avoids what earlier ones write at the same tick.

        among what follows:  log p(w_1 … w_t) - λ Σ_{h < g} Σ_k [w_t is written in place k of group h]

    Of K places every group has K / G. The penalty decides what goes on; scores stay those of `seqjax.beam_search`. A
    sequence that several groups end with is found more than once.

    Attributes:
      groups: G, a divisor of K.
      penalty: λ ≥ 0; 0 makes all groups alike.

    References:
      Vijayakumar et al. (2018), Diverse beam search for improved description of complex scenes (Hamming diversity).
      https://arxiv.org/abs/1610.02424
    """

    groups: int
    penalty: float | Array = 0.5


class Coverage(NamedTuple):
    """What attention has left out counts against a sequence.

        score(w_1 … w_n) = Σ_t log p(w_t | …) / ((5 + n) / 6)^α + β Σ_s log min(Σ_t a_ts, 1)

    over the places s of what was read, a_ts the weight of s as w_t is written. It ranks sequences that have ended;
    unfinished ones go on by log p, and the search looks as long as one of them may still win.

    Attributes:
      weights: ``state -> [*B, S]``, the attention weights in the state behind the step that wrote the logits, such as
        ``lambda state: state.weights`` for `seqjax.models.encoder_decoder`. Another function compiles anew: make it
        once.
      penalty: β ≥ 0; Wu et al. found 0.2 best, with α = 0.2.
      mask: ``[S, *B]``, True at real places; None for all.

    References:
      Wu et al. (2016), Google's neural machine translation system. https://arxiv.org/abs/1609.08144
    """

    weights: Callable[[PyTree], Array]
    penalty: float | Array = 0.2
    mask: Array | None = None


class Preferences(NamedTuple):
    """Both, as far as they are fixed when the loop is compiled."""

    groups: int
    weights: Callable[[PyTree], Array] | None


class Strengths(NamedTuple):
    """What the compiled loop is called with: α, λ, β, and which places of the source are real."""

    length: float | Array
    diversity: float | Array
    coverage: float | Array
    mask: Array | None


def check(width: int, diversity: Diversity | None, coverage: Coverage | None, length_penalty: float | Array) -> None:
    """Refuses groups that do not divide the width, and penalties below 0."""
    named: list[tuple[str, float | Array]] = [("length_penalty", length_penalty)]
    if diversity is not None:
        checks.sizes("beam_search", groups=diversity.groups)
        if width % diversity.groups:
            raise ValueError(
                f"beam_search: expected groups that divide the width of {width}, got {diversity.groups}. Change one of "
                "them."
            )
        named.append(("diversity penalty", diversity.penalty))
    if coverage is not None:
        named.append(("coverage penalty", coverage.penalty))
    for name, value in named:
        if not isinstance(value, jax.core.Tracer) and not value >= 0:
            raise ValueError(f"beam_search: expected a {name} of at least 0, got {value!r}. Use 0 for none.")


def looked_at(weights: Callable[[PyTree], Array] | None, state: PyTree, batch: tuple[int, ...]) -> Array:
    """The attention of one tick, ``[*B, S]``; S = 0 without coverage."""
    if weights is None:
        return jnp.zeros((*batch, 0))
    found = weights(state)
    if np.shape(found)[:-1] != batch:
        raise ValueError(
            f"beam_search: expected attention weights [*batch, S] with batch {batch}, got shape {np.shape(found)}. "
            "Return those of one tick."
        )
    return found


def uncovered(covered: Array, mask: Array | None, dtype: jnp.dtype) -> Array:
    """Σ_s log min(Σ_t a_ts, 1) of ``covered [K, *B, S]``: ``[K, *B]``; the log of 0 is that of the smallest number."""
    part = jnp.log(jnp.clip(covered.astype(dtype), jnp.finfo(dtype).tiny, 1))
    if mask is not None:
        part = jnp.where(jnp.moveaxis(mask, 0, -1)[None], part, 0)
    return part.sum(-1)


def written(symbols: Array, real: Array, size: int, dtype: jnp.dtype) -> Array:
    """How often each symbol stands in a group's places, ``[*B, v]``."""
    return ((along(jnp.arange(size), symbols[..., None]) == symbols[..., None]) & real[..., None]).sum(0).astype(dtype)
