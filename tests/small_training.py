"""A small language model, a batch with holes and resets, and the loss that training should lower."""

import jax
import jax.numpy as jnp
import numpy as np
from laws import MASKS, RESET, B, T
from zoo import drawn

import seqjax as sj

V = 5
KEY = jax.random.key(0)
MASK = MASKS["holes"]


def language_model(cell, dropout=0.0):
    return sj.serial(sj.embedding(V, 3), sj.dropout(dropout), sj.recurrent(cell), sj.dense(4, V))


MODEL = language_model(sj.lstm(3, 4))
PARAMS = drawn(MODEL)
RNG = np.random.default_rng(0)
BATCH = sj.Batch(RNG.integers(0, V, (T, B)), RNG.integers(0, V, (T, B)))
OBJECTIVE = sj.objective(MODEL, sj.cross_entropy)
FULL = BATCH._replace(mask=MASK, reset=RESET)


def start(model=MODEL, params=PARAMS, batch=B, key=None):
    return model.initial_state(params, (batch,), key=key)


def mean_loss(params, batch, state):
    """The mean loss written without the library's losses and objectives."""
    _, logits = MODEL.apply(params, state, batch.xs, mask=batch.mask, reset=batch.reset)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(batch.targets)[..., None], -1)[..., 0]
    mask = jnp.ones((T, B), bool) if batch.mask is None else batch.mask
    return -jnp.where(mask, picked, 0).sum() / mask.sum().astype(float)


def norm(tree):
    return np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(tree)))
