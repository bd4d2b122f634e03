"""Symbols as vectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import normal, zeros

from seqjax import checks, spread
from seqjax.base import Array, Layer, PyTree
from seqjax.initializers import Initializer
from seqjax.layers import inner
from seqjax.layers.ticks import mapped
from seqjax.products import add_bias, dot
from seqjax.records import maker

standard_normal = normal(1.0)
small_normal = normal(0.1)


class EmbeddingParams(NamedTuple):
    """``w [v, d]``: one row a symbol."""

    w: Array


@maker
def embedding(
    vocabulary_size: int,
    size: int,
    *,
    w_init: Initializer = standard_normal,
    dtype: jnp.dtype | None = None,
) -> Layer[EmbeddingParams, tuple]:
    """A row of a matrix for every symbol: one-hot(x) W, looked up.

        y = W[x]

    A symbol outside 0 … v-1 gives NaN: loud, where wrapping round or clipping would be silent.

    Args:
      vocabulary_size: v.
      size: d.
      w_init: initialiser of W ``[v, d]``; standard normal, as in torch.
      dtype: of W; JAX's default float if None.

    Returns:
      A layer with empty state, ``[T, *B]`` of integers to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1.
      TypeError: inputs that are not integers.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.embedding(10, 4)
      >>> state, ys = layer.apply(layer.init(jax.random.key(0)), (), jnp.array([1, 2, 1]))
      >>> ys.shape
      (3, 4)
    """
    checks.sizes("embedding", vocabulary_size=vocabulary_size, size=size)

    def init(key: Array) -> EmbeddingParams:
        return EmbeddingParams(w_init(key, (vocabulary_size, size), jnp.dtype(dtype or jnp.zeros(()).dtype)))

    return mapped("embedding", lambda params, xs, key: look_up("embedding", params.w, xs), init)


class TiedParams(NamedTuple):
    """``w [v, d]`` read in both places, the parameters of what lies between, ``b [v]`` or None."""

    w: Array
    body: PyTree
    b: Array | None


@maker
def tied_embedding(
    vocabulary_size: int,
    size: int,
    body: Layer,
    *,
    w_init: Initializer = small_normal,
    b_init: Initializer | None = zeros,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Layer[TiedParams, PyTree]:
    """A language model whose output matrix is its embedding matrix.

        e_t = W[x_t]      h = body(e)      y_t = h_t Wᵀ + b

    Args:
      vocabulary_size: v.
      size: d, of the embedding and of the body's output.
      body: the layer between, ``[T, *B, d]`` to ``[T, *B, d]``.
      w_init: initialiser of W ``[v, d]``; normal with standard deviation .1, as a unit one makes wild logits.
      b_init: initialiser of b ``[v]``; None for no bias.
      dtype: of W and b; JAX's default float if None.
      compute_dtype: of the output product's operands; ``dtype`` if None.

    Returns:
      A layer with the body's state, ``[T, *B]`` of integers to logits ``[T, *B, v]``.

    Raises:
      ValueError: a size below 1, or a body whose output has another size.
      TypeError: inputs that are not integers, or a body that is no layer.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.tied_embedding(5, 4, sj.recurrent(sj.gru(4, 4)))
      >>> params = model.init(jax.random.key(0))
      >>> state, logits = model.apply(params, model.initial_state(params, (2,)), jnp.zeros((7, 2), int))
      >>> params.w.shape, logits.shape
      ((5, 4), (7, 2, 5))

    References:
      Press and Wolf (2017), Using the output embedding to improve language models.
      https://arxiv.org/abs/1608.05859
    """
    checks.sizes("tied_embedding", vocabulary_size=vocabulary_size, size=size)
    checks.instance("tied_embedding", body, Layer, "Wrap a cell in recurrent(cell).")

    def init(key: Array) -> TiedParams:
        w_key, body_key, b_key = jax.random.split(key, 3)
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        b = None if b_init is None else b_init(b_key, (vocabulary_size,), kind)
        return TiedParams(w_init(w_key, (vocabulary_size, size), kind), body.init(body_key), b)

    def initial_state(params: TiedParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> PyTree:
        return body.initial_state(params.body, batch_shape, key=key)

    def project(params: TiedParams, hs: Array, key: Array | None) -> Array:
        checks.features("tied_embedding", hs, size)
        return add_bias(dot(hs, params.w.T, compute_dtype), params.b)

    read = mapped("tied_embedding", lambda params, xs, key: look_up("tied_embedding", params.w, xs))
    write = mapped("tied_embedding", project)

    def apply(
        params: TiedParams,
        state: PyTree,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[PyTree, Array]:
        _, es = read.apply(params, (), xs, mask=mask, lengths=lengths)
        state, hs = inner.run(body, params.body, state, es, mask=mask, lengths=lengths, reset=reset, key=key)
        _, ys = write.apply(params, (), hs, mask=mask, lengths=lengths)
        return state, ys

    return Layer(init, initial_state, apply)


def look_up(who: str, w: Array, symbols: Array) -> Array:
    """Rows of ``w`` for integer symbols; NaN for symbols it does not have."""
    w, symbols = jnp.asarray(w), checks.symbols(who, symbols)
    return w.at[symbols].get(
        mode="fill", fill_value=jnp.nan, wrap_negative_indices=False, out_sharding=spread.of_rows(w, symbols)
    )
