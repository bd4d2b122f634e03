"""Initialisers of recurrent weights: one draw a gate block, and biases that know which gate they sit in.

Weights take the initialisers of `jax.nn.initializers` (``(key, shape, dtype) -> array``). A bias initialiser
here is ``(key, gates, hidden_size, dtype) -> [len(gates) * hidden_size]`` with the gates' names in the cell's
order. All know their maker, as cells do: equal for equal options, to be pickled and printed.

>>> orthogonal(0.5), only("f", init=chrono(100)), chrono(100) == chrono(longest=100)
(orthogonal(0.5), only('f', init=chrono(100)), True)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, fixing
from seqjax.base import Array
from seqjax.products import Bias, Biases, accumulator, bias_blocks
from seqjax.records import maker

__all__ = [
    "BiasInitializer",
    "GateWeights",
    "Initializer",
    "chrono",
    "forget_bias",
    "gate_weights",
    "glorot_uniform",
    "head_weights",
    "identity",
    "input_weights",
    "lstm_bias",
    "only",
    "orthogonal",
    "recurrent_weights",
    "spectral_radius",
    "two_biases",
    "uniform",
    "zero_bias",
]

Initializer = Callable[..., Array]
BiasInitializer = Callable[..., Bias]


@maker
def glorot_uniform() -> Initializer:
    """U(-√(6/(d+h)), √(6/(d+h))) for weights ``[d, h]``.

    References:
      Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural networks.
      https://proceedings.mlr.press/v9/glorot10a.html
    """
    return jax.nn.initializers.glorot_uniform()


@maker
def orthogonal(scale: float = 1.0) -> Initializer:
    """``scale`` times a random orthogonal matrix, so that products with it keep lengths.

    References:
      Saxe, McClelland and Ganguli (2013), Exact solutions to the nonlinear dynamics of learning in deep linear neural
      networks. https://arxiv.org/abs/1312.6120

    >>> w = orthogonal()(jax.random.key(0), (3, 3), jnp.float32)
    >>> bool(jnp.allclose(w @ w.T, jnp.eye(3), atol=1e-6))
    True
    """
    return jax.nn.initializers.orthogonal(scale)


input_weights = glorot_uniform()
recurrent_weights = orthogonal()


@maker
def identity(scale: float = 1.0) -> Initializer:
    """``scale · I``: with relu and zero bias the IRNN, which starts by remembering everything.

    References:
      Le, Jaitly and Hinton (2015), A simple way to initialize recurrent networks of rectified linear units.
      https://arxiv.org/abs/1504.00941

    >>> identity(0.5)(jax.random.key(0), (2, 2), jnp.float32).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    return lambda key, shape, dtype: scale * jnp.eye(shape[0], shape[1], dtype=dtype)


@maker
def uniform(hidden_size: int) -> Initializer:
    """U(-1/√h, 1/√h), the default of `torch.nn.LSTM`, for weights ``[d, h]``."""
    bound = hidden_size**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


@maker
def spectral_radius(radius: float, density: float = 1.0) -> Initializer:
    """A random matrix scaled so that its largest eigenvalue has modulus ``radius``.

    Entries are uniform in [-1, 1], each kept with probability ``density``. The eigenvalues are found once, on
    the host, in float64; the function cannot be traced.

    References:
      Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks.
    """
    if not radius >= 0:
        raise ValueError(f"spectral_radius: expected a radius of at least 0, got {radius!r}. Set radius.")
    if not 0 < density <= 1:
        raise ValueError(f"spectral_radius: expected a density in (0, 1], got {density!r}. Use 1 for a dense matrix.")

    def init(key: Array, shape: tuple[int, int], dtype: jnp.dtype) -> Array:
        if fixing.asked():
            return jnp.zeros(shape, dtype)
        weights_key, mask_key = jax.random.split(key)
        drawn = jax.random.uniform(weights_key, shape, minval=-1, maxval=1)
        kept = jax.random.bernoulli(mask_key, density, shape)
        w = np.asarray(jnp.where(kept, drawn, 0), np.float64)
        largest = np.abs(np.linalg.eigvals(w)).max()
        if largest == 0:
            raise ValueError(
                "spectral_radius: expected a matrix with an eigenvalue other than 0, got none at shape "
                f"{shape} and density {density}. Raise one of them."
            )
        return jnp.asarray(w * (radius / largest), dtype)

    return init


def zero_bias(key: Array, gates: tuple[str, ...], hidden_size: int, dtype: jnp.dtype) -> Array:
    """Zeros in every gate."""
    return jnp.zeros(len(gates) * hidden_size, dtype)


@maker
def forget_bias(value: float = 1.0) -> BiasInitializer:
    """``value`` in the forget gate, zeros elsewhere, so that an untrained cell remembers.

    References:
      Jozefowicz, Zaremba and Sutskever (2015), An empirical exploration of recurrent network architectures.
      https://proceedings.mlr.press/v37/jozefowicz15.html

    >>> forget_bias(1.0)(jax.random.key(0), ("i", "f"), 2, jnp.float32).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """

    def init(key: Array, gates: tuple[str, ...], hidden_size: int, dtype: jnp.dtype) -> Array:
        return jnp.concatenate([jnp.full(hidden_size, value if gate == "f" else 0.0, dtype) for gate in gates])

    return init


lstm_bias = forget_bias(1.0)


@maker
def chrono(longest: float) -> BiasInitializer:
    """Biases that spread memory over 1 … ``longest`` ticks: b_f = ln U(1, longest - 1), b_i = -b_f.

    In a cell of the form h' = z ⊙ h + (1-z) ⊙ n the copying gate z takes the part of f; where the gates are
    called u (update) and f, as in `seqjax.reset_lstm`, u takes the part of i. Other gates get zero.

    References:
      Tallec and Ollivier (2018), Can recurrent neural networks warp time? https://arxiv.org/abs/1804.11188
    """
    if not longest > 2:
        raise ValueError(f"chrono: expected a longest memory of more than 2 ticks, got {longest!r}. Raise it.")

    def init(key: Array, gates: tuple[str, ...], hidden_size: int, dtype: jnp.dtype) -> Array:
        memory = jnp.log(jax.random.uniform(key, (hidden_size,), dtype, 1, longest - 1))
        signs = {"f": 1, "z": 1, "i": -1, "u": -1}
        return jnp.concatenate([signs.get(gate, 0) * memory for gate in gates])

    return init


@maker
def only(*biased: str, init: BiasInitializer = zero_bias) -> BiasInitializer:
    """A bias in the named gates and in no other: an absent bias is no parameter.

    The parameter ``b`` is then a tuple, one entry a gate: ``[h]``, or None where there is no bias.

    Args:
      *biased: names of gates, in any order.
      init: draws the bias of all gates, of which the named ones are kept.

    Raises:
      ValueError: when drawing, if the cell has no gate of a name.

    >>> only("i", "f", init=forget_bias(1.0))(jax.random.key(0), ("i", "f", "g"), 1, jnp.float32)
    (Array([0.], dtype=float32), Array([1.], dtype=float32), None)
    """

    def draw(key: Array, gates: tuple[str, ...], hidden_size: int, dtype: jnp.dtype) -> tuple[Array | None, ...]:
        for name in biased:
            checks.choice("only", "the gate with a bias", name, gates)
        blocks = bias_blocks(init(key, gates, hidden_size, dtype), len(gates))
        return tuple(block if gate in biased else None for gate, block in zip(gates, blocks))

    return draw


@maker
def two_biases(init: BiasInitializer = zero_bias, *, gates: tuple[str, ...] | None = None) -> BiasInitializer:
    """Two biases that are added, one beside each product, as torch and cuDNN keep them: `seqjax.products.Biases`.

        x W + b  +  h U + c

    b is drawn by ``init``, c starts at zero. ``gates`` names those that have both, all if None; an unknown one raises a
    ValueError. A GRU's candidate has its c inside the reset, so for `seqjax.gru` they are r and z.

    >>> two_biases(forget_bias(1.0))(jax.random.key(0), ("i", "f"), 1, jnp.float32)
    Biases(input=Array([0., 1.], dtype=float32), recurrent=Array([0., 0.], dtype=float32))
    """

    def draw(key: Array, names: tuple[str, ...], hidden_size: int, dtype: jnp.dtype) -> Any:
        b: Any = init(key, names, hidden_size, dtype)
        if gates is None:
            return Biases(b, jnp.zeros_like(b))
        for name in gates:
            checks.choice("two_biases", "the gate with two biases", name, names)
        blocks = bias_blocks(b, len(names))
        both = lambda block: Biases(block, jnp.zeros_like(block))
        return tuple(both(block) if name in gates else block for name, block in zip(names, blocks))

    return draw


def head_weights(
    key: Array,
    gates: tuple[str, ...],
    hidden_size: int,
    heads: int,
    *,
    init: Initializer = recurrent_weights,
    dtype: jnp.dtype | None = None,
) -> Array:
    """Recurrent weights ``[n, k, g k]`` of n heads of k units: each head's each gate by a draw of its own."""
    dtype = jnp.dtype(dtype or jnp.zeros(()).dtype)
    size = hidden_size // heads
    draw = lambda key: init(key, (size, size), accumulator(dtype))
    rows = [[draw(k) for k in jax.random.split(own, len(gates))] for own in jax.random.split(key, heads)]
    return jnp.stack([jnp.concatenate(row, axis=1) for row in rows]).astype(dtype)


class GateWeights(NamedTuple):
    """``x w_x + h w_h + b`` for all gates of a cell side by side."""

    w_x: Array
    w_h: Array
    b: Bias


def gate_weights(
    key: Array,
    gates: tuple[str, ...],
    input_size: int,
    hidden_size: int,
    *,
    recurrent_size: int | None = None,
    w_x_init: Initializer = input_weights,
    w_h_init: Initializer = recurrent_weights,
    b_init: BiasInitializer | None = zero_bias,
    dtype: jnp.dtype | None = None,
) -> GateWeights:
    """Draws ``w_x [d, k h]``, ``w_h [r, k h]``, ``b [k h]``, every gate's block by a draw of its own.

    One orthogonal draw of ``[h, k h]`` would not make any gate's square block orthogonal.

    Args:
      key: one JAX key.
      gates: the gates' names, in order; k is their number.
      input_size: d.
      hidden_size: h.
      recurrent_size: r, the size of what is fed back; h if None.
      w_x_init: initialiser of each ``[d, h]`` block.
      w_h_init: initialiser of each ``[r, h]`` block.
      b_init: bias initialiser; None for a cell without bias.
      dtype: of the parameters; JAX's default float if None.

    Returns:
      The weights, ``b`` None where there is no bias.
    """
    dtype = jnp.dtype(dtype or jnp.zeros(()).dtype)
    w_x_key, w_h_key, b_key = jax.random.split(key, 3)

    def blocks(init: Initializer, key: Array, rows: int) -> Array:
        draws = [init(k, (rows, hidden_size), accumulator(dtype)) for k in jax.random.split(key, len(gates))]
        return jnp.concatenate(draws, axis=1).astype(dtype)

    return GateWeights(
        blocks(w_x_init, w_x_key, input_size),
        blocks(w_h_init, w_h_key, recurrent_size or hidden_size),
        None if b_init is None else b_init(b_key, gates, hidden_size, dtype),
    )
