"""What a recurrence starts from: a learned or random state, or a bias of its own at the first tick."""

from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import scales
from seqjax.base import Array, Cell, Params, PyTree, State, is_noise
from seqjax.products import along
from seqjax.records import maker
from seqjax.transforms.noise import example_keys, per_example


class LearnedInitialStateParams(NamedTuple):
    """The cell's parameters, and what is added to its initial state: one sequence's state, None for noise."""

    cell: PyTree
    state: PyTree


@maker
def learned_initial_state(cell: Cell[Any, State]) -> Cell[LearnedInitialStateParams, State]:
    """A cell whose initial state is a parameter.

        s_0 = s_cell + θ      θ starts at zero; s_cell is the cell's own initial state, zero in most cells

    Where values share a scale (`seqjax.scales`), s_cell has a memory of weight one, and weights are multiplied by
    exp(θ): an sLSTM starts from c = θ_c, n = exp(θ_n), m = θ_m.

    Every example starts from the same θ, and so does every segment after a reset. Only floats are learned,
    not counters or `Noise`.

    Args:
      cell: any cell.

    Returns:
      A cell with params `LearnedInitialStateParams` and the cell's state.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.learned_initial_state(sj.gru(3, 2))
      >>> cell.init(jax.random.key(0)).state.tolist()
      [0.0, 0.0]

    References:
      Forcada and Carrasco (1995), Learning the initial state of a second-order recurrent neural network
      during regular-language inference. https://doi.org/10.1162/neco.1995.7.5.923
    """

    def init(key: Array) -> LearnedInitialStateParams:
        params = cell.init(key)
        state = cell.initial_state(params)
        return LearnedInitialStateParams(params, _floats(lambda s: jnp.zeros_like(s), state))

    def initial_state(
        params: LearnedInitialStateParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> PyTree:
        state = _begun(cell.initial_state(params.cell, batch_shape, key=key))

        def add(s: Array, learned: Array | None, weight: bool) -> Array:
            if learned is None:
                return s
            return s * along(jnp.exp(learned), s) if weight else s + along(learned, s)

        return jax.tree.map(add, state, params.state, _weights(state), is_leaf=is_noise)

    def step(params: LearnedInitialStateParams, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        return cell.step(params.cell, state, x)

    return Cell(init, initial_state, step)


@maker
def random_initial_state(cell: Cell[Params, State], scale: float) -> Cell[Params, State]:
    """A cell whose initial state is drawn at random, so that training does not rest on one start.

        s_0 = s_cell + scale · ε      ε ~ N(0, 1), one draw an example and unit

    Drawn by ``initial_state(..., key=key)``; without a key, and after a reset, s_0 = s_cell. Where values share a
    scale (`seqjax.scales`), s_cell has a memory of weight one, and weights are not moved.

    Args:
      cell: any cell.
      scale: standard deviation.

    Returns:
      A cell with the cell's params and state.

    Raises:
      ValueError: a scale below 0.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.random_initial_state(sj.gru(3, 2), 0.1)
      >>> params = cell.init(jax.random.key(0))
      >>> cell.initial_state(params).tolist(), cell.initial_state(params, key=jax.random.key(1)).shape
      ([0.0, 0.0], (2,))

    References:
      Zimmermann, Tietz and Grothmann (2012), Forecasting with recurrent neural networks: 12 tricks (trick 2).
      https://doi.org/10.1007/978-3-642-35289-8_37
    """
    if not isinstance(scale, Real) or not scale >= 0:
        raise ValueError(
            f"random_initial_state: expected a scale of at least 0, got {scale!r}. Set the standard deviation."
        )
    scale = float(scale)

    def initial_state(params: PyTree, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> PyTree:
        if key is None:
            return cell.initial_state(params, batch_shape)
        inner, own = jax.random.split(key)
        keys = example_keys(own, batch_shape)
        state = _begun(cell.initial_state(params, batch_shape, key=inner))
        leaves, tree = jax.tree.flatten(state, is_leaf=is_noise)
        weights = jax.tree.leaves(_weights(state))

        def moved(index: int, s: Array) -> Array:
            if not _is_float(s) or weights[index]:
                return s
            unit_shape = s.shape[len(batch_shape) :]
            return s + scale * per_example(
                lambda key: jax.random.normal(jax.random.fold_in(key, index), unit_shape, s.dtype), keys
            )

        return tree.unflatten(moved(i, s) for i, s in enumerate(leaves))

    return Cell(cell.init, initial_state, cell.step)


class FirstBiasParams(NamedTuple):
    """The cell's parameters, and the bias that takes the place of its ``b`` at the first tick."""

    cell: PyTree
    b: PyTree


class FirstBiasState(NamedTuple):
    """The cell's state, and whether no tick has been yet, ``[*B]`` of bool."""

    cell: PyTree
    first: Array


@maker
def first_bias(cell: Cell) -> Cell[FirstBiasParams, FirstBiasState]:
    """A cell with a bias of its own for the first tick, in place of the bias of all others.

        b_t = b_first if t = 1 else b      h_1 = φ(x_1 W + b_first) for an Elman cell from h_0 = 0

    Not the same as a learned initial state: it enters the gates and is not multiplied by U. The first tick
    after a reset counts as a first tick. b_first starts as a copy of b. A GRU's inner bias stays as it is.

    Args:
      cell: a single cell with a bias ``b``; in a stack, wrap the cells it is made of.

    Returns:
      A cell with params `FirstBiasParams` and state `FirstBiasState`.

    Raises:
      ValueError: the cell's parameters have no bias ``b``.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.first_bias(sj.elman(3, 2))
      >>> cell.init(jax.random.key(0)).b.shape
      (2,)

    References:
      Sutskever, Martens and Hinton (2011), Generating text with recurrent neural networks.
      https://icml.cc/2011/papers/524_icmlpaper.pdf
    """

    def init(key: Array) -> FirstBiasParams:
        params = cell.init(key)
        b = getattr(params, "b", None)
        if not jax.tree.leaves(b):
            raise ValueError(
                "first_bias: expected a cell whose parameters have a bias b, got "
                f"{type(params).__name__} without. Give it one; wrap the cells of a stack one by one."
            )
        return FirstBiasParams(params, jax.tree.map(jnp.array, b))

    def initial_state(
        params: FirstBiasParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> FirstBiasState:
        return FirstBiasState(cell.initial_state(params.cell, batch_shape, key=key), jnp.ones(batch_shape, bool))

    def step(params: FirstBiasParams, state: FirstBiasState, x: PyTree) -> tuple[FirstBiasState, PyTree]:
        first = state.first[..., None]
        b = jax.tree.map(lambda own, b: jnp.where(first, own, b), params.b, params.cell.b)
        inner, y = cell.step(params.cell._replace(b=b), state.cell, x)
        return FirstBiasState(inner, jnp.zeros_like(state.first)), y

    return Cell(init, initial_state, step)


def _begun(state: PyTree) -> PyTree:
    """The state, where values share a scale with something kept that can be added to."""
    begin = lambda node: scales.begun(node) if scales.is_scaled(node) else node
    return jax.tree.map(begin, state, is_leaf=lambda node: is_noise(node) or scales.is_scaled(node))


def _weights(state: PyTree) -> PyTree:
    """Which leaves are weights, which stay positive."""

    def of(node: PyTree) -> PyTree:
        if not scales.is_scaled(node):
            return False
        return type(node)(*(name in node.weights for name in node._fields))

    return jax.tree.map(of, state, is_leaf=lambda node: is_noise(node) or scales.is_scaled(node))


def _is_float(s: PyTree) -> bool:
    return not is_noise(s) and jnp.issubdtype(s.dtype, jnp.inexact)


def _floats(function, state: PyTree) -> PyTree:
    """``function`` of every float of a state, None in the place of anything else."""
    return jax.tree.map(lambda s: function(s) if _is_float(s) else None, state, is_leaf=is_noise)
