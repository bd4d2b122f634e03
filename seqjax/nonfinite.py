"""Where the first number that is not finite comes from: the tick, the layer, the tensor."""

import inspect
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, masks, naming, objectives, records
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.chunks import over_chunks
from seqjax.fixing import completed, differentiable
from seqjax.layers import inner
from seqjax.layers.recurrence import recurrent
from seqjax.objectives import Batch, Objective
from seqjax.transforms import with_states
from seqjax.unroll import unroll
from seqjax.watching import Moved, Seen, Watch, is_float, recurrence, zeros


class NonFinite(NamedTuple):
    """Where a number that is not finite was first seen.

    Attributes:
      tick: from 0, of the chunk that the layer was given; None where no tick is known, as of a parameter.
      layer: its name, as in names of parameters: ``"lstm"``, ``"dense_1"``; ``"batch"``, ``"loss"``.
      tensor: what is not finite there: ``"xs"``, ``"state lstm/c"``, ``"output"``, ``"gradient of lstm/w_h"``.
    """

    tick: int | None
    layer: str
    tensor: str

    def __str__(self) -> str:
        """As a phrase."""
        return f"{'no single tick' if self.tick is None else f'tick {self.tick}'}, {self.layer}, {self.tensor}"


def first_nonfinite(
    model: Layer | Cell | Objective, params: PyTree, state: PyTree, batch: Batch, *, key: Array | None = None
) -> NonFinite | None:
    """Where NaN or infinity first appears, when a model is run on a batch, and backwards.

    Looked at are, in this order: what is given; the outputs of each layer as it is run, the innermost first, and of a
    recurrence its states, tick after tick; the loss; backwards the gradient at each layer's outputs, and that of the
    parameters. A layer handles the whole chunk before the next one begins, so that the place is that of the first layer
    and of its first tick, the last one where it reads from the end. Padding is not looked at, nor infinity in a state
    that is given: some begin with log 0.

    A step that was skipped left everything as it was: ask with what it was given, and ``key =
    jax.random.fold_in(train.key, train.step)`` if there is noise. It runs layer by layer on one device, to be called
    when something is wrong and not inside a program.

    Args:
      model: a layer or cell, of which the run forwards is looked at; or what `seqjax.train_step` takes,
        `seqjax.objective` and others of its form: then loss and gradient too.
      params: its parameters.
      state: the state before the first tick.
      batch: the inputs and what belongs to them.
      key: what is random draws with it, as in a step.

    Returns:
      The place; None where all is finite.

    Raises:
      TypeError: something else than a model, or a batch that is none.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.recurrent(sj.elman(1, 1, activation=lambda a: a, b_init=None)), sj.dense(1, 1))
      >>> params = model.init(jax.random.key(0))
      >>> params = (sj.cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 1e30), None), params[1])
      >>> batch = sj.Batch(jnp.ones((5, 3, 1)), jnp.zeros((5, 3, 1)))
      >>> print(sj.first_nonfinite(model, params, model.initial_state(params, (3,)), batch))
      tick 2, elman, state
    """
    checks.instance("first_nonfinite", batch, Batch, "Wrap inputs and targets: Batch(xs, targets).")
    if isinstance(model, Cell):
        model = recurrent(model)
    if not callable(model) and not isinstance(model, Layer):
        raise TypeError(
            f"first_nonfinite: expected a layer, a cell or an objective, got {type(model).__name__}. "
            "Wrap a model that writes in conditional_objective(model, loss)."
        )
    return _given(params, state, batch) or _search(model, params, state, batch, key)


def _search(
    model: Layer | Objective, params: PyTree, state: PyTree, batch: Batch, key: Array | None
) -> NonFinite | None:
    call = None if isinstance(model, Layer) else records.call_of(inspect.unwrap(model)) or records.call_of(model)
    if call is not None and call.maker is over_chunks:  # whose layers are run inside a loop
        model = objectives.objective(*list(call.options().arguments.values())[:2])

    def run(params: PyTree, watch: Watch) -> Any:
        with inner.watched(watch):
            if isinstance(model, Layer):
                return objectives.applied(model, params, state, batch, key)
            return model(params, state, batch, key)

    watch = Watch()
    result = run(params, watch)
    for seen in watch.ended:
        if (found := _forwards(seen, watch.name(seen.number))) is not None:
            return found
    if isinstance(model, Layer):
        return None

    def loss(leaves: PyTree, moved: dict[int, Moved] | None) -> Array:
        return run(completed(leaves, params), Watch(moved))[1].sum

    known = not any(isinstance(leaf, jax.core.Tracer) for seen in watch.ended for leaf in jax.tree.leaves(seen.ys))
    moved = {seen.number: zeros(seen) for seen in watch.ended} if known else None
    slopes, moves = jax.grad(loss, (0, 1), allow_int=True)(differentiable(params), moved)
    if not np.isfinite(_values(result[1].sum)):
        last = watch.ended[-1] if moves else None
        return NonFinite(last and _first_tick(moves[last.number].outputs, last.xs), "loss", "loss")
    for seen in reversed(watch.ended) if moves else ():
        if (found := _backwards(seen, moves[seen.number], watch)) is not None:
            return found
    held = jax.tree.leaves(objectives.fixed_by(model, params))
    layer = None if call is None else next(iter(call.options().arguments.values()))
    names = [*naming.named(layer, params)] if isinstance(layer, Layer) else [n for n, _ in _named("params", params)]
    for name, still, slope in zip(names, held, jax.tree.leaves(completed(slopes, params))):
        if not still and _bad(slope).any():
            return NonFinite(None, name.rpartition("/")[0] or name, f"gradient of {name}")
    return None


def _forwards(seen: Seen, name: str) -> NonFinite | None:
    """In what a layer gives out, or else in the states that come before."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(seen.ys)):
        return None
    ys = _real(seen.ys, seen.ticks)
    run = recurrence(seen.layer)
    if run is None:
        found = any(_bad(leaf).any() for leaf in jax.tree.leaves(ys))
        return NonFinite(_first_tick(ys, seen.xs), name, "output") if found else None
    cell, reverse = run
    _, (ys, states) = unroll(with_states(cell), seen.params, seen.state, seen.xs, **seen.ticks, reverse=reverse)
    tensors = {_state(name): leaf for name, leaf in naming.named_state(cell, states).items()}
    tensors |= {"output" if not name else f"output {name}": leaf for name, leaf in _named("", _real(ys, seen.ticks))}
    at = {}
    for tensor, leaf, before in itertools.zip_longest(tensors, tensors.values(), jax.tree.leaves(seen.state)):
        began_infinite = before is not None and _bad(before).any()
        bad = np.isnan(_values(leaf)) if began_infinite else _bad(leaf)
        if bad.any():
            at[tensor] = _tick_of(bad, reverse)
    if not at:
        return None
    tick = (max if reverse else min)(at.values())
    return NonFinite(tick, name, next(tensor for tensor in at if at[tensor] == tick))


def _backwards(seen: Seen, move: Moved, watch: Watch) -> NonFinite | None:
    """In the gradient at what a layer gave out, which whoever reads it makes, or at the states of a recurrence."""
    if any(_bad(leaf).any() for leaf in jax.tree.leaves(move.outputs)):
        reader = watch.behind(seen.number)
        tick = _first_tick(move.outputs, seen.xs, last=reader is not None)
        if reader is None:
            return NonFinite(tick, "loss", "gradient of the model's output")
        return NonFinite(tick, watch.name(reader), f"gradient of its input, the output of {watch.name(seen.number)}")
    if move.states is None:
        return None
    cell, reverse = recurrence(seen.layer)  # type: ignore[misc]
    start, each = move.states
    length = len(jax.tree.leaves(each)[0])
    for name, leaf in naming.named_state(cell, each).items():
        bad = _bad(leaf)
        if bad.any():  # the tick behind made it
            tick = _tick_of(bad, not reverse) + (-1 if reverse else 1)
            return NonFinite(min(max(tick, 0), length - 1), watch.name(seen.number), f"gradient of {_state(name)}")
    for name, leaf in naming.named_state(cell, start).items():
        if _bad(leaf).any():
            return NonFinite(length - 1 if reverse else 0, watch.name(seen.number), f"gradient of {_state(name)}")
    return None


def _given(params: PyTree, state: PyTree, batch: Batch) -> NonFinite | None:
    """The first that is wrong of what a step starts from."""
    for name, leaf in _named("params", params):
        if _bad(leaf).any():
            return NonFinite(None, "params", name)
    for name, leaf in _named("state", state):
        if is_float(leaf) and np.isnan(_values(leaf)).any():
            return NonFinite(None, "state", name)
    for part in ("xs", "targets"):
        value = getattr(batch, part)
        if batch.mask is not None or batch.lengths is not None:
            value = _real(value, {"mask": batch.mask, "lengths": batch.lengths})
        for name, leaf in _named(part, value):
            if _bad(leaf).any():
                return NonFinite(_first_tick(leaf, None), "batch", name)
    return None


def _state(name: str) -> str:
    return "state" if name == naming.ALONE else f"state {name}"


def _real(tree: PyTree, ticks: dict[str, Any]) -> PyTree:
    """Zeros in the place of padding."""
    mask = masks.given("first_nonfinite", ticks.get("mask"), ticks.get("lengths"), tree)
    return tree if mask is None else masks.zero(mask, jax.tree.map(jnp.asarray, tree))


def _first_tick(tree: PyTree, xs: PyTree, *, last: bool = False) -> int | None:
    """The first tick with a bad number, or the last; None where the leaves have another number of ticks than ``xs``."""
    bad = [_bad(leaf) for leaf in jax.tree.leaves(tree)]
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree if xs is None else xs)}
    ticks = [_tick_of(b, last) for b in bad if b.any() and b.shape[:1] in lengths - {()}]
    return (max if last else min)(ticks, default=None)


def _tick_of(bad: np.ndarray, last: bool) -> int:
    ticks = np.flatnonzero(bad.reshape(len(bad), -1).any(1))
    return int(ticks[-1 if last else 0])


def _named(name: str, tree: PyTree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield name + jax.tree_util.keystr(path), leaf


def _values(leaf: Any) -> np.ndarray:
    """On the host, in a type of NumPy's own."""
    leaf = np.asarray(leaf)
    return leaf if leaf.dtype.kind in "fc" else leaf.astype(np.float32)


def _bad(leaf: Any) -> np.ndarray:
    return ~np.isfinite(_values(leaf)) if is_float(leaf) else np.zeros(np.shape(leaf), bool)
