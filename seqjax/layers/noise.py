"""Dropout between layers."""

import jax
import jax.numpy as jnp

from seqjax import checks, places
from seqjax.base import Array, Layer
from seqjax.layers.ticks import mapped
from seqjax.records import maker


@maker
def dropout(rate: float) -> Layer[tuple, tuple]:
    """Dropout between layers, a new mask every tick: what a recurrence remembers is never touched.

        y = m ⊙ x / (1-rate)      m ~ Bernoulli(1-rate), new each tick and unit

    Without a key it is the identity. The mask follows from the key and the place in the batch, not from the devices
    that share it (`seqjax.train_step`). For one mask a sequence, or dropout inside a recurrence, see
    `seqjax.variational_dropout` and `seqjax.recurrent_dropout`.

    Args:
      rate: the probability of dropping a unit.

    Returns:
      A layer with neither parameters nor state; the key given to ``apply`` draws m.

    Raises:
      ValueError: a rate outside [0, 1).
      TypeError: inputs that are not floats.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> sj.dropout(0.5).apply((), (), jnp.ones(4))[1].tolist()
      [1.0, 1.0, 1.0, 1.0]

    References:
      Srivastava et al. (2014), Dropout: a simple way to prevent neural networks from overfitting.
      https://jmlr.org/papers/v15/srivastava14a.html
      Zaremba, Sutskever and Vinyals (2014), Recurrent neural network regularization.
      https://arxiv.org/abs/1409.2329
    """
    checks.rate("dropout", rate)

    def function(params: tuple, xs: Array, key: Array | None) -> Array:
        checks.floats("dropout", xs)
        if key is None or rate == 0:
            return xs
        return jnp.where(_kept(key, 1 - rate, xs.shape), xs / (1 - rate), 0)

    return mapped("dropout", function)


def _kept(key: Array, share: float, shape: tuple[int, ...]) -> Array:
    """A mask of xs, with a key for each place on the first batch axis, the one that devices share."""
    if len(shape) < 2:
        return jax.random.bernoulli(key, share, shape)
    keys = places.drawn(lambda batch: jax.random.split(key, batch), shape[1:2])
    of_one = lambda key: jax.random.bernoulli(key, share, (shape[0], *shape[2:]))
    return jax.vmap(of_one, out_axes=1)(keys)
