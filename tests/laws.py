"""What the laws over cells and over layers share: states, masks, a loss, comparison."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import is_noise

T, B = 7, 3
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

LENGTHS = jnp.array([7, 4, 0])
RESET = jnp.zeros((T, B), bool).at[3, 0].set(True).at[2, 1].set(True).at[0, 0].set(True)
MASKS = {
    "lengths": sj.masks.from_lengths(LENGTHS, T),
    "holes": jnp.array(np.random.default_rng(0).random((T, B)) > 0.4).at[:, 2].set(False),
}


def state_of(module, params, batch=(B,), key=None):
    """A state away from zero, with noise if there is a key."""
    state = module.initial_state(params, batch, key=key)
    leaves, tree = jax.tree.flatten(state, is_leaf=is_noise)
    keys = jax.random.split(jax.random.key(4), max(len(leaves), 1))
    moved = [
        s
        if is_noise(s) or not jnp.issubdtype(s.dtype, jnp.inexact)
        else s + 0.3 * jnp.broadcast_to(jax.random.normal(k, s.shape, s.dtype), s.shape)
        for s, k in zip(leaves, keys)
    ]
    return tree.unflatten(moved)


def restarted(module, params, state):
    """The initial state with the noise of ``state``: what a reset makes of one example."""
    return jax.tree.map(
        lambda fresh, old: old if is_noise(old) else fresh,
        module.initial_state(params),
        state,
        is_leaf=is_noise,
    )


def at(tree, *index):
    """One tick, one example, or one example's tick."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def each(tree, b):
    """One example of a tree with time in front of the batch."""
    return jax.tree.map(lambda leaf: leaf[:, b], tree)


@functools.partial(jax.jit, static_argnums=1)
def stack(rows, axis):
    """A list of equal trees as one, along a new axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *rows)


def plain(tree):
    """Keys as their data, so that trees of numbers can be compared."""

    def leaf(x):
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    return jax.tree.map(leaf, tree)


def assert_close(a, b, **tolerance):
    chex.assert_trees_all_close(plain(a), plain(b), **(tolerance or TOLERANCE))


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def loss(result):
    """A scalar in which every number of the result has a weight of its own."""
    return sum((x * jnp.cos(jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))).sum() for x in floats(result))


def valued(f, argnums=0):
    """``f -> result`` as ``(result, gradient of loss(result))``."""

    def scalar(*args):
        result = f(*args)
        return loss(result), result

    def both(*args):
        (_, result), gradient = jax.value_and_grad(scalar, argnums, has_aux=True, allow_int=True)(*args)
        return result, gradient

    return both


def poison(mask, xs):
    """NaN at masked ticks of float inputs, another symbol at masked ticks of integer ones."""

    def leaf(x):
        m = mask.reshape(mask.shape + (1,) * (x.ndim - 2))
        return jnp.where(m, x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.where(m, x, 0)

    return jax.tree.map(leaf, xs)


class no_compiles:
    """Fails if anything is compiled inside."""

    def __enter__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event, duration, **_):
        self.count += event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self._listen)
        assert self.count == 0, f"{self.count} compilations"
