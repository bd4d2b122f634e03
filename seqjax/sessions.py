"""Many streams in one batch, each at its own place in time; they come and go and nothing is compiled anew."""

import functools
import operator
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, saving
from seqjax.base import Array, Cell, Key, Layer, PyTree, described
from seqjax.buffers import apart
from seqjax.layers import inner
from seqjax.layers.directions import reads_both_ways
from seqjax.layers.recurrence import recurrent


class Sessions:
    """A server's states: one batch of slots, of which any may be run for a piece of any length.

        put → slot        ys = step(xs, [slot, …])        take(slot) → state

    What comes out of a slot is what `apply` gives for its pieces put together, whoever else is in the batch. Pieces are
    padded to a power of two of ticks, at most ``longest``, longer ones cut; streams to a power of two, at most
    ``slots``: at most ``2 (1 + ⌈log₂ longest⌉) (1 + ⌈log₂ slots⌉)`` programs, whatever comes. The states' memory is
    written over in place: an object for one thread.

    Args:
      model: a cell, or a layer that reads forwards; convolutions and windowed attention stream from their rings.
      params: its parameters.
      slots: how many streams there may be at once.
      key: draws each stream's `Noise`, a new one at every ``put``; None for none of it.
      longest: ticks a program runs at most.

    Raises:
      TypeError: neither a cell nor a layer, or one that reads from the end.
      ValueError: sizes below 1.

    Example:
      >>> import jax, numpy as np, seqjax as sj
      >>> model = sj.serial(sj.causal_conv(3, 4, width=3), sj.recurrent(sj.gru(4, 8)))
      >>> params = model.init(jax.random.key(0))
      >>> sessions = sj.Sessions(model, params, slots=8)
      >>> ann, bob = sessions.put(), sessions.put()
      >>> xs = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
      >>> first = sessions.step(xs[:5], [ann, bob])
      >>> last = sessions.step(xs[5:, :1], [ann])                       # Bob is silent
      >>> whole = model.apply(params, model.initial_state(params, (2,)), xs)[1]
      >>> bool(np.allclose(np.concatenate([first[:, 0], last[:, 0]]), whole[:, 0], atol=1e-6))
      True
      >>> state = sessions.take(bob)                                    # to go on elsewhere, or later
      >>> sessions.put(state), sessions.taken
      (1, (0, 1))
    """

    def __init__(
        self, model: Cell | Layer, params: PyTree, slots: int, *, key: Key | None = None, longest: int = 256
    ) -> None:
        """As above."""
        if not isinstance(model, Cell):
            checks.instance("Sessions", model, Layer, "Pass a cell or a layer.")
        checks.sizes("Sessions", slots=slots, longest=longest)
        checks.params_of("Sessions", model, params)
        self._model: Layer = recurrent(model) if isinstance(model, Cell) else model
        self._params, self._key, self._longest = params, key, longest
        self._states = apart(_first(self._model, params, slots, key))[0]
        if any(map(reads_both_ways, jax.tree.leaves(self._states, is_leaf=reads_both_ways))):
            raise TypeError(
                f"Sessions: expected a layer that reads forwards, got {model}, which must see the whole sequence. "
                "Stream with one direction."
            )
        self._taken, self._drawn = np.zeros(slots, bool), 0

    @property
    def taken(self) -> tuple[int, ...]:
        """The slots in use."""
        return tuple(np.flatnonzero(self._taken).tolist())

    def put(self, state: PyTree = None) -> int:
        """A stream begins, or goes on from a state of one sequence, such as ``take`` gave.

        Returns:
          Its slot, the first that is free.

        Raises:
          ValueError: no slot is free, or a state of another structure or shape.
          TypeError: a state of another type.
        """
        if self._taken.all():
            raise ValueError(
                f"Sessions.put: expected a free slot, got {len(self._taken)} of {len(self._taken)} taken. "
                "Take one out first, or make Sessions with more slots."
            )
        slot = int(np.argmin(self._taken))
        if state is None:
            drawn = np.uint32(self._drawn)
            self._states = _begun(self._model, self._params, self._states, np.int32(slot), self._key, drawn)
            self._drawn += 1
        else:
            self._check_state(state)
            self._states = _written(self._states, np.int32(slot), state)
        self._taken[slot] = True
        return slot

    def take(self, slot: int) -> PyTree:
        """A stream leaves: its state, of one sequence; the slot is free."""
        (slot,) = self._checked("take", [slot])
        state = _read(self._states, np.int32(slot))
        self._taken[slot] = False
        return state

    def step(self, xs: PyTree, slots: Sequence[int], *, lengths: Array | None = None) -> PyTree:
        """Runs a piece of some streams; the others stand still.

        Args:
          xs: ``[T, n, …]``.
          slots: those of the n streams, each once.
          lengths: ``[n]``, how many of the T ticks are there of each; all if None.

        Returns:
          Outputs ``[T, n, …]`` as NumPy arrays, zero behind a stream's length.

        Raises:
          ValueError: slots that are free or come twice, or shapes that do not belong together.
          TypeError: as the model's own, and of layers that read from the end.
        """
        slots = self._checked("step", slots)
        xs, ticks, count = jax.tree.map(np.asarray, xs), checks.length("Sessions.step", xs), len(slots)
        for leaf in jax.tree.leaves(xs):
            checks.shapes("Sessions.step", "the batch of xs", leaf.shape[1:2], "slots", (count,))
        ends = np.full(count, ticks)
        if lengths is not None:
            ends = np.asarray(checks.lengths("Sessions.step", lengths, ticks))
            checks.shapes("Sessions.step", "lengths", ends.shape, "slots", (count,))
        pieces = []
        for start in range(0, ticks, self._longest):
            piece = jax.tree.map(lambda leaf, start=start: leaf[start : start + self._longest], xs)
            pieces.append(self._piece(piece, slots, ends - start))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces) if len(pieces) > 1 else pieces[0]

    def _piece(self, xs: PyTree, slots: list[int], ends: np.ndarray) -> PyTree:
        ticks, count = jax.tree.leaves(xs)[0].shape[0], len(slots)
        length, rows = min(_power(ticks), self._longest), min(_power(count), len(self._taken))
        beyond = len(self._taken)  # reads any state, writes none
        places = np.array([*slots, *[beyond] * (rows - count)], np.int32)
        real = np.array([*ends.clip(0, ticks), *[length] * (rows - count)], np.int32)
        padded = jax.tree.map(lambda leaf: _padded(leaf, length, rows), xs)
        partly = None if (real == length).all() else real
        self._states, ys = _run(self._model, self._params, self._states, places, padded, partly)
        return jax.tree.map(lambda y: np.asarray(y)[:ticks, :count], ys)

    def save(self, path: str | os.PathLike) -> None:
        """Writes all streams to a file, as `seqjax.save` does; not the parameters."""
        saving.save(path, self._kept())

    def load(self, path: str | os.PathLike) -> None:
        """Goes on with the streams of a file, each in its slot; those that were here are gone.

        Raises:
          FileNotFoundError: no file.
          ValueError: a file of another model or of another number of slots, or a damaged one.
          TypeError: states of another type.
        """
        try:
            kept = saving.load(path, self._kept())
        except (ValueError, TypeError) as error:
            error.add_note("Sessions.load: make Sessions with the model, slots and key that they were saved with.")
            raise
        self._states, self._taken = kept["states"], np.array(kept["taken"])
        self._drawn = int(kept["drawn"])

    def _kept(self) -> dict[str, Any]:
        return {"states": self._states, "taken": self._taken, "drawn": np.uint32(self._drawn)}

    def _checked(self, who: str, slots: Sequence[int]) -> list[int]:
        numbers, taken = [operator.index(slot) for slot in slots], self.taken
        if not numbers or len(set(numbers)) < len(numbers) or not set(numbers) <= set(taken):
            raise ValueError(
                f"Sessions.{who}: expected slots in use, each once, of {list(taken)}, got {numbers}. Put a stream in "
                "first, and give the slot that put returned."
            )
        return numbers

    def _check_state(self, state: PyTree) -> None:
        expected = jax.eval_shape(_read, self._states, np.int32(0))
        if jax.tree.structure(state) != jax.tree.structure(expected):
            raise ValueError(
                f"Sessions.put: expected a state like {described(expected)}, got {described(state)}. Pass one of one "
                "sequence of this model, with noise if Sessions has a key and without if not."
            )
        for like, leaf in zip(jax.tree.leaves(expected), jax.tree.leaves(state)):
            checks.shapes("Sessions.put", "a state", np.shape(leaf), "that of one sequence", like.shape)
            if jnp.result_type(leaf) != like.dtype:
                raise TypeError(
                    f"Sessions.put: expected a state of {like.dtype}, got {jnp.result_type(leaf)}. Cast it, or make "
                    "the model of that type."
                )


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _padded(leaf: np.ndarray, ticks: int, rows: int) -> np.ndarray:
    """A copy of its own in any case: the program may read it after the caller has gone on."""
    whole = np.zeros((ticks, rows, *leaf.shape[2:]), leaf.dtype)
    whole[: leaf.shape[0], : leaf.shape[1]] = leaf
    return whole


@functools.partial(jax.jit, static_argnums=(0, 2))
def _first(model: Layer, params: PyTree, slots: int, key: Key | None) -> PyTree:
    return model.initial_state(params, (slots,), key=key)


@jax.jit
def _read(states: PyTree, slot: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[slot], states)


@functools.partial(jax.jit, donate_argnums=0)
def _written(states: PyTree, slot: Array, state: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, new: leaf.at[slot].set(new), states, state)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _begun(model: Layer, params: PyTree, states: PyTree, slot: Array, key: Key | None, drawn: Array) -> PyTree:
    first = model.initial_state(params, key=None if key is None else jax.random.fold_in(key, drawn))
    return _written(states, slot, first)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _run(
    model: Layer, params: PyTree, states: PyTree, slots: Array, xs: PyTree, lengths: Array | None
) -> tuple[PyTree, PyTree]:
    mine = jax.tree.map(lambda leaf: leaf.at[slots].get(mode="clip"), states)
    with inner.forwards_only():
        mine, ys = inner.run(model, params, mine, xs, lengths=lengths)
    return jax.tree.map(lambda leaf, new: leaf.at[slots].set(new, mode="drop"), states, mine), ys
