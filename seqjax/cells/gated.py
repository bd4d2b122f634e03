"""One specification of gated cells: what the LSTMs and GRUs of the literature choose, as options that combine."""

from typing import Any, Literal, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell, Key
from seqjax.cells.factory import Activation, GateOptions, checked, drawing, from_gates, weighted
from seqjax.cells.states import LSTMState, zeros
from seqjax.cells.sums import normalize, through_reset
from seqjax.initializers import Initializer, gate_weights
from seqjax.products import Bias, add_bias, along, dot, preactivation
from seqjax.records import maker


class GatedLSTMParams(NamedTuple):
    """``w_x [d, kh]``, ``w_h [p, kh]``, ``b [kh]`` of k gates; None for what the options leave out.

    ``w_c``: peepholes of i, f, o, as many as there are, each ``[h]`` if diagonal, ``[h, h]`` if full, side by side;
    ``gain [kh]`` of the normalisation; ``w_p [h, p]`` of the projection, p = h without one.
    """

    w_x: Array
    w_h: Array
    w_c: Array | None
    gain: Array | None
    w_p: Array | None
    b: Bias


@maker
@weighted(b_init=initializers.lstm_bias)
def gated_lstm(
    input_size: int,
    hidden_size: int,
    *,
    forget: bool = True,
    coupled: bool = False,
    peepholes: Literal["diagonal", "full"] | None = None,
    reset: bool = False,
    squash: bool = True,
    output_activation: Activation | None = None,
    forget_bias: float = 0.0,
    normalise: Literal["layer"] | None = None,
    epsilon: float = 1e-5,
    projection_size: int | None = None,
    w_c_init: Initializer = jax.nn.initializers.zeros,
    w_p_init: Initializer = initializers.input_weights,
    record: Any = GatedLSTMParams,
    name: str = "gated_lstm",
    **options: Unpack[GateOptions],
) -> Cell[Any, LSTMState]:
    """Long short-term memory in any combination of its variants.

        s_k = x W_k + h U_k + b_k                           each gate's sum, k = i, f, g, o
        s_k = LN(x W_k + h U_k) ⊙ gain_k + b_k              normalise="layer", over the gate's own units
        i = σ(s_i + c ⋆ P_i)      f = σ(s_f + c ⋆ P_f)      peepholes, ⋆ is ⊙ if "diagonal", a product if "full"
        i = 1 - f                                           coupled
        c' = f ⊙ c + i ⊙ φ(s_g)                             f = 1 without forget
        o = σ(s_o + c' ⋆ P_o)
        h' = o ⊙ φ(c')                                      o ⊙ c' without squash, times P_p ``[h, p]`` if projected
        y = h'

    With ``reset`` the candidate sees r ⊙ h in place of h, r = σ(s_r). Gate order i, f, g, o, without those that are
    left out; with ``reset`` it is r, u, f, o, g, where u is i. Normalisation leaves peepholes and c alone.

    Args:
      hidden_size: h, units of the memory c.
      forget: whether there is a forget gate.
      coupled: whether one gate forgets and writes.
      peepholes: None, ``"diagonal"`` or ``"full"``.
      reset: whether a reset gate stands between h and the candidate.
      squash: whether the memory goes through φ on its way out.
      output_activation: what it goes through in place of the candidate's φ; None for the same.
      forget_bias: a constant added to s_f, no parameter: as others keep it, outside their weights.
      normalise: None or ``"layer"``.
      epsilon: added to the variance.
      projection_size: p, units of h and of the output, with weights P_p; None for h itself.
      w_c_init: initialiser of each peephole block.
      w_p_init: initialiser of the projection.
      record: makes the parameters of those of `GatedLSTMParams` that its ``_fields`` name.
      name: of the cell in errors.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state `LSTMState` and output h.

    Raises:
      ValueError: an unknown choice, coupled gates without a forget gate, or a reset of projected states.

    Example:
      A layer-normalised peephole LSTM with coupled gates and a projection:

      >>> import jax, seqjax as sj
      >>> cell = sj.cells.gated_lstm(3, 8, peepholes="diagonal", coupled=True, normalise="layer", projection_size=2)
      >>> jax.tree.map(jax.numpy.shape, cell.init(jax.random.key(0)))
      GatedLSTMParams(w_x=(3, 24), w_h=(2, 24), w_c=(16,), gain=(24,), w_p=(8, 2), b=(24,))

    References:
      Greff et al. (2017), LSTM: a search space odyssey. https://arxiv.org/abs/1503.04069
    """
    checks.sizes(name, input_size=input_size, hidden_size=hidden_size)
    checks.choice(name, "peepholes", peepholes, (None, "diagonal", "full"))
    checks.choice(name, "normalise", normalise, (None, "layer"))
    if projection_size is not None:
        checks.sizes(name, projection_size=projection_size)
    if coupled and not forget:
        raise ValueError(f"{name}: expected a forget gate with coupled gates, i = 1 - f, got none. Set forget=True.")
    if forget_bias and not forget:
        raise ValueError(f"{name}: expected no forget_bias without a forget gate, got {forget_bias}. Set forget=True.")
    if reset and projection_size is not None:
        raise ValueError(
            f"{name}: expected no projection with reset=True, whose gate has a number for each unit of h, got "
            f"projection_size={projection_size}. Leave one of them out."
        )
    write = "u" if reset else "i"
    memory = (*(() if coupled else (write,)), *(("f",) if forget else ()))
    gates = ("r", *memory, "o", "g") if reset else (*memory, "g", "o")
    seeing = (*memory, "o")
    block = (hidden_size,) if peepholes == "diagonal" else (hidden_size, hidden_size)
    size = hidden_size if projection_size is None else projection_size
    ln = epsilon if normalise else None
    compute_dtype, activation, gate = options["compute_dtype"], options["activation"], options["gate_activation"]
    give_out = (output_activation or activation) if squash else lambda c: c

    def init(key: Key) -> Any:
        w_c = w_p = gain = None
        if peepholes:
            key, *c_keys = jax.random.split(key, 1 + len(seeing))
        if projection_size is not None:
            key, p_key = jax.random.split(key)
        w_x, w_h, b = gate_weights(key, gates, input_size, hidden_size, recurrent_size=size, **drawing(options))
        if peepholes:
            w_c = jnp.concatenate([w_c_init(c_key, block, w_h.dtype) for c_key in c_keys], axis=-1)
        if projection_size is not None:
            w_p = w_p_init(p_key, (hidden_size, size), w_h.dtype)
        if normalise:
            gain = jnp.ones(len(gates) * hidden_size, w_h.dtype)
        parts = GatedLSTMParams(w_x, w_h, w_c, gain, w_p, b)._asdict()
        return record(**{field: parts[field] for field in record._fields})

    def start(params: Any, batch_shape: tuple[int, ...]) -> LSTMState:
        return LSTMState(zeros(batch_shape, size, params.w_h), zeros(batch_shape, hidden_size, params.w_h))

    def sums(params: Any, h: Array, x: Array) -> list[Array]:
        if reset:
            (r, *others), candidate = through_reset(params, h, x, len(gates), compute_dtype, epsilon=ln)
            return [r, *others, candidate(gate(r))]
        a = preactivation(x, h, params.w_x, params.w_h, None, compute_dtype)
        if ln is not None:
            a = normalize(a, len(gates), params.gain, ln)
        return jnp.split(add_bias(a, params.b), len(gates), axis=-1)

    def step(params: Any, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        s = dict(zip(gates, sums(params, h, x)))
        p = dict(zip(seeing, jnp.split(params.w_c, len(seeing), axis=-1))) if peepholes else {}

        def look(c: Array, *names: str) -> None:
            for k in names if peepholes else ():
                s[k] += c * along(p[k], c) if peepholes == "diagonal" else dot(c, p[k], compute_dtype)

        look(c, *memory)
        if forget_bias:
            s["f"] += forget_bias
        if coupled:
            f = gate(s["f"])
            c = f * c + (1 - f) * activation(s["g"])
        elif forget:
            c = gate(s["f"]) * c + gate(s[write]) * activation(s["g"])
        else:
            c = c + gate(s[write]) * activation(s["g"])
        look(c, "o")
        h = gate(s["o"]) * give_out(c)
        if projection_size is not None:
            h = dot(h, params.w_p, compute_dtype)
        return LSTMState(h, c), h

    return checked(name, input_size, init, start, step)


class GatedGRUParams(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [h, 3h]``, ``b [3h]``; gates in the order r, z, n; None for what the options leave out.

    ``gain [3h]`` of the normalisation; ``b_n [h]``, the candidate's bias inside the reset.
    """

    w_x: Array
    w_h: Array
    gain: Array | None
    b: Bias
    b_n: Array | None


@maker
@weighted()
def gated_gru(
    input_size: int,
    hidden_size: int,
    *,
    reset: Literal["after", "before"] = "after",
    inner_bias: bool | None = None,
    normalise: Literal["layer"] | None = None,
    epsilon: float = 1e-5,
    record: Any = GatedGRUParams,
    name: str = "gated_gru",
    **options: Unpack[GateOptions],
) -> Cell[Any, Array]:
    """The gated recurrent unit in any combination of its variants.

        r, z = σ(x W + h U + b)
        n = φ(x Wₙ + r ⊙ (h Uₙ + cₙ) + bₙ)                  reset="after" the recurrent product
        n = φ(x Wₙ + (r ⊙ h) Uₙ + bₙ)                       reset="before" it
        h' = z ⊙ h + (1-z) ⊙ n                              y = h'

    With ``normalise="layer"`` each of the three sums s + b becomes LN(s) ⊙ gain + b, over the gate's own units; s holds
    all but b, the reset and cₙ included. Gate order r, z, n.

    Args:
      reset: ``"after"`` or ``"before"`` the recurrent product of the candidate.
      inner_bias: whether there is a cₙ; if None, where reset is after the product and there is a bias at all.
      normalise: None or ``"layer"``.
      epsilon: added to the variance.
      record: makes the parameters of those of `GatedGRUParams` that its ``_fields`` name.
      name: of the cell in errors.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: an unknown choice, or an inner bias with reset before the product.

    Example:
      >>> import seqjax as sj
      >>> sj.cells.gated_gru(3, 4, normalise="layer")
      gated_gru(3, 4, normalise='layer')

    References:
      Cho et al. (2014), Learning phrase representations using RNN encoder-decoder. https://arxiv.org/abs/1406.1078
    """
    checks.choice(name, "reset", reset, ("after", "before"))
    checks.choice(name, "normalise", normalise, (None, "layer"))
    if inner_bias and reset == "before":
        raise ValueError(
            f"{name}: expected no inner bias with reset='before', where cₙ and bₙ would be one and the same, got "
            "inner_bias=True. Leave it out or use reset='after'."
        )
    if inner_bias is None:
        inner_bias = reset == "after" and options["b_init"] is not None
    ln = epsilon if normalise else None

    def params_of(w_x: Array, w_h: Array, b: Bias) -> Any:
        gain = jnp.ones(3 * hidden_size, w_h.dtype) if normalise else None
        parts = GatedGRUParams(w_x, w_h, gain, b, jnp.zeros(hidden_size, w_h.dtype) if inner_bias else None)._asdict()
        return record(**{field: parts[field] for field in record._fields})

    def step(params: Any, h: Array, x: Array) -> tuple[Array, Array]:
        sums, candidate = through_reset(params, h, x, 3, options["compute_dtype"], after=reset == "after", epsilon=ln)
        r, z = map(options["gate_activation"], sums)
        n = options["activation"](candidate(r))
        h = z * h + (1 - z) * n
        return h, h

    return from_gates(name, ("r", "z", "n"), input_size, hidden_size, step, options, record=params_of)
