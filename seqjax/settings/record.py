"""Settings: how a recurrence is run."""

from typing import Any, NamedTuple

from seqjax import checks
from seqjax.engines.plan import EngineName
from seqjax.settings.cases import Case


class Settings(NamedTuple):
    """How a recurrence is run; `seqjax.tune` finds them, anybody can write them.

    `seqjax.unroll`, `seqjax.recurrent` and `seqjax.train_step` take them as ``settings=``.

    Attributes:
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.
      chunk: ticks a chunk where memory is ``"all"`` or ``"carries"``, or ``"auto"`` or a budget and comes to one of
        these; None for the engine's own.
      devices: how many share the first batch axis; read by `seqjax.train_step` only.
      of: what they were measured for: used with anything else they are refused. None for settings that hold anywhere,
        as ``settings._replace(of=None)`` do.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.gru(3, 4)
      >>> params = cell.init(jax.random.key(0))
      >>> settings = sj.Settings("split", "all", chunk=2)
      >>> plan = sj.explain(cell, params, cell.initial_state(params), jnp.ones((8, 3)), settings=settings)
      >>> plan.engine, plan.chunk
      ('split', 2)
    """

    engine: EngineName = "auto"
    memory: str | int = "auto"
    chunk: int | None = None
    devices: int = 1
    of: Case | None = None

    def backwards(self) -> "Settings":
        """The same of the same recurrence from the last tick to the first."""
        if self.of is None or "reverse" in self.of.flags:
            return self
        return self._replace(of=self.of._replace(flags=(*self.of.flags, "reverse")))

    def __repr__(self) -> str:
        """As one would write them, the case in words."""
        said = {name: value for name, value in zip(self._fields, self) if value != self._field_defaults[name]}
        if self.of is not None:
            said["of"] = str(self.of)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in said.items())})"


def refuse_other(who: str, settings: Settings, case: Case) -> None:
    """Settings are used with what they were measured for, or with what each device has of it.

    Raises:
      ValueError: with another step, at other shapes, elsewhere.
    """
    of = settings.of
    if of is None or case in (of, of.share(settings.devices)):
        return
    raise ValueError(
        f"{who}: expected settings for {case}, got some that were measured for other: {of.unlike(case)}. "
        "Tune for this too, or use settings._replace(of=None) where they are meant to hold all the same."
    )


def devices_of(settings: Settings | None, devices: Any) -> Any:
    """The devices of a training step: those that are given, or the settings'.

    Raises:
      TypeError: something else than settings.
      ValueError: both are given.
    """
    if settings is None:
        return devices
    checks.instance("train_step", settings, Settings, "Make them by seqjax.tune, or as Settings('split', 'all').")
    if devices is not None:
        raise ValueError(
            f"train_step: expected settings= alone, got devices={devices!r} beside them. Leave it out, or say "
            "settings._replace(devices=…)."
        )
    return settings.devices if settings.devices != 1 else None


def checked(who: str, settings: Settings, engine: str, memory: str | int) -> None:
    """Settings alone say how something is run.

    Raises:
      TypeError: something else than settings.
      ValueError: an engine or a memory beside them.
    """
    checks.instance(who, settings, Settings, "Make them by seqjax.tune, or as Settings('split', 'all').")
    if engine != "auto" or memory != "auto":
        raise ValueError(
            f"{who}: expected settings= alone, got engine={engine!r}, memory={memory!r} beside them. "
            "Leave these out, or say settings._replace(engine=…, memory=…)."
        )
