"""Causal self-attention over the last ticks, in chunks or one tick at a time: what a recurrence is measured against."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers, masks, symbolic
from seqjax.base import Array, Layer
from seqjax.initializers import Initializer
from seqjax.layers import ring
from seqjax.products import accumulator, dot
from seqjax.records import maker

# Queries are taken in blocks of as many as the window, and of no fewer than this.
FEWEST = 128


class AttentionParams(NamedTuple):
    """``w_x [d, (n + 2m) k]``: queries of n heads, keys of m, values of m, k numbers each; ``w_out [n k, d]``."""

    w_x: Array
    w_out: Array


class AttentionState(NamedTuple):
    """A ring of the last keys and values ``[*B, W - 1, 2 m k]``, the next one's place and how many there are ``[*B]``.

    Keys are kept as they are: the rotation depends on how far back they lie when they are looked at.
    """

    ring: Array
    place: Array
    filled: Array


@maker
def windowed_attention(
    size: int,
    heads: int,
    window: int,
    *,
    kv_heads: int | None = None,
    rotary: bool = True,
    w_init: Initializer = initializers.input_weights,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Layer[AttentionParams, AttentionState]:
    """Every tick looks at itself and at those just before it.

        q_t = x_t W_q       k_t = x_t W_k       v_t = x_t W_v                             for each head
        e_tj = (R^j q_t) · k_{t-j} / √k         α_t = softmax(e_t)                        j = 0 … W-1
        y_t = [Σ_j α_tj v_{t-j}] W_o                                                      all heads side by side

    R turns the i-th pair of numbers by the angle 10000^{-2i/k}, so that a score depends on how far back a tick is, and
    not on when it was. A masked tick is absent: it takes no place in the window. No tick looks back over a reset.

    The state holds the last W - 1 keys and values. A chunk of T ticks is taken in blocks of B = max(W, 128) queries
    against W + B keys: time T W, memory of one block, backwards too. The softmax is taken in float32 or wider.

    Args:
      size: d, of inputs and outputs.
      heads: n, a divisor of d; k = d / n.
      window: W, at least 2, the present tick included.
      kv_heads: m, heads of keys and values, a divisor of n: each serves n / m queries; n if None, 1 for the smallest
        state.
      rotary: whether to rotate; without it a tick does not know how far back another one is.
      w_init: initialiser of the weights.
      dtype: of the parameters and the state; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A layer with state `AttentionState`, ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1, a window below 2, heads that do not divide, an odd k to rotate, or inputs of another
        size.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.layers.windowed_attention(8, heads=2, window=5, kv_heads=1)
      >>> params = layer.init(jax.random.key(0))
      >>> state, ys = layer.apply(params, layer.initial_state(params, (3,)), jnp.ones((20, 3, 8)))
      >>> ys.shape, state.ring.shape, state.filled.tolist()
      ((20, 3, 8), (3, 4, 8), [4, 4, 4])

    References:
      Vaswani et al. (2017), Attention is all you need. https://arxiv.org/abs/1706.03762
      Su et al. (2021), RoFormer: enhanced transformer with rotary position embedding. https://arxiv.org/abs/2104.09864
      Beltagy, Peters and Cohan (2020), Longformer: the long-document transformer. https://arxiv.org/abs/2004.05150
      Shazeer (2019), Fast transformer decoding: one write-head is all you need. https://arxiv.org/abs/1911.02150
    """
    who = "windowed_attention"
    groups = heads if kv_heads is None else kv_heads
    checks.sizes(who, size=size, heads=heads, window=window, kv_heads=groups)
    for name, number, of, whole in (("heads", heads, "size", size), ("kv_heads", groups, "heads", heads)):
        if whole % number:
            raise ValueError(f"{who}: expected {name} to divide {of}={whole}, got {number}. Change one of them.")
    if window < 2:
        raise ValueError(f"{who}: expected a window of at least 2, got {window}. Use dense for one tick.")
    width, span = size // heads, window - 1
    if rotary and width % 2:
        raise ValueError(
            f"{who}: expected heads of an even size to rotate, got {size} / {heads} = {width}. "
            "Change size or heads, or set rotary=False."
        )

    def init(key: Array) -> AttentionParams:
        x_key, out_key = jax.random.split(key)
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        w_x = w_init(x_key, (size, (heads + 2 * groups) * width), kind)
        return AttentionParams(w_x, w_init(out_key, (heads * width, size), kind))

    def initial_state(
        params: AttentionParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> AttentionState:
        cache = jnp.zeros((*batch_shape, span, 2 * groups * width), params.w_x.dtype)
        return AttentionState(cache, jnp.zeros(batch_shape, jnp.int32), jnp.zeros(batch_shape, jnp.int32))

    look = functools.partial(_look, heads=groups, rotary=rotary, compute_dtype=compute_dtype)

    def one_tick(state: AttentionState, q: Array, kv: Array) -> tuple[AttentionState, Array]:
        """The ring is looked at in the order in which it lies, and one place of it is written."""
        cache, place, filled = state
        slots = jnp.arange(span, dtype=jnp.int32)[:, None]
        places = jnp.concatenate([(slots - place[None]) % span, jnp.full_like(place[None], span)])  # on the line
        seen = (places >= span - filled[None])[None]
        ys = look(q, jnp.concatenate([cache.swapaxes(0, 1), kv]), jnp.full((1, 1), span), places, seen)
        cache = cache.at[jnp.arange(place.shape[0]), place].set(kv[0])
        return AttentionState(cache, (place + 1) % span, jnp.minimum(filled + 1, span)), ys

    def chunk(
        state: AttentionState, q: Array, kv: Array, mask: Array | None, reset: Array | None
    ) -> tuple[AttentionState, Array]:
        """Real ticks moved together, each looks at the line from its ``first`` to itself; results moved back."""
        cache, place, filled = state
        line = ring.line_up(cache, place, kv, mask, reset)
        ticks = jnp.arange(q.shape[0], dtype=jnp.int32)[:, None]
        first = jnp.maximum(ticks, span - filled[None])
        if line.segments is not None:
            first = jnp.maximum(first, _starts(line.segments)[span:])
        ys = _in_blocks(look, ring.moved_together(line, q), line.xs, first, max(window, FEWEST))
        filled = filled if line.restarted is None else jnp.where(line.restarted, 0, filled)
        filled = jnp.minimum(filled + line.own, span)
        return AttentionState(*ring.after(line, place, span), filled), ring.moved_back(line, ys)

    def apply(
        params: AttentionParams,
        state: AttentionState,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[AttentionState, Array]:
        checks.features(who, xs, size)
        mask = checks.ticks(who, "mask", masks.given(who, mask, lengths, xs), xs)
        reset = checks.ticks(who, "reset", reset, xs)
        length, *batch, _ = xs.shape
        checks.shapes(who, "inputs' batch", tuple(batch), "the state's", state.place.shape)
        xs = jnp.asarray(xs) if mask is None else masks.zero(mask, jnp.asarray(xs))
        cut = heads * width
        a = dot(xs.reshape(length, -1, size), params.w_x, compute_dtype)
        q, kv = a[..., :cut], a[..., cut:].astype(state.ring.dtype)
        flat = AttentionState(*(leaf.reshape(-1, *leaf.shape[len(batch) :]) for leaf in state))
        if length == 1 and mask is None and reset is None:
            new, ys = one_tick(flat, q, kv)
        else:
            ticks = [None if flags is None else flags.reshape(length, -1) for flags in (mask, reset)]
            new, ys = chunk(flat, q, kv, *ticks)
        new = AttentionState(*(leaf.reshape(old.shape) for leaf, old in zip(new, state)))
        return new, dot(ys.reshape(length, *batch, cut), params.w_out, compute_dtype)

    return Layer(init, initial_state, apply)


def _starts(segments: Array) -> Array:
    """Where on the line ``[L, N]`` the segment of each tick begins."""
    begins = jnp.concatenate([jnp.zeros_like(segments[:1], bool), segments[1:] != segments[:-1]])
    ticks = jnp.arange(segments.shape[0], dtype=jnp.int32)[:, None]
    return jax.lax.cummax(jnp.where(begins, ticks, 0), axis=0)


def _in_blocks(look: Callable, q: Array, line: Array, first: Array, block: int) -> Array:
    """Queries ``[T, N, …]`` looking at the line ``[span + T, N, …]`` from ``first [T, N]`` to their own tick."""
    length, span = q.shape[0], line.shape[0] - q.shape[0]

    def one(q: Array, line: Array, first: Array) -> Array:
        own = span + jnp.arange(q.shape[0], dtype=jnp.int32)[:, None]
        places = jnp.arange(line.shape[0], dtype=jnp.int32)[:, None]
        seen = (places[None] >= first[:, None]) & (places[None] <= own[:, None])
        return look(q, line, own, places, seen)

    if not symbolic.known(length) or length <= block:  # an unknown length is not cut
        return one(q, line, first)
    blocks = -(-length // block)
    longer = [(0, blocks * block - length), (0, 0)]
    q, line, first = jnp.pad(q, [*longer, (0, 0)]), jnp.pad(line, [*longer, (0, 0)]), jnp.pad(first, longer)
    starts = jnp.arange(blocks, dtype=jnp.int32) * block
    cut = lambda x: x.reshape(blocks, block, *x.shape[1:])
    again = jax.checkpoint(one, prevent_cse=False)

    def body(_: None, piece: tuple[Array, Array, Array]) -> tuple[None, Array]:
        start, q, first = piece
        return None, again(q, jax.lax.dynamic_slice_in_dim(line, start, span + block), first - start)

    _, ys = jax.lax.scan(body, None, (starts, cut(q), cut(first)))
    return ys.reshape(blocks * block, *ys.shape[2:])[:length]


def _look(
    q: Array,
    line: Array,
    own: Array,
    places: Array,
    seen: Array,
    *,
    heads: int,
    rotary: bool,
    compute_dtype: jnp.dtype | None,
) -> Array:
    """``q [C, N, n k]`` at ``own [C, 1]``, ``line [S, N, 2 m k]`` at ``places [S, N or 1]``; ``seen [C, S, N]``."""
    wide, dtype = q.dtype, line.dtype if compute_dtype is None else jnp.dtype(compute_dtype)
    # A weight of zero times NaN is NaN: what is not seen must not be there, and what is seen makes NaN of the sum.
    finite = jnp.isfinite(line).all(-1)
    line = masks.zero(finite & seen.any(0), line)
    poisoned = (seen & ~finite[None]).any(1)
    size = line.shape[-1] // (2 * heads)
    k, v = (part.reshape(*part.shape[:2], heads, size) for part in jnp.split(line, 2, axis=-1))
    flat, q = q.shape, q.reshape(*q.shape[:2], heads, q.shape[-1] // (heads * size), size)
    if rotary:
        q, k = _rotated(q, own), _rotated(k, places)
    product = functools.partial(jnp.einsum, preferred_element_type=accumulator(dtype))
    scores = product("tnmgk,snmk->nmgts", q.astype(dtype), k.astype(dtype)).astype(wide) * size**-0.5
    weights = jax.nn.softmax(jnp.where(jnp.moveaxis(seen, -1, 0)[:, None, None], scores, -jnp.inf))
    ys = product("nmgts,snmk->tnmgk", weights.astype(dtype), v.astype(dtype)).astype(wide)
    return jnp.where(poisoned[..., None], jnp.nan, ys.reshape(flat))


def _rotated(x: Array, places: Array) -> Array:
    """``x [P, N, …, k]`` turned by its ``places [P, N or 1]``: numbers i and i + k/2 are a pair."""
    half = x.shape[-1] // 2
    wide = accumulator(x.dtype)
    rates = 10_000.0 ** (-jnp.arange(half, dtype=wide) / half)
    places = places.reshape(*places.shape, *[1] * (x.ndim - 2))
    angle = places.astype(wide) * jax.lax.expand_dims(rates, range(x.ndim - 1))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = jnp.split(x.astype(wide), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
