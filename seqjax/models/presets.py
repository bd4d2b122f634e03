"""The word language models of Zaremba, Sutskever and Vinyals (2014), with all that their training needs."""

from typing import Literal, NamedTuple

import jax
import optax

from seqjax import checks
from seqjax.base import Layer
from seqjax.cells.lstm import lstm
from seqjax.models.language_model import language_model
from seqjax.records import maker
from seqjax.training import clip_by_global_norm


class Preset(NamedTuple):
    """A model and its training.

    Attributes:
      model: symbols to logits.
      optimizer: plain gradient descent with the paper's schedule; it counts updates.
      clip: by global norm, for ``train_step(clip=...)``.
      divide_by: for ``train_step(divide_by=...)``: the loss is summed over time and averaged over the batch,
        and only so do learning rate 1 and these thresholds make sense.
      window: ticks from update to update; the state is carried over them and zeroed each epoch.
      batch_size: sequences side by side.
      epochs: how long the paper trains.
    """

    model: Layer
    optimizer: optax.GradientTransformation
    clip: optax.GradientTransformation
    divide_by: float
    window: int
    batch_size: int
    epochs: int


Size = Literal["small", "medium", "large"]


class _Numbers(NamedTuple):
    hidden_size: int
    window: int
    scale: float
    dropout: float
    clip: float
    full_rate_epochs: int
    factor: float
    epochs: int


ZAREMBA = {
    "small": _Numbers(200, 20, 0.1, 0.0, 5.0, 4, 2.0, 13),
    "medium": _Numbers(650, 35, 0.05, 0.5, 5.0, 6, 1.2, 39),
    "large": _Numbers(1500, 35, 0.04, 0.65, 10.0, 14, 1.15, 55),
}


def zaremba(size: Size, vocabulary_size: int, *, updates_per_epoch: int, batch_size: int = 20) -> Preset:
    """Two LSTM layers with dropout between layers only, as published for Penn Treebank words.

        rate(epoch) = 1 for the first 4 / 6 / 14 epochs, then divided by 2 / 1.2 / 1.15 at each further one

    Weights start uniform in ±.1 / ±.05 / ±.04, biases too. Test perplexities in the paper: 114.5 / 82.7 /
    78.4.

    Args:
      size: ``"small"``, ``"medium"`` or ``"large"``: 200, 650, 1500 units a layer.
      vocabulary_size: v.
      updates_per_epoch: windows an epoch.
      batch_size: sequences side by side.

    Returns:
      Model, optimizer and the numbers that go with them.

    Raises:
      ValueError: an unknown size, or a number below 1.

    References:
      Zaremba, Sutskever and Vinyals (2014), Recurrent neural network regularization.
      https://arxiv.org/abs/1409.2329
    """
    checks.choice("zaremba", "size", size, ZAREMBA)
    checks.sizes("zaremba", updates_per_epoch=updates_per_epoch, batch_size=batch_size)
    numbers = ZAREMBA[size]
    schedule = optax.exponential_decay(
        1.0,
        updates_per_epoch,
        1 / numbers.factor,
        transition_begin=(numbers.full_rate_epochs - 1) * updates_per_epoch,
        staircase=True,
    )
    return Preset(
        zaremba_model(size, vocabulary_size),
        optax.sgd(schedule),
        clip_by_global_norm(numbers.clip),
        float(batch_size),
        numbers.window,
        batch_size,
        numbers.epochs,
    )


@maker
def zaremba_model(size: Size, vocabulary_size: int) -> Layer:
    """The model of `zaremba`: weights and biases start uniform.

    Args:
      size: as in `zaremba`.
      vocabulary_size: v.

    Returns:
      A layer from symbols to logits.
    """
    numbers = ZAREMBA[size]
    plain = language_model(vocabulary_size, numbers.hidden_size, cell=lstm, layers=2, dropout=numbers.dropout)
    return uniform_start(plain, numbers.scale)


@maker
def uniform_start(layer: Layer, scale: float) -> Layer:
    """The layer, all of whose parameters are drawn uniform in ± scale."""

    def init(key: jax.Array):
        leaves, tree = jax.tree.flatten(jax.eval_shape(layer.init, key))
        keys = jax.random.split(key, len(leaves))
        drawn = [jax.random.uniform(k, leaf.shape, leaf.dtype, -scale, scale) for k, leaf in zip(keys, leaves)]
        return tree.unflatten(drawn)

    return layer._replace(init=init)
