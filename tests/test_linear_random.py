"""Random chains of moves, sums and products of a state: what the linear engine takes is the scan, or it is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj

B, T, CHAINS = 2, 5, 40


def along_batch(gate, v):
    """A number a sequence, where the sequences are still the first axis."""
    return gate.reshape(B, *(1,) * (v.ndim - 1)) if v.shape[0] == B else jnp.ones((1,) * v.ndim)


def halves(v, rng, gate, axis):
    first, second = jnp.split(v, 2, -1)
    return jnp.concatenate([first - 0.5 * second, 0.3 * first], -1)


MOVES = {
    "product": lambda v, rng, gate, axis: v @ jnp.asarray(0.4 * rng.normal(size=(v.shape[-1],) * 2)),
    "gate": lambda v, rng, gate, axis: v * along_batch(jnp.tanh(gate), v),
    "choice": lambda v, rng, gate, axis: jnp.where(along_batch(gate, v) > 0, v, 0.5 * v),
    "roll": lambda v, rng, gate, axis: jnp.roll(v, 1, axis),
    "flip": lambda v, rng, gate, axis: jnp.flip(v, axis),
    "cumulative": lambda v, rng, gate, axis: 0.5 * jnp.cumsum(v, axis),
    "sum": lambda v, rng, gate, axis: v + 0.2 * v.sum(axis, keepdims=True),
    "first": lambda v, rng, gate, axis: 0.5 * v + 0.5 * jnp.tile(v[..., :1], (1,) * (v.ndim - 1) + v.shape[-1:]),
    "axes": lambda v, rng, gate, axis: jnp.moveaxis(v, axis, -1),
    "joined": lambda v, rng, gate, axis: v.reshape(*v.shape[:-2], -1) if v.ndim > 2 else v,
}
EVEN = {
    "halves": halves,
    "strides": lambda v, rng, gate, axis: jnp.concatenate([v[..., 1::2], v[..., ::2]], -1),
    "cut": lambda v, rng, gate, axis: v.reshape(*v.shape[:-1], v.shape[-1] // 2, 2),
    "dealt": lambda v, rng, gate, axis: v.reshape(*v.shape[:-1], 2, -1).swapaxes(-1, -2).reshape(v.shape),
}


def chain(seed):
    """A step ``h' = moves(h) / 2 + x`` and its first state."""
    rng = np.random.default_rng(seed)
    size, count = int(rng.choice([2, 4, 6, 8])), int(rng.integers(1, 6))
    shape = (B, *(3,) * int(rng.integers(2)), size)

    def step(params, h, x):
        rng, v = np.random.default_rng(seed), h
        for _ in range(count):
            moves = MOVES | (EVEN if v.shape[-1] % 2 == 0 else {})
            move, axis = list(moves.values())[rng.integers(len(moves))], int(rng.integers(v.ndim))
            v = move(v, rng, x["gate"], axis)
        added = x["added"].reshape(B, *(1,) * (h.ndim - 1)) * jnp.cos(jnp.arange(float(size)))
        h = 0.5 * v.reshape(h.shape) + added
        return h, h

    return step, jnp.asarray(rng.normal(size=shape))


@pytest.mark.slow
def test_what_is_taken_is_the_scan():
    rng, ways, refused = np.random.default_rng(0), [], 0
    xs = {name: jnp.asarray(rng.normal(size=(T, B))) for name in ("gate", "added")}
    for seed in range(CHAINS):
        step, first = chain(seed)
        cell = sj.Cell(lambda key: (), lambda params, batch=(), *, key=None, first=first: first, step)

        def run(first, xs, engine, cell=cell):
            last, ys = sj.unroll(cell, (), first, xs, engine=engine)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(last**2), ys

        gradient = jax.value_and_grad(run, (0, 1), has_aux=True)
        try:
            found = gradient(first, xs, "linear")
        except ValueError as error:
            if "mixes numbers of the state" not in str(error):
                raise
            refused += 1
            continue
        ways += [loop.way for loop in sj.explain(cell, (), first, xs, engine="linear").loops]
        for a, b in zip(*map(jax.tree.leaves, (found, gradient(first, xs, "scan"))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, err_msg=f"chain {seed}")
    assert refused > CHAINS / 10
    assert sum("blocks" in way for way in ways) > CHAINS / 4
