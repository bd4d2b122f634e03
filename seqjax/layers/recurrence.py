"""A cell as a layer."""

from typing import Any

from seqjax import checks
from seqjax.base import Array, Cell, Layer, Params, PyTree, State
from seqjax.engines.plan import EngineName
from seqjax.layers import inner
from seqjax.records import maker
from seqjax.settings.record import Settings, checked
from seqjax.unroll import unroll


@maker
def recurrent(
    cell: Cell[Params, State],
    *,
    reverse: bool = False,
    engine: EngineName = "auto",
    memory: str | int = "auto",
    settings: Settings | None = None,
) -> Layer[Params, State]:
    """A cell run along time by `seqjax.unroll`.

        s_t, y_t = step(params, s_{t-1}, x_t)

    In reverse, the state goes from a later chunk to an earlier one; `bidirectional` is made for streams.

    Args:
      cell: the recurrence; its randomness lives in the state, so the layer makes no use of a key.
      reverse: run from the last tick to the first.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.
      settings: as in `seqjax.unroll`. Measured ones hold wherever the layer runs, which at other shapes, such as a tick
        at a time in a decoder, is refused; those of `seqjax.train_step` hold in training only.

    Returns:
      A layer with the cell's params and state, and the cell's output at every tick.

    Raises:
      TypeError: something else than a cell, or than settings.
      ValueError: settings beside an engine or a memory.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.recurrent(sj.gru(3, 4))
      >>> params = layer.init(jax.random.key(0))
      >>> state, ys = layer.apply(params, layer.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.shape
      (5, 2, 4)
    """
    checks.instance("recurrent", cell, Cell, "Pass the cell itself, such as lstm(64, 128).")
    if settings is not None:
        checked("recurrent", settings, engine, memory)

    def apply(
        params: Params,
        state: State,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, PyTree]:
        if reverse:
            inner.check_direction("recurrent")
        ticks: dict[str, Any] = {"mask": mask, "lengths": lengths, "reset": reset}
        ticks |= {"reverse": reverse, "engine": engine, "memory": memory, "settings": settings}
        return unroll(cell, params, state, xs, **ticks)

    return Layer(cell.init, cell.initial_state, apply)
