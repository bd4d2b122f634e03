"""Models that write under a condition: read something first, then write a sequence about it."""

from collections.abc import Callable
from typing import NamedTuple

from seqjax import checks, records
from seqjax.base import Array, Layer, PyTree
from seqjax.fixing import fixed
from seqjax.layers import inner
from seqjax.layers.inner import split
from seqjax.losses import Tally
from seqjax.objectives import Batch, Objective, real_ticks, trains
from seqjax.records import maker


class Conditional(NamedTuple):
    """A condition's reader and a writer, with parameters of their own.

    Attributes:
      init: ``(key) -> params``.
      encode: ``(params, condition, *, key=None) -> (decoder_params, state)``: reads the condition ``[..., *B,
        ...]`` and returns all that the decoder needs, its context inside the parameters.
      decoder: a layer from symbols ``[T, *B]`` to logits ``[T, *B, v]``. Its parameters and state come from
        ``encode``; they are what `seqjax.sample` and `seqjax.beam_search` take.
    """

    init: Callable[[Array], PyTree]
    encode: Callable[..., tuple[PyTree, PyTree]]
    decoder: Layer

    @property
    def name(self) -> str:
        """The name of its maker, ``"conditional"`` where it was made by hand."""
        return records.name(self, "conditional")

    def __repr__(self) -> str:
        """The call that makes it, or its parts where it was made by hand."""
        return records.printed(self)


@maker
def conditional_objective(model: Conditional, loss: Callable[..., Tally]) -> Objective:
    """The loss of a model that writes under a condition, with teacher forcing.

    The batch's inputs are a pair ``(condition, symbols)`` with symbols ``[T, *B]`` the target moved by one,
    ``<bos>`` first; its mask is the target's.

    Args:
      model: what is trained.
      loss: ``(ys, targets, mask) -> Tally``, such as `seqjax.cross_entropy`.

    Returns:
      ``(params, state, batch, key=None) -> (state, Tally)`` as `seqjax.train_step` takes it; the state is
      passed through.

    Raises:
      TypeError: something else than a `Conditional`.
      ValueError: inputs that are no such pair, or resets.
    """
    checks.instance("conditional_objective", model, Conditional, "Pass encoder_decoder(...) or captioner(...).")

    @trains(lambda params: fixed(model, params))
    def run(params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        condition, symbols = inputs_of("conditional_objective", batch, "condition", "symbols")
        no_resets("conditional_objective", batch)
        read_key, write_key = split(key, 2)
        decoder_params, start = model.encode(params, condition, key=read_key)
        given = {"mask": batch.mask, "lengths": batch.lengths}
        _, logits = inner.run(model.decoder, decoder_params, start, symbols, **given, key=write_key)
        return state, loss(logits, batch.targets, real_ticks(batch, symbols))

    return run


def inputs_of(who: str, batch: Batch, *names: str) -> tuple[PyTree, ...]:
    """The batch's inputs, one an expected name."""
    if not isinstance(batch.xs, tuple | list) or len(batch.xs) != len(names):
        got = f"{len(batch.xs)} parts" if isinstance(batch.xs, tuple | list) else type(batch.xs).__name__
        raise ValueError(f"{who}: expected inputs ({', '.join(names)}), got {got}. Put them together as a tuple.")
    return tuple(batch.xs)


def no_resets(who: str, batch: Batch) -> None:
    """A condition belongs to one sequence."""
    if batch.reset is not None:
        raise ValueError(f"{who}: expected one sequence a column, got resets inside them. Give each its own column.")
