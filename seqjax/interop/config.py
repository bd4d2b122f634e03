"""A module as a record that a person can read and change, and as a file can hold it: makers by name, and their options.

Nothing is evaluated or unpickled to make the module again: a name is looked up in a fixed list of rooms, and a maker is
called. What has no name there, such as a function of one's own, cannot be said.
"""

import functools
import importlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import records
from seqjax.naming import is_module
from seqjax.records import Bound, Call

VERSION = 1
# Where makers, records and functions of this package are looked up.
ROOMS = (
    "layers", "cells", "transforms", "models", "models.encoder_decoder", "models.presets", "initializers", "decoding",
    "gradients", "gradients.lessons", "automata", "automata.networks", "hmm", "hmm.cells", "settings",
)  # fmt: skip
# Functions of JAX that an option may be; all of them take an array.
FUNCTIONS = {
    "jax.nn": "celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid log_softmax mish "
    "relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus standardize swish",
    "jax.numpy": "abs absolute arctan cos exp expm1 log1p negative positive sign sin sinc sinh sqrt square tan tanh",
    "jax.lax": "erf logistic stop_gradient tanh",
    "jax.nn.initializers": "ones zeros",
}
TYPES = (
    "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 complex128 "
    "float8_e4m3fn float8_e5m2"
)


def to_config(module: Any) -> dict[str, Any]:
    """A module as nested dictionaries, lists, texts and numbers, as JSON can hold them.

    A call is ``{"maker": name, option: value, …}``, options at their defaults left out. A function or a type is
    ``{"name": "jax.nn.relu"}``, a maker with some of its options, as `functools.partial` has it,
    ``{"partial": name, option: value, …}``, a record ``{"record": "cells.LSTMState", field: value, …}``, a tuple
    ``{"tuple": […]}``.

    Args:
      module: a cell, a layer or a model, made by makers of this package.

    Returns:
      ``{"version": …, "module": …}``; `from_config` makes an equal module of it.

    Raises:
      TypeError: something else than a module.
      ValueError: something in it that has no name, such as a function of one's own, or an array.

    Example:
      >>> import jax, seqjax as sj
      >>> config = sj.interop.to_config(sj.serial(sj.recurrent(sj.gru(3, 4)), sj.dense(4, 2, activation=jax.nn.relu)))
      >>> config["module"]["layers"][1]
      {'maker': 'layers.dense', 'input_size': 4, 'output_size': 2, 'activation': {'name': 'jax.nn.relu'}}
      >>> sj.interop.from_config(config)
      serial(recurrent(gru(3, 4)), dense(4, 2, activation=relu))
    """
    if not is_module(module):
        raise TypeError(
            f"to_config: expected a cell, a layer or a model, got {type(module).__name__}. Pass the module, not its "
            "parameters."
        )
    return {"version": VERSION, "module": _said(module, records.name(module, "module"))}


def from_config(config: dict[str, Any]) -> Any:
    """The module that `to_config` has written down.

    Args:
      config: the record, read from JSON or made by hand.

    Returns:
      The module.

    Raises:
      ValueError: another version, a name that is no maker's or none in the list of rooms, options that a maker
        refuses, or a record of another form.

    Example:
      >>> import seqjax as sj
      >>> sj.interop.from_config({"version": 1, "module": {"maker": "cells.lstm", "input_size": 3, "hidden_size": 4}})
      lstm(3, 4)
    """
    if not isinstance(config, dict) or not isinstance(config.get("version"), int) or "module" not in config:
        raise ValueError(
            "from_config: expected a dictionary with a version and a module, as to_config makes it, got "
            f"{_short(config)}. Write it with to_config."
        )
    if config["version"] != VERSION:
        raise ValueError(
            f"from_config: expected a record of version {VERSION}, got {config['version']}. "
            "Use the version of seqjax that wrote it."
        )
    try:
        module = _made(config["module"], "module")
    except RecursionError as error:
        raise ValueError(
            "from_config: expected records within records a few hundred deep at most, got more. Correct it."
        ) from error
    if not is_module(module):
        raise ValueError(
            f"from_config: expected a record of a cell, a layer or a model, got {_short(config['module'])}. "
            "Write it with to_config."
        )
    return module


@functools.cache
def nameable() -> dict[str, Any]:
    """All that a record may name."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"seqjax.{room}")
        listed = getattr(module, "__all__", None)
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        for name in own if listed is None else listed:
            value = getattr(module, name)
            if callable(value) and value.__module__.startswith("seqjax."):
                found[f"{room}.{name}"] = value
    for room, names in FUNCTIONS.items():
        module = importlib.import_module(room)
        found |= {f"{room}.{name}": getattr(module, name) for name in names.split() if hasattr(module, name)}
    for name in TYPES.split():
        found |= {f"{room.__name__}.{name}": getattr(room, name) for room in (jnp, np) if hasattr(room, name)}
    return found


@functools.cache
def _names() -> dict[int, str]:
    """The first name of each of them."""
    return {id(value): name for name, value in reversed(nameable().items())}


def _said(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    call = records.call_of(value)
    if call is not None:
        return _call(call, where)
    if isinstance(value, Bound):
        return {"part": value.part, "of": _call(value.call, where)}
    if type(value) is list:
        return [_said(each, f"{where}[{i}]") for i, each in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [_said(each, f"{where}[{i}]") for i, each in enumerate(value)]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: _said(each, f"{where}[{key!r}]") for key, each in value.items()}}
    if isinstance(value, jax.ShapeDtypeStruct):
        return {"shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, np.dtype):
        return {"dtype": str(value)}
    if isinstance(value, np.generic):
        return {"scalar": str(value.dtype), "value": value.item()}
    if isinstance(value, functools.partial) and id(value.func) in _names() and not value.args:
        given = {name: _said(each, f"{where}.{name}") for name, each in value.keywords.items()}
        return {"partial": _names()[id(value.func)], **given}
    fields = getattr(value, "_fields", None)
    if fields is not None and id(type(value)) in _names():
        given = {name: _said(each, f"{where}.{name}") for name, each in zip(fields, value)}
        return {"record": _names()[id(type(value))], **given}
    if id(value) in _names():
        return {"name": _names()[id(value)]}
    raise ValueError(
        f"to_config: expected numbers, texts, modules and functions of seqjax or jax.nn, got {_called(value)} as "
        f"{where}. Use a named one; or save without a config and give the module where it is loaded: "
        "save_pretrained(…, config=False), from_pretrained(…, module=…)."
    )


def _call(call: Call, where: str) -> dict[str, Any]:
    maker = _names().get(id(call.maker))
    if maker is None:
        raise ValueError(
            f"to_config: expected makers of seqjax, got {call.maker.__module__}.{call.maker.__qualname__} as {where}. "
            "Save without a config and give the module where it is loaded: save_pretrained(…, config=False), "
            "from_pretrained(…, module=…)."
        )
    options = call.options()
    said: dict[str, Any] = {}
    for name, value in options.arguments.items():
        parameter = options.signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            said[name] = [_said(each, f"{where}.{name}[{i}]") for i, each in enumerate(value)]
        elif parameter.kind is parameter.VAR_KEYWORD:
            said |= {key: _said(each, f"{where}.{key}") for key, each in value.items()}
        elif value is not parameter.default:
            said[name] = _said(value, f"{where}.{name}")
    return {"maker": maker, **said}


def _made(said: Any, where: str) -> Any:
    if said is None or isinstance(said, bool | int | float | str):
        return said
    if isinstance(said, list):
        return [_made(each, f"{where}[{i}]") for i, each in enumerate(said)]
    match said:
        case {"maker": str(name), **options}:
            return _make(name, options, where)
        case {"part": str(part), "of": {"maker": str(name), **options}, **rest} if not rest:
            record = _make(name, options, where)
            if part in getattr(record, "_fields", ()):
                return getattr(record, part)
        case {"partial": str(name), **options} if records.is_maker(_named(name, where)):
            given = {str(option): _made(each, f"{where}.{option}") for option, each in options.items()}
            return functools.partial(_named(name, where), **given)
        case {"record": str(name), **fields}:
            kind = _named(name, where)
            if isinstance(kind, type) and set(getattr(kind, "_fields", ())) == set(fields):
                return kind(**{str(field): _made(each, f"{where}.{field}") for field, each in fields.items()})
        case {"name": str(name), **rest} if not rest:
            return _named(name, where)
        case {"tuple": list(each), **rest} if not rest:
            return tuple(_made(each, where))
        case {"dict": dict(each), **rest} if not rest:
            return {key: _made(value, f"{where}[{key!r}]") for key, value in each.items()}
        case {"float": "inf" | "-inf" | "nan" as number, **rest} if not rest:
            return float(number)
        case {"shape": list(shape), "dtype": str(dtype), **rest} if not rest:
            return jax.ShapeDtypeStruct(tuple(shape), _dtype(dtype, where))
        case {"scalar": str(dtype), "value": value, **rest} if not rest:
            return _dtype(dtype, where).type(value)
        case {"dtype": str(dtype), **rest} if not rest:
            return _dtype(dtype, where)
    raise ValueError(
        f"from_config: expected a value as to_config writes it at {where}, got {_short(said)}. Correct it."
    )


def _make(name: str, options: Mapping[Any, Any], where: str) -> Any:
    maker = _named(name, where)
    if not records.is_maker(maker):
        raise ValueError(
            f"from_config: expected the name of a maker at {where}, such as cells.lstm, got {name}. Correct it."
        )
    given = {option: _made(each, f"{where}.{option}") for option, each in options.items()}
    row = [p.name for p in records.parameters(maker) if p.kind is p.VAR_POSITIONAL]
    try:
        positional = [each for option in row for each in given.pop(option, [])]
        return maker(*positional, **given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"from_config: expected options that {name} takes at {where}. {error}") from error


def _named(name: str, where: str) -> Any:
    if name not in nameable():
        raise ValueError(
            f"from_config: expected a name of seqjax or jax.nn at {where}, such as cells.lstm, got {name!r}. "
            "Correct it, or use the version of seqjax that wrote it."
        )
    return nameable()[name]


def _dtype(name: str, where: str) -> Any:
    try:
        return jnp.dtype(name)
    except TypeError as error:
        raise ValueError(f"from_config: expected a dtype at {where}, got {name!r}. Correct it.") from error


def _called(value: Any) -> str:
    """What a person calls a value: a function by its name."""
    if isinstance(value, np.ndarray | jax.Array):
        return f"an array of shape {value.shape}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"the function {value.__module__}.{value.__qualname__}"
    return _short(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
