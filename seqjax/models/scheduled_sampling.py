"""Training a writer on what it writes itself."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqjax import checks
from seqjax.base import Array, Cell, Layer, Noise, PyTree
from seqjax.decoding.as_cell import as_cell
from seqjax.fixing import fixed
from seqjax.layers import inner
from seqjax.layers.inner import split
from seqjax.losses import Tally
from seqjax.models.conditional import Conditional, inputs_of, no_resets
from seqjax.objectives import Batch, Objective, noisy, real_ticks, trains
from seqjax.products import accumulator
from seqjax.records import maker
from seqjax.transforms.noise import example_keys, per_example
from seqjax.unroll import unroll


class _Params(NamedTuple):
    model: PyTree
    rate: Array


class _State(NamedTuple):
    """The model's state, its last logits ``[*B, v]``, whether there are any ``[*B]``, and keys."""

    model: PyTree
    logits: Array
    begun: Array
    keys: Noise


def scheduled_sampling(
    model: Cell | Layer,
    params: PyTree,
    state: PyTree,
    symbols: Array,
    *,
    rate: float | Array,
    key: Array,
    mask: Array | None = None,
    lengths: Array | None = None,
    reset: Array | None = None,
) -> tuple[PyTree, Array]:
    """Runs a writer over a target, now and then on its own last guess in place of the true symbol.

        w̃_t ~ softmax(logits_{t-1}) with probability rate, else w_t      s_t, logits_t = step(s_{t-1}, w̃_t)

    drawn anew for every tick and example; the first symbol is always the true one. Rate 0 is teacher forcing,
    rate 1 free running; a schedule lets it rise in training (`inverse_sigmoid_decay`). No gradient goes
    through the guesses.

    Args:
      model: a cell or layer from symbols ``[*B]`` to logits, such as the decoder of a `Conditional`.
      params: its parameters.
      state: the state it starts from.
      symbols: ``[T, *B]``, ``<bos>`` first.
      rate: the probability of a guess.
      key: one JAX key.
      mask: ``[T, *B]``, True at real ticks.
      lengths: ``[*B]``, in its place.
      reset: ``[T, *B]``, True where a new text begins: from the initial state, and with its true symbol.

    Returns:
      The last state and the logits ``[T, *B, v]``.

    Raises:
      TypeError: symbols that are not integers.

    References:
      Bengio et al. (2015), Scheduled sampling for sequence prediction with recurrent neural networks.
      https://arxiv.org/abs/1506.03099
    """
    symbols = checks.symbols("scheduled_sampling", symbols)
    batch = symbols.shape[1:]
    logits = jax.eval_shape(lambda *args: as_cell(model).step(*args)[1], params, state, symbols[0])
    start = _State(
        state,
        jnp.zeros(logits.shape, logits.dtype),
        jnp.zeros(batch, bool),
        Noise(example_keys(key, batch)),
    )
    wrapped = _Params(params, jnp.asarray(rate, accumulator(logits.dtype)))
    guessing = _guessing(model, logits.shape[-1], logits.dtype)
    end, ys = unroll(guessing, wrapped, start, symbols, mask=mask, lengths=lengths, reset=reset)
    return end.model, ys


@maker
def scheduled_objective(model: Layer | Conditional, loss: Callable[..., Tally]) -> Objective:
    """The loss of a writer trained by scheduled sampling, in the form that `seqjax.train_step` takes.

    The batch's inputs carry the rate, as an array, so that a schedule compiles nothing anew: ``(symbols, rate)`` for
    a language model, ``(condition, symbols, rate)`` for a `Conditional`. Without a key there is no guessing: the loss
    is that of teacher forcing. The writer's own dropout stays off, a condition's reader has it.

    Args:
      model: a layer from symbols to logits, or a `Conditional`.
      loss: ``(ys, targets, mask) -> Tally``, such as `seqjax.cross_entropy`.

    Returns:
      ``(params, state, batch, key=None) -> (state, Tally)``; the state of a `Conditional` is passed through.

    Raises:
      TypeError: neither a layer nor a `Conditional`.
      ValueError: inputs of another form, or resets for a `Conditional`.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.language_model(5, 8)
      >>> params = model.init(jax.random.key(0))
      >>> text = jnp.arange(14).reshape(7, 2) % 5
      >>> rate = sj.models.inverse_sigmoid_decay(100.0)(300)
      >>> loss = sj.models.scheduled_objective(model, sj.cross_entropy)
      >>> batch = sj.Batch((text[:-1], rate), text[1:])
      >>> state, tally = loss(params, model.initial_state(params, (2,)), batch, jax.random.key(1))
      >>> tally.count.item()
      12
    """
    if not isinstance(model, Layer | Conditional):
        raise TypeError(
            f"scheduled_objective: expected a Layer or a Conditional, got {type(model).__name__}. "
            "Wrap a cell in recurrent(cell)."
        )

    @trains(lambda params: fixed(model, params))
    def run(params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        names = ("condition", "symbols", "rate") if isinstance(model, Conditional) else ("symbols", "rate")
        *condition, symbols, rate = inputs_of("scheduled_objective", batch, *names)
        if isinstance(model, Conditional):
            no_resets("scheduled_objective", batch)
        read_key, guess_key = split(key, 2)
        writer, start = model.decoder if isinstance(model, Conditional) else model, state
        if isinstance(model, Conditional):
            params, start = model.encode(params, *condition, key=read_key)
        ticks = {"mask": batch.mask, "lengths": batch.lengths, "reset": batch.reset}
        if guess_key is None:
            end, ys = inner.run(writer, params, start, symbols, **ticks)
        else:
            noisy("scheduled_objective", start)
            end, ys = scheduled_sampling(writer, params, start, symbols, rate=rate, key=guess_key, **ticks)
        return state if isinstance(model, Conditional) else end, loss(ys, batch.targets, real_ticks(batch, symbols))

    return run


@maker
def _guessing(model: Cell | Layer, vocabulary_size: int, dtype: jnp.dtype) -> Cell:
    cell, wide = as_cell(model), accumulator(dtype)  # a probability in bfloat16 is a multiple of 1/128

    def step(params: _Params, state: _State, symbol: Array) -> tuple[_State, Array]:
        keys = per_example(lambda key: jax.random.split(key, 3), state.keys.value)
        said = jax.lax.stop_gradient(state.logits).astype(wide)
        guess = per_example_with(jax.random.categorical, keys[..., 1], said)
        use = per_example(lambda key: jax.random.uniform(key, (), wide), keys[..., 2]) < params.rate
        symbol = jnp.where(use & state.begun, guess.astype(symbol.dtype), symbol)
        inner, logits = cell.step(params.model, state.model, symbol)
        return _State(inner, logits, jnp.ones_like(state.begun), Noise(keys[..., 0])), logits

    def initial_state(params: _Params, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> _State:
        return _State(
            cell.initial_state(params.model, batch_shape, key=key),
            jnp.zeros((*batch_shape, vocabulary_size), dtype),
            jnp.zeros(batch_shape, bool),
            Noise(None if key is None else example_keys(key, batch_shape)),
        )

    return Cell(lambda key: _Params(cell.init(key), jnp.zeros(())), initial_state, step)


def per_example_with(draw, keys: Array, values: Array) -> Array:
    """``draw(key, value)`` for every key ``[*B]`` and value ``[*B, ...]``."""
    for _ in range(keys.ndim):
        draw = jax.vmap(draw)
    return draw(keys, values)


@maker
def inverse_sigmoid_decay(speed: float) -> Callable[[ArrayLike], Array]:
    """How often to guess as training goes on: rate(step) = 1 - k / (k + exp(step / k)), rising from 1/(k+1) to 1.

    Args:
      speed: k, at least 1; the larger, the later.

    Returns:
      ``(step) -> rate``.

    Raises:
      ValueError: k below 1.

    >>> [round(float(inverse_sigmoid_decay(100.0)(step)), 3) for step in (0, 461, 2000)]
    [0.01, 0.501, 1.0]
    """
    if not speed >= 1:
        raise ValueError(f"inverse_sigmoid_decay: expected a speed of at least 1, got {speed!r}. Raise it.")
    return lambda step: jax.nn.sigmoid(jnp.asarray(step) / speed - jnp.log(speed))
