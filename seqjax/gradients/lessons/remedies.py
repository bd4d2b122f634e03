"""Remedies for vanishing and exploding gradients, side by side on one task."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqjax import checks, initializers
from seqjax.base import Array, Cell, PyTree
from seqjax.cells.elman import elman
from seqjax.cells.gru import gru
from seqjax.cells.lstm import lstm
from seqjax.cells.normalized import layer_norm_elman
from seqjax.cells.reservoir import echo_state
from seqjax.gradients.clipping import clip_state_gradient
from seqjax.gradients.flow import flow
from seqjax.gradients.lessons.descent import descend
from seqjax.layers import dense
from seqjax.losses import norm_stabiliser
from seqjax.training import clip_by_global_norm
from seqjax.unroll import unroll


class Remedy(NamedTuple):
    """What is tried: a cell, and what is done to its gradient and its states.

    Attributes:
      cell: the recurrence.
      output_size: of its output.
      clip: η of clipping by global norm; None for none.
      stabiliser: β of `seqjax.norm_stabiliser`, on the cell's outputs, which start at 0; 0 for none.
    """

    cell: Cell
    output_size: int
    clip: float | None = 1.0
    stabiliser: float = 0.0


class Trial(NamedTuple):
    """How learning went with one remedy.

    Attributes:
      loss: ``[S]``, squared error of each batch before its update, without the penalty.
      gradient_norm: ``[S]``, of all parameters, before clipping.
      test_error: squared error on the test sequences after the last update.
      first_gradient: ``[T, N]``, ‖dL/ds_t‖ of each test sequence with the parameters that learning starts from.
      last_gradient: the same with those it ends with.
    """

    loss: Array
    gradient_norm: Array
    test_error: Array
    first_gradient: Array
    last_gradient: Array


def remedies(input_size: int, hidden_size: int, *, reservoir_size: int = 200) -> dict[str, Remedy]:
    """The usual remedies by name, the plain network first.

    All are an Elman network with one thing changed, but for the gated cells and the reservoir. All but the plain one
    clip the gradient to norm 1 besides.

    Args:
      input_size: d.
      hidden_size: h of the trained cells.
      reservoir_size: units of the reservoir, whose readout alone is trained.

    Returns:
      ``name -> Remedy``.

    References:
      Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks.
      https://arxiv.org/abs/1211.5063
      Le, Jaitly and Hinton (2015), A simple way to initialize recurrent networks of rectified linear units.
      https://arxiv.org/abs/1504.00941
      Krueger and Memisevic (2016), Regularizing RNNs by stabilizing activations. https://arxiv.org/abs/1511.08400
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    small = initializers.uniform(hidden_size)
    plain = elman(input_size, hidden_size, w_x_init=small, w_h_init=small)
    made = functools.partial(Remedy, output_size=hidden_size)
    return {
        "plain tanh": made(plain, clip=None),
        "clipping": made(plain),
        "clipping inside time": made(clip_state_gradient(plain, 0.1)),
        "orthogonal weights": made(elman(input_size, hidden_size)),
        "identity weights, relu": made(
            elman(input_size, hidden_size, activation=jax.nn.relu, w_h_init=initializers.identity())
        ),
        "layer norm": made(layer_norm_elman(input_size, hidden_size)),
        "norm-stabiliser": made(elman(input_size, hidden_size), stabiliser=1.0),
        "reservoir": Remedy(echo_state(input_size, reservoir_size, radius=1.0, input_scale=0.5), reservoir_size),
        "GRU": made(gru(input_size, hidden_size)),
        "LSTM": made(lstm(input_size, hidden_size)),
    }


def try_remedy(
    remedy: Remedy,
    key: Array,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    optimizer: optax.GradientTransformation,
) -> Trial:
    """Trains one network to answer after the last tick, and follows its gradient back through time.

        L = ‖y_T v + c - target‖²

    Args:
      remedy: what to try.
      key: of the parameters; give every remedy the same.
      train: S batches: inputs ``[S, T, B, d]`` and targets ``[S, B, k]``.
      test: inputs ``[T, N, d]`` and targets ``[N, k]``.
      optimizer: an Optax transformation, behind the remedy's clipping.

    Returns:
      A `Trial`.

    Raises:
      ValueError: targets that do not fit the inputs.
    """
    checks.shapes("try_remedy", "training targets", train[1].shape[:2], "inputs", (len(train[0]), train[0].shape[2]))
    checks.shapes("try_remedy", "test targets", test[1].shape[:1], "inputs", test[0].shape[1:2])
    own, other = jax.random.split(key)
    # A reservoir finds eigenvalues on the host, so that parameters are drawn outside the compiled run.
    readout = dense(remedy.output_size, train[1].shape[-1])
    return _try(remedy, optimizer, (remedy.cell.init(own), readout.init(other)), train, test)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _try(
    remedy: Remedy,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
) -> Trial:
    cell, clip = remedy.cell, remedy.clip
    readout = dense(remedy.output_size, train[1].shape[-1])

    def errors(params: PyTree, ys: Array, targets: Array) -> Array:
        answers = readout.apply(params[1], (), ys[-1:])[1][0]
        return ((answers - targets) ** 2).sum(-1)

    def outputs(params: PyTree, xs: Array) -> Array:
        return unroll(cell, params[0], cell.initial_state(params[0], xs.shape[1:2]), xs, memory="all")[1]

    def loss(params: PyTree, batch: tuple[Array, Array]) -> tuple[Array, Array]:
        ys = outputs(params, batch[0])
        error = errors(params, ys, batch[1]).mean()
        penalty = norm_stabiliser(ys, jnp.zeros_like(ys[0]), remedy.stabiliser).mean if remedy.stabiliser else 0
        return error + penalty, error

    def gradient(params: PyTree) -> Array:
        state = cell.initial_state(params[0], test[0].shape[1:2])
        of_all = lambda ys: errors(params, ys, test[1]).sum()
        return flow(cell, params[0], state, test[0], of_all, probes=1).loss_gradient

    optimizer = optimizer if clip is None else optax.chain(clip_by_global_norm(clip), optimizer)
    run = descend(loss, params, optimizer, train)
    test_error = errors(run.params, outputs(run.params, test[0]), test[1]).mean()
    return Trial(run.report, run.gradient_norm, test_error, gradient(params), gradient(run.params))
