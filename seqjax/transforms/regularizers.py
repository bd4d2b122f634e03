"""Noise in a recurrence: zoneout, variational and recurrent dropout, dropped weights."""

import itertools

import jax
import jax.numpy as jnp

from seqjax import checks, masks, scales
from seqjax.base import Array, Cell, Noise, Params, PyTree, State, is_noise
from seqjax.records import maker
from seqjax.transforms.noise import drop, per_example, with_keys
from seqjax.transforms.replay import change_recurrent_inputs, change_state


@maker
def variational_dropout(cell: Cell[Params, State], rate: float) -> Cell[Params, tuple[State, Noise]]:
    """Dropout of a cell's inputs with one mask a sequence: the same units are missing at every tick.

        s', y = step(s, m ⊙ x / (1-rate))      m ~ Bernoulli(1-rate), drawn once a sequence and example

    Without a key nothing is dropped. `seqjax.redraw` draws a new mask. For dropout between layers with a new
    mask at every tick (Zaremba) see `seqjax.dropout`; for the recurrent half of the paper,
    `recurrent_dropout`.

    Args:
      cell: the cell to regularise.
      rate: probability of dropping a number of the input.

    Returns:
      A cell with state ``(state, Noise(keys))``, one key an example; the mask follows from the key.

    Raises:
      ValueError: a rate outside [0, 1).
      TypeError: inputs without floats, such as symbols.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.variational_dropout(sj.elman(3, 2), 0.5)
      >>> state, noise = cell.initial_state(cell.init(jax.random.key(0)), (4,), key=jax.random.key(1))
      >>> noise.value.shape
      (4,)

    References:
      Gal and Ghahramani (2016), A theoretically grounded application of dropout in recurrent neural networks.
      https://arxiv.org/abs/1512.05287
    """
    checks.rate("variational_dropout", rate)
    rate = float(rate)

    def step(params: PyTree, state: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        inner, noise = state
        if not any(_is_float(leaf) for leaf in jax.tree.leaves(x)):
            raise TypeError(
                "variational_dropout: expected inputs with floats to drop, got "
                f"{jax.tree.map(lambda leaf: str(leaf.dtype), x)}. Embed symbols first."
            )
        if noise.value is not None:
            leaves, tree = jax.tree.flatten(x)
            keys = noise.value
            x = tree.unflatten(drop(leaf, keys, i, rate) if _is_float(leaf) else leaf for i, leaf in enumerate(leaves))
        inner, y = cell.step(params, inner, x)
        return (inner, noise), y

    return with_keys(cell, step)


@maker
def recurrent_dropout(cell: Cell[Params, State], rate: float) -> Cell[Params, tuple[State, Noise]]:
    """Dropout of h where it enters the recurrent products, with one mask a sequence.

        every product h U of the step becomes (m ⊙ h / (1-rate)) U      m ~ Bernoulli(1-rate)

    The mask is drawn once a sequence and example, and shared by all gates. Where the step copies h (z ⊙ h in
    a GRU) nothing is dropped. The cell says which h it is: it marks it with `seqjax.recurrent_input`, as all
    cells of this package do; the transform finds the mark in the traced step, in functions under `jax.jit`
    too. Without a key nothing is dropped.

    Args:
      cell: the cell to regularise.
      rate: probability of dropping a unit of h.

    Returns:
      A cell with state ``(state, Noise(keys))``, one key an example; the mask follows from the key.

    Raises:
      ValueError: a rate outside [0, 1); a step without a mark, or with one inside a loop or a branch.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.recurrent_dropout(sj.lstm(3, 2), 0.25)
      >>> state, noise = cell.initial_state(cell.init(jax.random.key(0)), (4,), key=jax.random.key(1))
      >>> noise.value.shape
      (4,)

    References:
      Gal and Ghahramani (2016), A theoretically grounded application of dropout in recurrent neural networks.
      https://arxiv.org/abs/1512.05287
    """
    checks.rate("recurrent_dropout", rate)
    rate = float(rate)

    def step(params: PyTree, state: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        inner, noise = state
        if noise.value is None:
            inner, y = cell.step(params, inner, x)
        else:
            inner, y = change_recurrent_inputs(cell.step, params, inner, x, lambda i, h: drop(h, noise.value, i, rate))
        return (inner, noise), y

    return with_keys(cell, step)


@maker
def zoneout(cell: Cell[Params, State], rate: PyTree) -> Cell[Params, tuple[State, Noise]]:
    """Zoneout: each tick, each unit of the state keeps its old value with probability ``rate``.

        s' = m ⊙ s + (1-m) ⊙ step(s, x)      m ~ Bernoulli(rate), new each tick and unit

    Without a key the expected value is taken, s' = rate · s + (1-rate) · step(s, x). In an LSTM the new h is
    computed from the new c before any unit keeps its old value, as in the paper. What the output takes from
    the state (``y = h'``) it takes from the zoned-out one.

    Args:
      cell: the cell to regularise.
      rate: one rate for all leaves of the state, or a tree of rates like the state (``LSTMState(h=.05,
        c=.5)``).

    Returns:
      A cell with state ``(state, Noise(keys))``, one key an example.

    Raises:
      ValueError: a rate outside [0, 1), or rates that do not fit the state.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.zoneout(sj.lstm(3, 2), sj.LSTMState(h=0.05, c=0.5))
      >>> state, noise = cell.initial_state(cell.init(jax.random.key(0)))
      >>> noise
      Noise(value=None)

    References:
      Krueger et al. (2017), Zoneout: regularizing RNNs by randomly preserving hidden activations.
      https://arxiv.org/abs/1606.01305
    """
    for one in jax.tree.leaves(rate):
        checks.rate("zoneout", one)

    def step(params: PyTree, state: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        old, noise = state
        draws = None
        if noise.value is not None:
            keys = per_example(jax.random.split, noise.value)
            noise, draws = Noise(keys[..., 0]), keys[..., 1]

        def leaf(index: int, rate: float, old: Array, new: Array) -> Array:
            if is_noise(new) or not _is_float(new):
                return new
            if draws is None:
                return rate * old + (1 - rate) * new
            units = old.shape[draws.ndim :]
            hold = per_example(lambda key: jax.random.bernoulli(jax.random.fold_in(key, index), rate, units), draws)
            return masks.select(hold, old, new)

        def zone(new: PyTree) -> PyTree:
            new_leaves, tree = jax.tree.flatten(new, is_leaf=is_noise)
            old_leaves = jax.tree.leaves(old, is_leaf=is_noise)
            rates = _rates(rate, new)
            zoned = tree.unflatten(leaf(i, *each) for i, each in enumerate(zip(rates, old_leaves, new_leaves)))
            return _with_scales(zoned, old, new, rate, draws)

        new, y = change_state(cell.step, params, old, x, zone)
        return (new, noise), y

    return with_keys(cell, step)


def _with_scales(zoned: PyTree, old: PyTree, new: PyTree, rate: PyTree, draws: Array | None) -> PyTree:
    """Values that share a scale keep it: they are held together, or mixed as what they stand for."""
    counted = itertools.count(1)

    def node(zoned: PyTree, old: PyTree, new: PyTree, rate: PyTree) -> PyTree:
        index = next(counted)
        if not scales.is_scaled(new):
            return zoned
        for group, (m, values) in enumerate(new.scales.items()):
            share = _one_rate(rate, (m, *values))
            if draws is None:
                changed = scales.mixed(share, old, new, m)
            else:
                hold = _held(draws, (index, group), share, getattr(new, m).shape[draws.ndim :])
                changed = scales.chosen(hold, old, new, m)
            zoned = zoned._replace(**changed)
        return zoned

    rates = jax.tree.broadcast(rate, new, is_leaf=is_noise)
    return jax.tree.map(node, zoned, old, new, rates, is_leaf=lambda n: is_noise(n) or scales.is_scaled(n))


def _held(draws: Array, place: tuple[int, int], rate: float, units: tuple[int, ...]) -> Array:
    """Which units of a record's group keep their old value; leaves by themselves fold in one number, groups two."""

    def draw(key: Array) -> Array:
        return jax.random.bernoulli(jax.random.fold_in(jax.random.fold_in(key, place[0]), place[1]), rate, units)

    return per_example(draw, draws)


def _one_rate(rate: PyTree, names: tuple[str, ...]) -> float:
    rates = sorted({float(getattr(rate, name)) for name in names})
    if len(rates) > 1:
        raise ValueError(
            f"zoneout: expected one rate for {', '.join(names)}, which share a scale, got {rates}. Give them the same."
        )
    return rates[0]


def _rates(rate: PyTree, state: PyTree) -> list[float]:
    whole = jax.tree.map(lambda leaf: 0.0 if is_noise(leaf) else leaf, state, is_leaf=is_noise)  # drawn or not, a leaf
    try:
        return [float(r) for r in jax.tree.leaves(jax.tree.broadcast(rate, whole))]
    except ValueError as error:
        raise ValueError(
            f"zoneout: expected one rate, or rates like the state {jax.tree.structure(state)}, got {rate!r}. "
            "Give a tree of the state's type, such as LSTMState(h=0.05, c=0.5)."
        ) from error


def weight_drop(params: PyTree, key: Array | None, rate: float, *, names: tuple[str, ...] = ("w_h",)) -> PyTree:
    """DropConnect on recurrent weights: a function of parameters, applied once a sequence, before `unroll`.

        U ← m ⊙ U / (1-rate)      m ~ Bernoulli(1-rate), one a weight

    The same weights are missing at every tick and for every example. Gradients go to the weights that were
    kept.

    Args:
      params: of any cell, layer or model.
      key: one JAX key; None drops nothing.
      rate: probability of dropping a weight.
      names: of the fields to drop from; the recurrent weights of the cells in this package are called
        ``w_h``.

    Returns:
      Parameters of the same structure.

    Raises:
      ValueError: a rate outside [0, 1), or no field of such a name.

    Example:
      >>> import jax, seqjax as sj
      >>> params = sj.gru(3, 50).init(jax.random.key(0))
      >>> dropped = sj.weight_drop(params, jax.random.key(1), 0.5)
      >>> 0.45 < float((dropped.w_h == 0).mean()) < 0.55, bool((dropped.w_x == params.w_x).all())
      (True, True)

    References:
      Merity, Keskar and Socher (2018), Regularizing and optimizing LSTM language models.
      https://arxiv.org/abs/1708.02182
    """
    checks.rate("weight_drop", rate)
    rate = float(rate)
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    chosen = [jax.tree_util.keystr(path[-1:], simple=True) in names for path, _ in paths]
    if not any(chosen):
        raise ValueError(
            f"weight_drop: expected parameters with a field called {' or '.join(names)}, got none. Pass names=."
        )
    if key is None:
        return params
    leaves = [leaf for _, leaf in paths]
    return tree.unflatten(
        drop(leaf, key, i, rate) if hit else leaf for i, (leaf, hit) in enumerate(zip(leaves, chosen))
    )


def _is_float(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)
