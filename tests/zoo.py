"""The one list of cells and layers that every law runs over: those of the registry, transformed cells, layers."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.cells.registry import REGISTRY, D, H


class CellCase(NamedTuple):
    """A cell and the inputs it reads: ``draw(key, shape) -> xs`` with ``shape = (T, *B)``."""

    make: Callable[[], sj.Cell]
    draw: Callable = lambda key, shape: jax.random.normal(key, (*shape, D))


class LayerCase(NamedTuple):
    """A layer, the inputs it reads, and what does not hold of it.

    ``causal``: its output at t depends on inputs up to t only; without, no law holds that cuts a chunk. ``apart``: an
    example's output depends on no other; without, batch ≡ vmap does not hold, nor are there gradients an example, nor
    of the statistics of the batch that the state holds.
    """

    make: Callable[[], sj.Layer]
    draw: Callable = lambda key, shape: jax.random.normal(key, (*shape, D))
    causal: bool = True
    apart: bool = True


def symbols(key, shape):
    """Integers of a vocabulary of 5."""
    return jax.random.randint(key, shape, 0, 5)


def draw_perturbed(key, shape):
    """Inputs and perturbations of an LSTM's state."""
    x, h, c = jax.random.split(key, 3)
    epsilon = sj.LSTMState(*(0.1 * jax.random.normal(k, (*shape, H)) for k in (h, c)))
    return jax.random.normal(x, (*shape, D)), epsilon


def normal(*size):
    """Inputs of a size, or of a shape."""
    return lambda key, shape: jax.random.normal(key, (*shape, *size))


def nnx_cell(kind):
    """A recurrent cell of Flax nnx, by its name, as ours."""
    from flax import nnx

    module = getattr(nnx, kind)(D, H, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    return sj.interop.from_nnx(module)


def linen_cell(kind):
    """One of Flax Linen."""
    from flax import linen

    return sj.interop.from_linen(getattr(linen, kind)(H, param_dtype=jnp.float64), D)


def equinox_cell(kind):
    """One of Equinox."""
    import equinox

    return sj.interop.from_equinox(getattr(equinox.nn, kind)(D, H, key=jax.random.key(0)))


def haiku_cell(kind):
    """One of Haiku."""
    import haiku

    return sj.interop.from_haiku(lambda: getattr(haiku, kind)(H), D)


CELLS: dict[str, CellCase] = {
    name: CellCase(entry.small, normal(*entry.input_shape)) for name, entry in REGISTRY.items()
}
CELLS |= {
    "gated_lstm_reset": CellCase(
        lambda: sj.cells.gated_lstm(D, H, forget=False, peepholes="full", reset=True, squash=False, normalise="layer")
    ),
    "conv_lstm_peepholes": CellCase(lambda: sj.cells.conv_lstm(2, 2, 4, peepholes=True), normal(4, 2)),
    "bias_in_blocks": CellCase(lambda: sj.gru(D, H, b_init=sj.initializers.only("z"), inner_bias=False)),
    "two_biases": CellCase(
        lambda: sj.gru(
            D,
            H,
            b_init=sj.initializers.two_biases(gates=("r", "z")),
            activation=jax.nn.soft_sign,
        )
    ),
    "stack": CellCase(lambda: sj.stack(sj.lstm(D, H), sj.gru(H, 2))),
    "skip_stack": CellCase(lambda: sj.transforms.skip_stack(sj.lstm(D, H), sj.gru(D + H, 2))),
    "memoryless": CellCase(lambda: sj.memoryless(lambda w, x: jnp.tanh(x @ w), lambda key: jnp.ones((D, H)))),
    "symbols": CellCase(
        lambda: sj.stack(sj.memoryless(lambda w, x: w[x], lambda key: jnp.ones((2, D))), sj.lstm(D, H)),
        lambda key, shape: jax.random.randint(key, shape, 0, 2),
    ),
    "residual": CellCase(lambda: sj.residual(sj.lstm(H, H)), normal(H)),
    "zoneout": CellCase(lambda: sj.zoneout(sj.lstm(D, H), sj.LSTMState(h=0.05, c=0.3))),
    "zoneout_scaled": CellCase(lambda: sj.zoneout(sj.slstm(D, H, 2), 0.2)),
    "learned_scaled": CellCase(lambda: sj.learned_initial_state(sj.slstm(D, H, 2))),
    "variational_dropout": CellCase(lambda: sj.variational_dropout(sj.elman(D, H), 0.4)),
    "recurrent_dropout": CellCase(lambda: sj.recurrent_dropout(sj.gru(D, H), 0.4)),
    "learned_initial_state": CellCase(lambda: sj.learned_initial_state(sj.lstm(D, H))),
    "random_initial_state": CellCase(lambda: sj.random_initial_state(sj.elman(D, H), 0.5)),
    "first_bias": CellCase(lambda: sj.first_bias(sj.elman(D, H))),
    "belief": CellCase(lambda: sj.hmm.cell(sj.hmm.random(jax.random.key(0), H, 5)), symbols),
    "viterbi": CellCase(lambda: sj.hmm.viterbi_cell(sj.hmm.random_gaussian(jax.random.key(0), H, D))),
    "belief_plain": CellCase(lambda: sj.hmm.belief_cell(sj.hmm.random(jax.random.key(0), H, 5)), symbols),
    "belief_late": CellCase(lambda: sj.hmm.lag_cell(sj.hmm.random(jax.random.key(0), H, 5), 2), symbols),
    "automaton": CellCase(lambda: sj.automata.network(D, H, 2)),
    "hand_set": CellCase(lambda: sj.automata.network(D, H, 2, hidden=jnp.tanh, output=jax.nn.sigmoid)),
    "with_states": CellCase(lambda: sj.with_states(sj.lstm(D, H))),
    "perturbed": CellCase(lambda: sj.perturbed(sj.lstm(D, H)), draw_perturbed),
    "nnx_lstm": CellCase(lambda: nnx_cell("OptimizedLSTMCell")),
    "nnx_gru": CellCase(lambda: nnx_cell("GRUCell")),
    "linen_lstm": CellCase(lambda: linen_cell("OptimizedLSTMCell")),
    "linen_gru": CellCase(lambda: linen_cell("GRUCell")),
    "equinox_lstm": CellCase(lambda: equinox_cell("LSTMCell")),
    "equinox_gru": CellCase(lambda: equinox_cell("GRUCell")),
    "haiku_lstm": CellCase(lambda: haiku_cell("LSTM")),
    "haiku_gru": CellCase(lambda: haiku_cell("GRU")),
}

LAYERS: dict[str, LayerCase] = {
    "recurrent": LayerCase(lambda: sj.recurrent(sj.lstm(D, H))),
    "recurrent_reverse": LayerCase(lambda: sj.recurrent(sj.gru(D, H), reverse=True), causal=False),
    "pointwise": LayerCase(lambda: sj.pointwise(lambda _, x: x / jnp.sqrt((x**2).sum(-1, keepdims=True)))),
    "dense": LayerCase(lambda: sj.dense(D, H, activation=jnp.tanh)),
    "embedding": LayerCase(lambda: sj.embedding(5, D), symbols),
    "layer_norm": LayerCase(lambda: sj.layer_norm(D)),
    "feed_forward": LayerCase(lambda: sj.feed_forward(D, H, activation=jnp.tanh)),
    "dropout": LayerCase(lambda: sj.dropout(0.5)),
    "residual": LayerCase(lambda: sj.residual(sj.recurrent(sj.elman(D, D)))),
    "bidirectional": LayerCase(lambda: sj.bidirectional(sj.lstm(D, H), sj.gru(D, 2), keep_backward=True), causal=False),
    "serial": LayerCase(
        lambda: sj.serial(
            sj.embedding(5, D),
            sj.dropout(0.3),
            sj.recurrent(sj.stack(sj.zoneout(sj.gru(D, H), 0.3), sj.elman(H, D))),
            sj.dense(D, 5),
        ),
        symbols,
    ),
    "tied_embedding": LayerCase(lambda: sj.tied_embedding(5, D, sj.recurrent(sj.elman(D, D))), symbols),
    "causal_conv": LayerCase(lambda: sj.causal_conv(D, H, width=3, dilation=2)),
    "rms_norm": LayerCase(lambda: sj.layers.rms_norm(6, groups=2), normal(6)),
    "depthwise_conv": LayerCase(lambda: sj.causal_conv(D, D, width=4, groups=D)),
    "windowed_attention": LayerCase(lambda: sj.layers.windowed_attention(4, 2, 4, kv_heads=1), normal(4)),
    "gated_mlp": LayerCase(lambda: sj.layers.gated_mlp(D, H)),
    "self_gate": LayerCase(lambda: sj.layers.self_gate(D)),
    "gated_recurrence": LayerCase(
        lambda: sj.layers.gated_recurrence(
            sj.elman, D, H, conv=3, conv_activation=jax.nn.silu, gate=jnp.tanh, norm_heads=1, skip=True
        )
    ),
    "block": LayerCase(lambda: sj.layers.block(sj.cells.mingru, D, hidden_size=H, mlp_size=2)),
    "weight_norm": LayerCase(lambda: sj.weight_norm(sj.causal_conv(D, H, width=2))),
    # By the statistics of its batch and of all its ticks; with given ones it obeys every law (test_laws_layers.py).
    "input_batch_norm": LayerCase(lambda: sj.layers.input_batch_norm(sj.lstm(D, H)), causal=False, apart=False),
}


def drawn(module, scale=0.3):
    """A module's parameters off their start; op by op, as the programs of those are shared between modules."""
    return perturbed(module.init(jax.random.key(1)), scale)


def perturbed(params, scale=0.3):
    """Parameters moved off their start, so that zero biases and unit gains cannot hide a missing term."""
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda p: p + scale * normal_like(rng, p) if jnp.issubdtype(p.dtype, jnp.inexact) else p, params
    )


def normal_like(rng, x):
    """Numbers of unit variance from NumPy: nothing to compile."""
    numbers = rng.standard_normal(x.shape)
    if jnp.iscomplexobj(x):
        numbers = (numbers + 1j * rng.standard_normal(x.shape)) / np.sqrt(2)
    return numbers.astype(x.dtype)
