"""Records that know their maker: equal for equal options, with one hash; they pickle, and print as the call.

A record (`seqjax.Cell`, `seqjax.Layer`) is a tuple of functions. `maker` binds each of them to the maker's name and a
frozen record of its options, `Call`. Everything else follows from that: a model built anew inside a helper is the same
static argument of `jax.jit`, so it compiles once.
"""

import functools
import importlib
import inspect
import types
from collections.abc import Callable
from numbers import Integral
from typing import Any, ParamSpec, TypeVar

from seqjax import defaults
from seqjax.room import LARGE, check_room

Options = ParamSpec("Options")
Made = TypeVar("Made")


def maker(make: Callable[Options, Made]) -> Callable[Options, Made]:
    """Makes the records that a function returns know where they come from.

    Decorates a module-level function that returns a `seqjax.Cell`, a `seqjax.Layer`, or a function such as an
    initialiser. What it returns must follow from the options alone. Options that cannot be hashed (arrays) make a
    record equal to itself only. A preset is a maker that calls another: its records bear its own name. A record that
    was an argument is returned as it is, and a record inside a record keeps its own maker.

    Args:
      make: the function.

    Returns:
      The function, with the same signature.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> @sj.maker
      ... def leaky_sum(leak=0.5):
      ...     '''s' = leak s + x, y = s'.'''
      ...     def step(params, state, x):
      ...         state = leak * state + x
      ...         return state, state
      ...     return sj.Cell(lambda key: (), lambda params, batch_shape=(), *, key=None: jnp.zeros(batch_shape), step)
      >>> leaky_sum(0.9), leaky_sum(0.9) == leaky_sum(leak=0.9), leaky_sum() == leaky_sum(0.9)
      (leaky_sum(0.9), True, False)
    """

    @functools.wraps(make)
    def made(*args: Options.args, **kwargs: Options.kwargs) -> Made:
        kwargs = defaults.filled(made, parameters(made), kwargs)  # type: ignore[assignment]
        record: Any = make(*args, **kwargs)
        if any(record is arg for arg in args):
            return record
        call = Call(made, args, kwargs)
        if not isinstance(record, tuple):
            return Bound(record, call, None)  # type: ignore[return-value]
        kind: Any = type(record)
        return kind(*(f if isinstance(f, tuple) else Bound(f, call, part) for part, f in zip(kind._fields, record)))

    made.is_maker = True  # type: ignore[attr-defined]
    return made


def is_maker(value: Any) -> bool:
    """Whether a function is one that `maker` has decorated."""
    return getattr(value, "is_maker", False) is True


def parameters(make: Callable) -> list[inspect.Parameter]:
    """The options that a maker takes."""
    return list(_signature(make).parameters.values())


class Call:
    """A maker and the options it was called with."""

    __slots__ = ("_hash", "_key", "args", "defaults", "kwargs", "maker")

    def __init__(self, maker: Callable, args: tuple, kwargs: dict[str, Any], given: tuple | None = None):
        """Reads the defaults off the maker's signature, so that it does not matter how an option was given."""
        self.maker, self.args, self.kwargs = maker, args, kwargs
        self.defaults = defaults.options() if given is None else given
        options = self.options()
        try:
            self._key: Any = (
                maker,
                _frozen(options.args),
                _frozen(dict(sorted(options.kwargs.items()))),
                self.defaults,
            )
            self._hash = hash(self._key)
        except TypeError:
            self._key = object()
            self._hash = hash(self._key)

    def options(self) -> inspect.BoundArguments:
        """All options by name, defaults included."""
        options = _signature(self.maker).bind(*self.args, **self.kwargs)
        options.apply_defaults()
        return options

    def largest(self) -> int:
        """The largest number among the options: of a size, as a rule."""
        return max(
            (int(value) for value in self.options().arguments.values() if isinstance(value, Integral)), default=0
        )

    def __eq__(self, other: object) -> bool:
        """Whether the same maker was called with equal options."""
        return self is other or (isinstance(other, Call) and self._hash == other._hash and self._key == other._key)

    def __hash__(self) -> int:
        """Computed once: records are looked up at every call of a jitted function."""
        return self._hash

    def __reduce__(self) -> tuple:
        """Pickled as maker and options."""
        args = tuple(map(_portable, self.args))
        return Call, (self.maker, args, {name: _portable(value) for name, value in self.kwargs.items()}, self.defaults)

    def again(self, part: Callable[[Any], Any] = lambda value: value) -> Any:
        """What the call makes, of its options as ``part`` changes them."""
        with defaults.given({**dict(self.defaults), **dict(defaults.options())}):
            return self.maker(*map(part, self.args), **{name: part(value) for name, value in self.kwargs.items()})

    def __repr__(self) -> str:
        """The call as one would write it, options at their defaults left out."""
        parts: list[str] = []
        skipped = False
        options = self.options()
        for name, value in options.arguments.items():
            parameter = options.signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                parts += map(shown, value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                parts += (f"{key}={shown(each)}" for key, each in value.items())
            elif value is parameter.default or _same(value, parameter.default):
                skipped = True
            elif parameter.kind is parameter.KEYWORD_ONLY or skipped:
                parts.append(f"{name}={shown(value)}")
            else:
                parts.append(shown(value))
        return f"{self.maker.__name__}({', '.join(parts)})"


class Bound:
    """One function of a record, bound to the call that made the record."""

    __slots__ = ("__weakref__", "__wrapped__", "call", "part")

    def __init__(self, function: Callable, call: Call, part: str | None):
        """``part`` names the record's field; None where the maker returns a function."""
        self.__wrapped__, self.call, self.part = function, call, part

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        if self.part == "initial_state" and args:
            no_batch_shape(self.call.maker.__name__, args[0])
        if self.part == "init" and args and self.call.largest() >= LARGE:
            check_room(self.call.maker.__name__, self.__wrapped__, args[0])
        if self.part == "apply" and len(args) == 3:
            from seqjax.arguments import told  # which knows cells and layers, that are records

            with told(self.call.maker.__name__, _made(self.call), *args, kwargs):
                return self.__wrapped__(*args, **kwargs)
        return self.__wrapped__(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same part of equal calls."""
        return self is other or (isinstance(other, Bound) and self.part == other.part and self.call == other.call)

    def __hash__(self) -> int:
        """Of part and call."""
        return hash((self.part, self.call))

    def __reduce__(self) -> tuple:
        """Pickled as the call, made again where it is read."""
        return _again, (self.call, self.part)

    def __repr__(self) -> str:
        """The call and the part."""
        return f"{self.call}.{self.part}" if self.part else repr(self.call)


def no_batch_shape(who: str, params: Any) -> None:
    """Parameters are no batch shape: ``initial_state((2,))`` instead of ``initial_state(params, (2,))``."""
    if type(params) is tuple and params and all(isinstance(size, Integral) for size in params):
        raise TypeError(
            f"{who}: expected initial_state(params, batch_shape), got the batch shape {params} in place of params. "
            f"Call initial_state(params, {params})."
        )


def call_of(record: Any) -> Call | None:
    """The call that made a record, or a function such as an initialiser; None for what was made by hand or changed."""
    if not isinstance(record, tuple):
        return record.call if isinstance(record, Bound) and record.part is None else None
    parts: Any = [(part, f) for part, f in zip(getattr(record, "_fields", ()), record) if not isinstance(f, tuple)]
    calls = [f.call if isinstance(f, Bound) and f.part == part else None for part, f in parts]
    return calls[0] if calls and calls[0] is not None and all(call == calls[0] for call in calls) else None


def name(record: Any, otherwise: str) -> str:
    """The name of a record's maker, or what to say where there is none."""
    call = call_of(record)
    return otherwise if call is None else call.maker.__name__


def printed(record: Any) -> str:
    """The call that makes a record; its functions, where it was made by hand."""
    call = call_of(record)
    if call is not None:
        return repr(call)
    return f"{type(record).__name__}({', '.join(f'{part}={shown(f)}' for part, f in zip(record._fields, record))})"


class ByName:
    """Stands in a pickle for a function that cannot be pickled, such as `jax.nn.relu`, and is read as that function."""

    def __init__(self, function: Callable):
        """The function must be what its module has under its name."""
        self.function = function

    def __reduce__(self) -> tuple:
        """Read back by an import."""
        return _imported, (self.function.__module__, self.function.__qualname__)


def _imported(module: str, qualname: str) -> Any:
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


def _portable(value: Any) -> Any:
    """Functions that JAX has wrapped, by name; all else as it is."""
    if not callable(value) or isinstance(value, Bound | type | types.FunctionType):
        return value
    try:
        return ByName(value) if _imported(value.__module__, value.__qualname__) is value else value
    except (AttributeError, ImportError):
        return value


@functools.cache
def _signature(make: Callable) -> inspect.Signature:
    return inspect.signature(make)


@functools.lru_cache(maxsize=256)
def _made(call: Call) -> Any:
    return call.maker(*call.args, **call.kwargs)


def _again(call: Call, part: str | None) -> Any:
    record = call.again()
    return record if part is None else getattr(record, part)


def shown(value: Any) -> str:
    """Functions and types by name, a function with options as the call that it is part of, all else as it prints."""
    if isinstance(value, functools.partial):
        options = [*map(shown, value.args), *(f"{name}={shown(each)}" for name, each in value.keywords.items())]
        return f"partial({', '.join([shown(value.func), *options])})"
    if isinstance(value, type) or (callable(value) and not isinstance(value, Bound)):
        return getattr(value, "__name__", repr(value))
    return repr(value)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and isinstance(value, int | float | str | tuple) and value == default


def _frozen(value: Any) -> Any:
    """An option as something to hash: lists, dictionaries, partials too; 1, 1.0 and True are told apart.

    A record stands as its call, compared once: as a tuple of functions it would be compared thrice a level of nesting.
    """
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return call_of(value) or (type(value), *map(_frozen, value))
    if isinstance(value, list | tuple):
        return (type(value), *map(_frozen, value))
    if isinstance(value, dict):
        return (dict, *((key, _frozen(each)) for key, each in value.items()))
    if isinstance(value, functools.partial):
        return (functools.partial, value.func, _frozen(value.args), _frozen(dict(sorted(value.keywords.items()))))
    return (type(value), value) if isinstance(value, int | float) else value
