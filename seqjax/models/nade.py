"""Frames whose yes-or-no features belong together, as the keys of a chord: each is said given those before it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.nn.initializers import normal

from seqjax import checks, records
from seqjax.base import Array, PyTree
from seqjax.layers.affine import DenseParams, dense
from seqjax.losses.totals import Tally, tally
from seqjax.products import accumulator, along
from seqjax.records import maker


class Nade(NamedTuple):
    """An output of frames whose features are drawn one after the other.

    Attributes:
      init: ``(key) -> params``.
      loss: ``(params, hs [T, *B, d], frames [T, *B, n], mask, key) -> Tally`` of -log p(frame), in nats a tick.
      draw: ``(params, key, hs [*B, d], temperature=1) -> [*B, n]`` of 0 and 1.
    """

    init: Callable[[Array], PyTree]
    loss: Callable[..., Tally]
    draw: Callable[..., Array]

    def __repr__(self) -> str:
        """The call that makes it, or its three functions where it was made by hand."""
        return records.printed(self)


class NadeParams(NamedTuple):
    """``start`` maps h to c, ``bias`` maps h to b; ``reads [n, m]`` and ``says [n, m]`` are the rows e_i and v_j."""

    start: DenseParams
    bias: DenseParams
    reads: Array
    says: Array


@maker
def nade(size: int, features: int, units: int) -> Nade:
    """p(x_1 … x_n | h) = ∏_j p(x_j | x_1 … x_{j-1}, h), a hidden layer that every feature adds to.

        p(x_j = 1 | x_1 … x_{j-1}, h) = σ(b_j + v_j · tanh(a_j))
        a_j = c + Σ_{i<j} x_i e_i          b = h W + b₀,  c = h U + c₀

    With v = 0 every feature is said by itself, as `seqjax.multi_label_cross_entropy` does: where two chords are
    likely, half of one with half of the other is then as likely as either. The loss looks at all features at once; a
    draw takes n steps. Train it by `output_objective`.

    Args:
      size: d, of h.
      features: n.
      units: m.

    Returns:
      The output, with `NadeParams`.

    Raises:
      ValueError: a size below 1.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> output = sj.models.nade(8, 3, 4)
      >>> params = output.init(jax.random.key(0))
      >>> every = jnp.array([[i >> j & 1 for j in range(3)] for i in range(8)], float)
      >>> hs = jnp.ones((8, 8))
      >>> total = sum(jnp.exp(-output.loss(params, h[None], x[None]).sum) for h, x in zip(hs, every))
      >>> round(float(total), 5)
      1.0

    References:
      Larochelle and Murray (2011), The neural autoregressive distribution estimator (with σ in place of tanh).
      https://proceedings.mlr.press/v15/larochelle11a.html
      Boulanger-Lewandowski, Bengio and Vincent (2012), Modeling temporal dependencies in high-dimensional sequences
      (b and c from a recurrent network). https://arxiv.org/abs/1206.6392
    """
    checks.sizes("nade", size=size, features=features, units=units)
    start, bias = dense(size, units), dense(size, features)

    def init(key: Array) -> NadeParams:
        keys = jax.random.split(key, 4)
        dtype = jnp.zeros(()).dtype
        rows = [normal(scale)(k, (features, units), dtype) for scale, k in ((0.3, keys[2]), (0.02, keys[3]))]
        return NadeParams(start.init(keys[0]), bias.init(keys[1]), *rows)

    def given(params: NadeParams, hs: Array) -> tuple[Array, Array]:
        checks.features("nade", hs[None], size)
        c, b = start.apply(params.start, (), hs[None])[1][0], bias.apply(params.bias, (), hs[None])[1][0]
        wide = accumulator(b.dtype)
        return c.astype(wide), b.astype(wide)

    def loss(
        params: NadeParams, hs: Array, frames: Array, mask: Array | None = None, key: Array | None = None
    ) -> Tally:
        checks.shapes("nade", "frames", frames.shape, "the states", (*hs.shape[:-1], features))
        c, b = given(params, hs)
        x = frames.astype(b.dtype)
        read = x[..., None] * along(params.reads, x[..., None])
        before = jnp.cumsum(read, -2) - read  # of x_i, i < j
        logits = b + (jnp.tanh(before + c[..., None, :]) * along(params.says, before)).sum(-1)
        return tally(optax.sigmoid_binary_cross_entropy(logits, x).sum(-1), mask)

    def draw(params: NadeParams, key: Array, hs: Array, temperature: float | Array = 1.0) -> Array:
        c, b = given(params, hs)

        def feature(a: Array, one: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
            key, b, reads, says = one
            logit = b + (jnp.tanh(a) * along(says, a)).sum(-1)
            x = jax.random.bernoulli(key, jax.nn.sigmoid(logit / temperature)).astype(a.dtype)
            return a + x[..., None] * along(reads, a), x

        xs = jax.random.split(key, features), jnp.moveaxis(b, -1, 0), params.reads, params.says
        return jnp.moveaxis(jax.lax.scan(feature, c, xs)[1], 0, -1)

    return Nade(init, loss, draw)
