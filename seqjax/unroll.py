"""The one door to the engines: `unroll` runs a cell along time."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from seqjax import base, checks, records, symbolic
from seqjax.arguments import told
from seqjax.base import Array, Cell, Params, PyTree, State
from seqjax.buffers import owned
from seqjax.engines import plan
from seqjax.engines.base import Problem
from seqjax.engines.explain import Explanation
from seqjax.engines.explain import explain as describe
from seqjax.engines.plan import EngineName
from seqjax.engines.versions import warn_of_slow_loops
from seqjax.settings.books import chosen
from seqjax.settings.record import Settings


def unroll(
    cell: Cell[Params, State],
    params: Params,
    state: State,
    xs: chex.ArrayTree | None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    reset: Array | None = None,
    length: int | None = None,
    reverse: bool = False,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    settings: Settings | None = None,
    time_axis: str | None = None,
) -> tuple[State, Any]:
    """Runs a cell along time: ``state_t, y_t = step(params, state_{t-1}, x_t)``.

    Args:
      cell: the recurrence.
      params: its parameters; constants of a sequence (an encoder's memory, conditioning) travel here too.
      state: the state before the first tick, from ``cell.initial_state`` or an earlier call.
      xs: inputs, a tree of ``[T, *B, ...]``; None where the cell takes none (then give ``length``).
      mask: ``[T, *B]`` of bool, True at real ticks. At a masked tick the state is held, the output is zero and the
        input is never looked at: NaN there harms nothing. The step runs there all the same, on the state and input of
        the sequence's first real tick (`seqjax.masks.first_pair`), and what it returns is thrown away.
      lengths: ``[*B]`` of int, for right-padded sequences, in place of ``mask``.
      reset: ``[T, *B]`` of bool, True at the first tick of a segment (an episode, a document): the state restarts
        from ``cell.initial_state``. In reverse it restarts after processing that tick.
      length: T, only needed where ``xs`` is None.
      reverse: run from the last tick to the first; outputs stay at their ticks.
      engine: how to run it; see `seqjax.explain`. All engines give the same values and gradients.
      memory: what to keep for the gradient; see `seqjax.explain`.
      settings: `Settings` in the place of both, such as `seqjax.tune` measures. Without, and with both at ``"auto"``, a
        file of them is read where `seqjax.tuned` or the variable SEQJAX_SETTINGS asks for it, and nowhere else.
      time_axis: inside `jax.shard_map`, the mesh axis over whose devices time is split. Inputs, mask and resets are
        this device's stretch, ``state`` is the state before the whole sequence, on every device; returned are the
        outputs of the stretch, and on every device the state behind the whole sequence. Of recurrences that are linear
        in their state, each with one exchange of summaries between the devices.

    Returns:
      The last state and the outputs ``[T, *B, ...]``.

    Raises:
      ValueError: shapes do not agree, an option is unknown, or settings were measured for something else; if a gradient
        is taken, that none keeps within the budget.
      TypeError: something else than a cell, a mask of another type than bool, or a step that changes the state's
        structure or dtype.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.gru(3, 4)
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.shape
      (5, 2, 4)
    """
    warn_of_slow_loops()
    plan.check_options(engine, memory)
    params, state, xs, mask, lengths, reset = owned((params, state, xs, mask, lengths, reset))
    with told("unroll", cell, params, state, xs, {"mask": mask, "lengths": lengths, "reset": reset}):
        problem = checked(cell, params, state, xs, mask=mask, lengths=lengths, reset=reset, length=length)
        problem = problem._replace(reverse=reverse, time_axis=time_axis)
        engine, memory, chunk, _ = chosen(problem, engine, memory, settings)  # type: ignore[assignment]
        return _run(*problem[:-2], reverse=reverse, time_axis=time_axis, engine=engine, memory=memory, chunk=chunk)


def explain(
    cell: Cell[Params, State],
    params: Params,
    state: State,
    xs: chex.ArrayTree | None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    reset: Array | None = None,
    length: int | None = None,
    reverse: bool = False,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    settings: Settings | None = None,
) -> Explanation:
    """What `unroll` would do with these arguments, and why: engine, chunk, loops, products, predicted bytes.

    Engines:

    {engines}

    Memory, that is what is kept for the gradient:

    - ``"all"``: every activation the backward pass reads.
    - ``"carries"``: the states; activations are recomputed a chunk at a time.
    - ``"sqrt"``: states at the borders of about √T chunks, each of which runs twice.
    - ``"log"``: states at the borders of nested blocks.
    - a whole number: states every so many ticks.
    - a budget such as ``"256MB"``: the fastest of the above whose predicted bytes fit.
    - ``"auto"``: a budget of a quarter of the device's memory.

    Args:
      cell: as in `unroll`, like all that follow; arrays may be abstract (`jax.ShapeDtypeStruct`).
      params: the parameters.
      state: the state before the first tick.
      xs: the inputs.
      mask: real ticks.
      lengths: in place of ``mask``.
      reset: first ticks of segments.
      length: T where ``xs`` is None.
      reverse: run backwards.
      engine: the engine asked for.
      memory: the memory asked for.
      settings: in the place of both.

    Returns:
      An `Explanation`; print it.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.lstm(8, 16)
      >>> params = cell.init(jax.random.key(0))
      >>> state = cell.initial_state(params, (4,))
      >>> plan = sj.explain(cell, params, state, jax.numpy.ones((512, 4, 8)), engine="split", memory="carries")
      >>> plan.loops[0].products, plan.before[0]["dot_general"]
      (1, 1)
    """
    found = []

    def trace(params: PyTree, state: PyTree, xs: PyTree, mask: PyTree, lengths: PyTree, reset: PyTree) -> None:
        problem = checked(cell, params, state, xs, mask=mask, lengths=lengths, reset=reset, length=length)
        problem = problem._replace(reverse=reverse)
        way = chosen(problem, engine, memory, settings)
        made = plan.choose(problem, *way[:3])
        found.append(describe(made._replace(why=(*way.why, *made.why)), problem.length))

    jax.eval_shape(trace, params, state, xs, mask, lengths, reset)
    return found[0]


explain.__doc__ = (explain.__doc__ or "").replace("{engines}", plan.listed().replace("\n", "\n    "))


def checked(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    reset: Array | None = None,
    length: int | None = None,
) -> Problem:
    """The problem that these arguments pose, their shapes and types checked against each other."""
    checks.instance("unroll", cell, Cell, "A layer runs a whole chunk by itself: layer.apply(params, state, xs).")
    checks.params_of("unroll", cell, params)
    state = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf), state)
    length = _length(xs, length)
    batch = base.batch_shape(cell, params, state)
    checks.mask_or_lengths("unroll", mask, lengths)
    if lengths is not None:
        lengths = checks.lengths("unroll", lengths, length)
        if batch is not None and lengths.shape != batch:
            raise ValueError(
                f"unroll: expected lengths of shape {batch} like the state's batch, got {lengths.shape}. "
                "Give one length a sequence."
            )
    _like_initial_state(cell, params, state, batch)
    mask, reset = _ticks("mask", mask, length, batch), _ticks("reset", reset, length, batch)
    if lengths is not None:
        _behind_the_mask(xs, (length, *lengths.shape))
    elif mask is not None:
        _behind_the_mask(xs, mask.shape)
    return Problem(cell, params, state, xs, length, mask, lengths, reset)


@functools.partial(
    jax.jit, static_argnums=(0, 4), static_argnames=("reverse", "time_axis", "engine", "memory", "chunk"), inline=True
)
def _run(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    length: int,
    mask: Array | None,
    lengths: Array | None,
    reset: Array | None,
    *,
    reverse: bool,
    time_axis: str | None,
    engine: str,
    memory: str | int,
    chunk: int | None,
) -> tuple[PyTree, PyTree]:
    problem = Problem(cell, params, state, xs, length, mask, lengths, reset, reverse, time_axis)
    return plan.choose(problem, engine, memory, chunk).run()


def _length(xs: PyTree, length: int | None) -> int:
    leaves = jax.tree_util.tree_flatten_with_path(xs)[0]
    if not leaves:
        if length is None:
            raise ValueError("unroll: expected length= where xs holds no array, got None. Say how many ticks to run.")
        return _number(length)
    for path, leaf in leaves:
        where = f"xs{jax.tree_util.keystr(path)}"
        if np.ndim(leaf) == 0:
            raise ValueError(f"unroll: expected {where} to be [T, *batch, ...], got a scalar. Put time first.")
        if length is None:
            length = np.shape(leaf)[0]
        if np.shape(leaf)[0] != length:
            raise ValueError(
                f"unroll: expected {length} ticks in {where}, got shape {np.shape(leaf)}. "
                "Time is the first axis of every input and equals length= if that is given."
            )
    if length == 0:
        raise ValueError("unroll: expected at least one tick, got xs of length 0. Skip the call.")
    return _number(length)  # type: ignore[arg-type]


def _number(length: int) -> int:
    """A length as a plain number; a symbol of `jax.export` as it is."""
    if not symbolic.known(length):
        return length
    checks.sizes("unroll", length=length)
    return int(length)


def _behind_the_mask(xs: PyTree, axes: tuple[int, ...]) -> None:
    """Every input has the mask's axes in front."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(xs)[0]:
        if np.shape(leaf)[: len(axes)] != axes:
            raise ValueError(
                f"unroll: expected xs{jax.tree_util.keystr(path)} with the axes {axes} of time and batch where ticks "
                f"are masked, got shape {np.shape(leaf)}. Broadcast it over the batch."
            )


def _like_initial_state(cell: Cell, params: PyTree, state: PyTree, batch: tuple[int, ...] | None) -> None:
    """A state has the tree and the shapes of those that the cell makes; asked of cells that know their maker."""
    if records.call_of(cell) is None or batch is None:
        return
    one, got = base.without_noise(base.single_state(cell, params)), base.without_noise(state)
    expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*batch, *leaf.shape), leaf.dtype), one)
    shapes = lambda tree: [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if jax.tree.structure(expected) != jax.tree.structure(got) or shapes(expected) != shapes(got):
        raise ValueError(
            f"unroll: expected a state of {cell.name} such as initial_state(params, {batch}) makes, "
            f"{base.described(expected)}, got {base.described(got)}. Make it with initial_state."
        )


def _ticks(name: str, flags: Array | None, length: int, batch: tuple[int, ...] | None) -> Array | None:
    if flags is None:
        return None
    flags = jnp.asarray(flags)
    if flags.dtype != jnp.bool_:
        raise TypeError(f"unroll: expected {name} of bool, got {flags.dtype}. Compare with 0 or cast it to bool.")
    if flags.shape[:1] != (length,) or (batch is not None and flags.shape[1:] != batch):
        expected = (length, *batch) if batch is not None else f"({length}, *batch)"
        raise ValueError(
            f"unroll: expected {name} of shape {expected}, got {flags.shape}. Time first, then the state's batch axes."
        )
    return flags
