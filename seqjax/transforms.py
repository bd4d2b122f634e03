"""Cells made from cells."""

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Noise, PyTree, is_noise


def stack(*cells: Cell) -> Cell:
    """Cells on top of each other: each reads the output of the one below at the same tick.

        state_l', y_l = step_l(params_l, state_l, y_{l-1})      y_0 = x

    Args:
      *cells: from the input upwards.

    Returns:
      A cell whose params and state are tuples, one entry a layer, and whose output is the topmost output.

    Raises:
      ValueError: no cell.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.stack(sj.lstm(8, 16), sj.gru(16, 4))
      >>> len(cell.init(jax.random.key(0)))
      2
    """
    if not cells:
        raise ValueError("stack: expected at least one cell, got none. Pass the cells from the input upwards.")

    def init(key: Array) -> tuple:
        return tuple(cell.init(k) for cell, k in zip(cells, jax.random.split(key, len(cells))))

    def initial_state(params: tuple, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> tuple:
        keys = [None] * len(cells) if key is None else jax.random.split(key, len(cells))
        return tuple(cell.initial_state(p, batch_shape, key=k) for cell, p, k in zip(cells, params, keys))

    def step(params: tuple, state: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        new = []
        for cell, p, s in zip(cells, params, state):
            s, x = cell.step(p, s, x)
            new.append(s)
        return tuple(new), x

    return Cell(init, initial_state, step)


def per_example(draw, keys: Array) -> PyTree:
    """``draw(key)`` for every key of an array ``[*B]`` of keys, so that a batch equals its examples one by one."""
    for _ in range(keys.ndim):
        draw = jax.vmap(draw)
    return draw(keys)


def example_keys(key: Array, batch_shape: tuple[int, ...]) -> Array:
    """One key an example, ``[*B]``."""
    return jax.random.split(key, batch_shape) if batch_shape else key


def zoneout(cell: Cell, rate: PyTree) -> Cell:
    """Zoneout: each tick, each unit of the state keeps its old value with probability ``rate``.

        s' = m ⊙ s + (1-m) ⊙ step(s, x)      m ~ Bernoulli(rate), new each tick and unit

    Without a key the expected value is taken, s' = rate · s + (1-rate) · step(s, x). Outputs that are leaves of the
    state (``y = h'``) follow the state.

    Args:
      cell: the cell to regularise.
      rate: one rate for all leaves of the state, or a tree of rates like the state (``LSTMState(h=.05, c=.5)``).

    Returns:
      A cell with state ``(state, Noise(keys))``, one key an example.

    Raises:
      ValueError: a rate outside [0, 1).

    References:
      Krueger et al. (2017), Zoneout: regularizing RNNs by randomly preserving hidden activations.
      https://arxiv.org/abs/1606.01305
    """
    for one in jax.tree.leaves(rate):
        checks.rate("zoneout", one)

    def initial_state(params: PyTree, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> tuple:
        if key is None:
            return cell.initial_state(params, batch_shape), Noise(None)
        inner, own = jax.random.split(key)
        return cell.initial_state(params, batch_shape, key=inner), Noise(example_keys(own, batch_shape))

    def step(params: PyTree, state: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        old, noise = state
        new, y = cell.step(params, old, x)
        if noise.value is not None:
            keys = per_example(jax.random.split, noise.value)
            noise, draws = Noise(keys[..., 0]), keys[..., 1]

        def leaf(index: int, rate: float, old: Array, new: Array) -> Array:
            if is_noise(new) or not jnp.issubdtype(new.dtype, jnp.inexact):
                return new
            if noise.value is None:
                return rate * old + (1 - rate) * new
            unit_shape = old.shape[draws.ndim :]
            hold = per_example(
                lambda key: jax.random.bernoulli(jax.random.fold_in(key, index), rate, unit_shape), draws
            )
            return jnp.where(hold, old, new)

        new_leaves, tree = jax.tree.flatten(new, is_leaf=is_noise)
        old_leaves = jax.tree.leaves(old, is_leaf=is_noise)
        rates = jax.tree.leaves(jax.tree.broadcast(rate, new, is_leaf=is_noise))
        zoned = [leaf(i, *each) for i, each in enumerate(zip(rates, old_leaves, new_leaves))]
        follow = {id(before): after for before, after in zip(new_leaves, zoned)}
        return (tree.unflatten(zoned), noise), jax.tree.map(lambda y: follow.get(id(y), y), y)

    return Cell(cell.init, initial_state, step)
