"""Loss and gradient of a linear-chain conditional random field: ours, a hand-written scan, torch's loop.

Ragged batches of scores. No installed library has one: the scan is the forward algorithm as its textbook writes it, in
JAX, and the loop the same in torch, as its packages do. Before anything is timed, each loss and every gradient must
agree with forward and backward in NumPy float64. `python -m benchmarks.crf --help`

    limit: α exp(A) a tick, and its transpose, T times each · the counts of all steps as one product · messages times
    exp of scores, divided by their sums, for all ticks at once, with derivative · once over scores and messages and
    their cotangents
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import paths
from benchmarks.paths import Contender
from seqjax.hmm import crf

FAR = 1e-2  # relative; without a division a tick, float32 messages of 1,000 ticks have lost three digits


class Row(NamedTuple):
    """N tags, B sequences of T ticks or fewer."""

    tags: int
    batch: int
    length: int


class Given(NamedTuple):
    """In float32, but for indices: ``scores [T, B, N]``, ``gold [T, B]``, ``mask [T, B]``."""

    params: crf.CRFParams
    scores: np.ndarray
    gold: np.ndarray
    mask: np.ndarray


ROWS = (Row(17, 32, 64), Row(17, 8, 1024), Row(128, 32, 64))


@functools.lru_cache(maxsize=1)
def given(row: Row) -> Given:
    """Scores and parameters from a normal distribution, tags at random, lengths from a half of T on."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    params = crf.CRFParams(draw(row.tags), draw(row.tags, row.tags), draw(row.tags))
    lengths = rng.integers(row.length // 2, row.length + 1, row.batch)
    lengths[0] = row.length
    shape = (row.length, row.batch)
    mask = np.arange(row.length)[:, None] < lengths
    return Given(params, draw(*shape, row.tags), rng.integers(0, row.tags, shape).astype(np.int32), mask)


@functools.lru_cache(maxsize=1)
def truth(row: Row) -> tuple[float, tuple]:
    """The mean loss and its gradient, by forward and backward in float64."""
    params, scores, gold, mask = given(row)
    start, a, end = (p.astype(np.float64) for p in params)
    scores = scores.astype(np.float64)
    steps, batch, lanes = row.length, row.batch, np.arange(row.batch)
    last = mask.sum(0) - 1
    alpha, beta = np.zeros_like(scores), np.zeros_like(scores)
    alpha[0] = start + scores[0]
    for t in range(1, steps):
        alpha[t] = scores[t] + logsumexp(alpha[t - 1][:, :, None] + a, 1)
    for t in reversed(range(steps)):
        beta[t] = end
        if t + 1 < steps:
            ahead = logsumexp(a + (scores[t + 1] + beta[t + 1])[:, None, :], 2)
            beta[t] = np.where((t < last)[:, None], ahead, end)
    partition = logsumexp(alpha[last, lanes] + end, 1)
    marginals = np.where(mask[..., None], np.exp(np.minimum(alpha + beta - partition[:, None], 0)), 0)
    pairs = np.zeros_like(a)
    for t in range(1, steps):
        joint = alpha[t - 1][:, :, None] + a + (scores[t] + beta[t])[:, None, :] - partition[:, None, None]
        pairs += np.exp(joint[mask[t]]).sum(0)
    entered = mask[1:]
    said = np.where(mask[..., None], np.eye(row.tags)[gold], 0)
    seen = np.zeros_like(a)
    np.add.at(seen, (gold[:-1][entered], gold[1:][entered]), 1)
    score = start[gold[0]] + end[gold[last, lanes]] + (scores * said).sum((0, 2))
    score += np.where(entered, a[gold[:-1], gold[1:]], 0).sum(0)
    off = (marginals - said) / batch
    gradient = crf.CRFParams(off[0].sum(0), (pairs - seen) / batch, off[last, lanes].sum(0))
    return float((partition - score).mean()), (gradient, off)


def logsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    """In NumPy."""
    top = x.max(axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis)) + np.squeeze(top, axis)


def jitted(row: Row, loss: Callable) -> Contender:
    """Mean of ``loss(params, scores, gold, mask) [B]`` and its gradient, one program."""
    _, _, gold, mask = found = given(row)
    mean = lambda params, scores: loss(params, scores, jnp.asarray(gold), jnp.asarray(mask)).mean()
    return paths.compiled(jax.value_and_grad(mean, (0, 1)), *jax.tree.map(jnp.asarray, found[:2]))


def ours(row: Row) -> Contender:
    """`seqjax.hmm.crf.loss`."""
    return jitted(row, lambda params, scores, gold, mask: crf.loss(params, scores, gold, mask=mask))


def by_hand(params: crf.CRFParams, scores: jax.Array, gold: jax.Array, mask: jax.Array) -> jax.Array:
    """The forward algorithm as a scan."""
    lanes, last = jnp.arange(gold.shape[1]), mask.sum(0) - 1

    def tick(alpha: jax.Array, now: tuple) -> tuple[jax.Array, None]:
        e, real = now
        new = jax.nn.logsumexp(alpha[:, :, None] + params.transition, 1) + e
        return jnp.where(real[:, None], new, alpha), None

    alpha, _ = jax.lax.scan(tick, params.start + scores[0], (scores[1:], mask[1:]))
    partition = jax.nn.logsumexp(alpha + params.end, -1)
    each = jnp.take_along_axis(scores, gold[..., None], -1)[..., 0]
    moves = jnp.where(mask[1:], params.transition[gold[:-1], gold[1:]], 0)
    score = jnp.where(mask, each, 0).sum(0) + moves.sum(0)
    return partition - score - params.start[gold[0]] - params.end[gold[last, lanes]]


def torch_loop(row: Row) -> Contender:
    """The same, a tick a time."""
    import torch

    torch.set_num_threads(paths.record.cores())
    params, scores, gold, mask = given(row)
    start, a, end = leaves = [torch.tensor(p, requires_grad=True) for p in params]
    scores = torch.tensor(scores, requires_grad=True)
    gold, mask = torch.tensor(gold).long(), torch.tensor(mask)
    lanes, last = torch.arange(row.batch), mask.sum(0) - 1

    def run() -> tuple:
        for leaf in (*leaves, scores):
            leaf.grad = None
        alpha = start + scores[0]
        for t in range(1, row.length):
            new = torch.logsumexp(alpha[:, :, None] + a, 1) + scores[t]
            alpha = torch.where(mask[t][:, None], new, alpha)
        partition = torch.logsumexp(alpha + end, 1)
        score = (scores.gather(2, gold[..., None])[..., 0] * mask).sum(0)
        score = score + (a[gold[:-1], gold[1:]] * mask[1:]).sum(0) + start[gold[0]] + end[gold[last, lanes]]
        loss = (partition - score).mean()
        loss.backward()
        return loss.detach(), (crf.CRFParams(*(leaf.grad for leaf in leaves)), scores.grad)

    return Contender(run)


def contenders(row: Row) -> dict[str, Callable[[], Contender]]:
    """By name."""
    return {
        "ours": lambda: ours(row),
        "scan": lambda: jitted(row, by_hand),
        "torch": lambda: torch_loop(row),
    }


def parts(row: Row) -> dict[str, Callable[[], Any]]:
    """What the limit is made of."""
    n, rows = row.tags, row.length * row.batch
    shape = (row.length, row.batch, n)
    p, e = jnp.ones(shape), jnp.zeros(shape)
    pointwise = lambda p, e: paths.divided(p * jnp.exp(e))
    stack = jnp.ones((rows, n))
    return {
        **paths.product("product", row.batch, n, n, row.length),
        **paths.product("product, back", row.batch, n, n, row.length),
        "counts": paths.compiled(lambda f, b: f.T @ b, stack, stack).run,
        "pointwise": paths.both_ways(pointwise, p, e),
        **paths.stream(4 * rows * n),
    }


def measure(row: Row, rounds: int, seconds: float) -> dict[str, Any]:
    """One row."""
    error = lambda found: paths.far_off(found, truth(row))
    return paths.measure(row, contenders(row), error, FAR, parts(row), rounds, seconds)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures every row and writes one JSON line each."""
    parser = paths.parser(__doc__, "crf")
    parser.add_argument("--shapes", type=int, nargs=3, action="append", metavar=("N", "B", "T"), help="others")
    options = parser.parse_args(argv)
    rows = [Row(*shape) for shape in options.shapes or ROWS]
    paths.keep(rows, lambda row: measure(row, options.rounds, options.seconds), "crf", options.out)


if __name__ == "__main__":
    main()
