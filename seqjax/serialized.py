"""The names under which records are written into exported programs: parameters, states, batches, metrics."""

import jax.export

__all__ = ["register", "serialized_name"]

# Rooms whose records never are arguments or results of a program.
INSIDE = ("engines", "interop", "recipes")

_done: set[type] = set()


def serialized_name(record: type) -> str:
    """Where a record is found: in a room, or at the top; one that is private, by its module.

    Example:
      >>> import seqjax as sj
      >>> serialized_name(sj.cells.LSTMParams), serialized_name(sj.Noise)
      ('seqjax.cells.LSTMParams', 'seqjax.Noise')
    """
    package, *room = record.__module__.split(".")
    if record.__name__.startswith("_"):
        return f"{record.__module__}.{record.__name__}"
    return ".".join([package, *room[:-1][:1], record.__name__])


def register() -> None:
    """Lets `jax.export` serialise functions that take or return any of the package's named tuples."""
    for record in tuple.__subclasses__():
        package, room, *_ = (*record.__module__.split("."), "")
        if package == "seqjax" and room not in INSIDE and hasattr(record, "_fields") and record not in _done:
            jax.export.register_namedtuple_serialization(record, serialized_name=serialized_name(record))
            _done.add(record)
