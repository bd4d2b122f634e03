"""Forecasts without a network, by lines and by counting; errors that may run away; frames and those that follow."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import tasks
from seqjax.base import Array
from seqjax.layers import DenseParams

AWAY = 1e6  # standard deviations: no error of a forecast any more


def linear(train: np.ndarray, past: np.ndarray, horizon: int) -> np.ndarray:
    """Forecasts by x_{t+1} = [x_t … x_{t-p+1}] A + b, fitted by least squares; p is the length of the past.

    Args:
      train: ``[T, d]``.
      past: ``[p, starts, d]``.
      horizon: ticks.

    Returns:
      ``[horizon, starts, d]``.
    """
    order, count, size = past.shape
    rows = np.lib.stride_tricks.sliding_window_view(train[:-1].astype(np.float64), order, axis=0)
    features = np.concatenate([rows.reshape(len(rows), -1), np.ones((len(rows), 1))], 1)
    weights = np.linalg.lstsq(features, train[order:].astype(np.float64), rcond=None)[0]
    seen = np.moveaxis(past, 0, -1).astype(np.float64)
    ys = np.empty((horizon, count, size))
    with np.errstate(over="ignore", invalid="ignore"):  # an unstable fit may run away
        for t in range(horizon):
            ys[t] = seen.reshape(count, -1) @ weights[:-1] + weights[-1]
            seen = np.concatenate([seen[..., 1:], ys[t][..., None]], -1)
    return ys


def rms(differences: np.ndarray) -> np.ndarray:
    """Root mean square over starts and values, for each tick ahead; `AWAY` for a forecast that has run away."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.sqrt((differences.astype(np.float64) ** 2).mean((1, 2)))
    return np.where(found < AWAY, found, AWAY)


def figure(error: float) -> float | None:
    """An error for the run's result; None for a forecast that has run away."""
    return float(error) if error < AWAY else None


def told(error: float, show: str = ".2e") -> str:
    """An error in words."""
    return format(error, show) if error < AWAY else "ran away"


def marginal(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> float:
    """Nats a frame, T-1 frames of each piece, if each key sounds as often as in training; counts begin at one half."""
    frames, heard = (np.concatenate([roll[1:] for roll in rolls]) for rolls in (train, test))
    share = (frames.sum(0) + 0.5) / (len(frames) + 1)
    return nats(share, heard)


def markov(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> float:
    """The same if each key goes on or off as often as in training, given whether it sounds now."""
    (before, after), (now, heard) = (
        [np.concatenate([roll[part] for roll in rolls]) for part in (slice(-1), slice(1, None))]
        for rolls in (train, test)
    )
    share = [
        ((after * (before == on)).sum(0) + 0.5) / ((before == on).sum(0) + 1) for on in (0, 1)
    ]  # p(on next | off), p(on next | on)
    return nats(np.where(now == 1, share[1], share[0]), heard)


def nats(share: np.ndarray, heard: np.ndarray) -> float:
    """Cross-entropy of keys drawn with these probabilities, summed over keys, averaged over frames."""
    return float(-np.where(heard == 1, np.log(share), np.log1p(-share)).sum(1).mean())


def sounding(readout: DenseParams, logits: np.ndarray) -> DenseParams:
    """A readout that begins with these logits."""
    return readout._replace(b=jnp.asarray(logits, readout.w.dtype))


def next_frames(rolls: tasks.Padded) -> sj.Batch:
    """Every frame but the last; targets are all but the first, and which are real: the network needs no mask."""
    real = np.arange(len(rolls.values) - 1)[:, None] < rolls.lengths - 1
    return sj.Batch(rolls.values[:-1], (rolls.values[1:], real))


def loss(logits: Array, targets: tuple[Array, Array], mask: Array | None) -> sj.Tally:
    """Nats a real frame, summed over keys."""
    return sj.multi_label_cross_entropy(logits, *targets)
