"""Loss and gradient of connectionist temporal classification: ours, Optax's, torch's.

Ragged logits and labels. Before anything is timed, each sum of losses and its gradient by the logits must agree with
forward and backward in NumPy float64. `python -m benchmarks.ctc --help`

    limit: log-probabilities of all ticks at once and their derivative · the look-up of the labels' and its transpose ·
    sums of three paths times exp, divided by their sum, for all ticks at once, with derivative · once over logits and
    messages and their cotangents
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from benchmarks import limit, paths
from benchmarks.paths import Contender

FAR = 1e-2  # relative; messages in logarithms that are not divided lose digits with every tick


class Row(NamedTuple):
    """V outputs with the blank, B sequences of T ticks or fewer that say L symbols or fewer."""

    outputs: int
    batch: int
    length: int
    symbols: int


class Given(NamedTuple):
    """``logits [T, B, V]``, ``labels [L, B]``, lengths ``[B]`` of both."""

    logits: np.ndarray
    labels: np.ndarray
    ticks: np.ndarray
    said: np.ndarray


ROWS = (Row(32, 16, 200, 40), Row(32, 16, 800, 100), Row(1024, 16, 200, 40))


@functools.lru_cache(maxsize=1)
def given(row: Row) -> Given:
    """Normal logits, symbols at random, lengths from a half of the longest on."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((row.length, row.batch, row.outputs)).astype(np.float32)
    labels = rng.integers(1, row.outputs, (row.symbols, row.batch)).astype(np.int32)
    ticks = rng.integers(max(2 * row.symbols, row.length // 2), row.length + 1, row.batch)
    said = rng.integers(row.symbols // 2, row.symbols + 1, row.batch)
    ticks[0], said[0] = row.length, row.symbols
    return Given(logits, labels, ticks, said)


@functools.lru_cache(maxsize=1)
def truth(row: Row) -> tuple[float, np.ndarray]:
    """The sum of the losses and its gradient, sequence by sequence in float64: softmax less the paths' shares."""
    logits, labels, ticks, said = given(row)
    total, gradient = 0.0, np.zeros(logits.shape)
    for b in range(row.batch):
        z = logits[: ticks[b], b].astype(np.float64)
        log_p = z - z.max(1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
        path = np.zeros(2 * said[b] + 1, int)
        path[1::2] = labels[: said[b], b]
        jump = np.append([False, False], (path[2:] != 0) & (path[2:] != path[:-2]))
        e = log_p[:, path]
        alpha, beta = np.full(e.shape, -np.inf), np.full(e.shape, -np.inf)
        alpha[0, :2], beta[-1, -2:] = e[0, :2], 0.0
        for t in range(1, len(e)):
            alpha[t] = e[t] + arrive(alpha[t - 1], jump)
        for t in reversed(range(len(e) - 1)):
            beta[t] = leave(beta[t + 1] + e[t + 1], jump)
        log_z = np.logaddexp.reduce(alpha[-1, -2:])
        shares = np.zeros_like(log_p)
        np.add.at(shares.T, path, np.exp(alpha + beta - log_z).T)
        total -= log_z
        gradient[: ticks[b], b] = np.exp(log_p) - shares
    return float(total), gradient


def arrive(alpha: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """Into a place from itself, from the one before, or over a blank."""
    one, two = np.append(-np.inf, alpha[:-1]), np.append([-np.inf, -np.inf], alpha[:-2])
    return np.logaddexp(np.logaddexp(alpha, one), np.where(jump, two, -np.inf))


def leave(beta: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """The same backwards."""
    one, two = np.append(beta[1:], -np.inf), np.append(np.where(jump, beta, -np.inf)[2:], [-np.inf, -np.inf])
    return np.logaddexp(np.logaddexp(beta, one), two)


def ours(row: Row) -> Contender:
    """`seqjax.losses.ctc_losses`, which `seqjax.ctc` adds up."""
    logits, labels, ticks, said = given(row)
    mask = jnp.arange(row.length)[:, None] < ticks
    targets = sj.Labels(jnp.asarray(labels), jnp.arange(row.symbols)[:, None] < said)
    loss = lambda z: sj.losses.ctc_losses(z, targets, mask).sum()
    return paths.compiled(jax.value_and_grad(loss), jnp.asarray(logits))


def optax_loss(row: Row) -> Contender:
    """`optax.ctc_loss`, batch first."""
    import optax

    logits, labels, ticks, said = given(row)
    absent = jnp.asarray(np.arange(row.length) >= ticks[:, None], jnp.float32)
    unsaid = jnp.asarray(np.arange(row.symbols) >= said[:, None], jnp.float32)
    loss = lambda z: optax.ctc_loss(z, absent, jnp.asarray(labels.T), unsaid).sum()
    return paths.compiled(
        jax.value_and_grad(loss),
        jnp.asarray(logits.swapaxes(0, 1)),
        read=lambda found: (found[0], np.asarray(found[1]).swapaxes(0, 1)),
    )


def torch_loss(row: Row) -> Contender:
    """`torch.nn.functional.ctc_loss` behind its log-softmax."""
    import torch

    torch.set_num_threads(paths.record.cores())
    logits, labels, ticks, said = given(row)
    z = torch.tensor(logits, requires_grad=True)
    targets, ticks, said = torch.tensor(labels.T.copy()).long(), torch.tensor(ticks), torch.tensor(said)

    def run() -> tuple:
        z.grad = None
        loss = torch.nn.functional.ctc_loss(z.log_softmax(-1), targets, ticks, said, reduction="sum")
        loss.backward()
        return loss.detach(), z.grad

    return Contender(run)


def contenders(row: Row) -> dict[str, Callable[[], Contender]]:
    """By name."""
    return {"ours": lambda: ours(row), "optax": lambda: optax_loss(row), "torch": lambda: torch_loss(row)}


def parts(row: Row) -> dict[str, Callable[[], Any]]:
    """What the limit is made of."""
    logits, labels, _, _ = (jnp.asarray(leaf) for leaf in given(row))
    places = 2 * row.symbols + 1
    path = jnp.zeros((row.batch, places), jnp.int32).at[:, 1::2].set(labels.T)
    look_up = lambda z: jnp.take_along_axis(z, path[None], -1)
    alpha = jnp.ones((row.length, row.batch, places))
    later = lambda x, n: jnp.pad(x, ((0, 0), (0, 0), (n, 0)))[..., :places]
    three = lambda a, e: paths.divided((a + later(a, 1) + later(a, 2)) * jnp.exp(e))
    chosen = jax.nn.one_hot(path, row.outputs)
    return {
        "log-probabilities": paths.both_ways(jax.nn.log_softmax, logits),
        "look-up": paths.both_ways(look_up, logits),
        f"look-up{limit.SUMS}": paths.compiled(
            lambda z, chosen, a: (jnp.einsum("tbv,bsv->tbs", z, chosen), jnp.einsum("tbs,bsv->tbv", a, chosen)),
            *(logits, chosen, alpha),
        ).run,
        "pointwise": paths.both_ways(three, alpha, alpha),
        **paths.stream(2 * logits.size + 4 * alpha.size),
    }


def measure(row: Row, rounds: int, seconds: float) -> dict[str, Any]:
    """One row."""
    error = lambda found: paths.far_off(found, truth(row))
    return paths.measure(row, contenders(row), error, FAR, parts(row), rounds, seconds)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures every row and writes one JSON line each."""
    parser = paths.parser(__doc__, "ctc")
    parser.add_argument("--shapes", type=int, nargs=4, action="append", metavar=("V", "B", "T", "L"), help="others")
    options = parser.parse_args(argv)
    rows = [Row(*shape) for shape in options.shapes or ROWS]
    paths.keep(rows, lambda row: measure(row, options.rounds, options.seconds), "ctc", options.out)


if __name__ == "__main__":
    main()
