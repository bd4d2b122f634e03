"""What the laws over cells and over layers share: states, masks, a loss, comparison."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from zoo import normal_like

import seqjax as sj
from seqjax.base import is_noise

T, B = 7, 3
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

LENGTHS = jnp.array([7, 4, 0])
RESET = jnp.array([[(t, b) in {(0, 0), (2, 1), (3, 0)} for b in range(B)] for t in range(T)])
MASKS = {
    "lengths": sj.masks.from_lengths(LENGTHS, T),
    "holes": jnp.array((np.random.default_rng(0).random((T, B)) > 0.4) & (np.arange(B) != 2)),
}


@functools.partial(jax.jit, static_argnums=(0, 2))
def state_of(module, params, batch=(B,), key=None):
    """A state away from zero, with noise if there is a key."""
    rng = np.random.default_rng(4)
    return jax.tree.map(
        lambda s: s if is_noise(s) or not jnp.issubdtype(s.dtype, jnp.inexact) else s + 0.3 * normal_like(rng, s),
        module.initial_state(params, batch, key=key),
        is_leaf=is_noise,
    )


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


@functools.partial(jax.jit, static_argnames="join")
def batched(rows, join):
    """Examples, each its last state and the outputs of its ticks, as one batch of them."""
    states, outs = zip(*((state, join(ys)) for state, ys in rows))
    return stack(states, 0), stack(outs, 1)


def plain(tree):
    """Keys as their data, so that trees of numbers can be compared."""

    def leaf(x):
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    return jax.tree.map(leaf, tree)


def assert_close(a, b, **tolerance):
    chex.assert_trees_all_close(plain(a), plain(b), **(tolerance or TOLERANCE))


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


@jax.jit
def loss(result):
    """A scalar in which every number of the result has a weight of its own, and each part of a complex one."""
    parts = [part for x in floats(result) for part in ((x.real, x.imag) if jnp.iscomplexobj(x) else (x,))]
    return sum((x * jnp.cos(jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))).sum() for x in parts)


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
