"""Parameters in a file: ``safetensors``, each array under its name, with the call of the module that they belong to."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, PyTree
from seqjax.interop.by_name import rebuilt
from seqjax.interop.extras import needed
from seqjax.naming import named
from seqjax.version import __version__

# The format's names of types.
TYPES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
WIDE = np.dtype(complex)  # which it lacks: kept as pairs of floats
# Options that say how a module is run, not what it is; and where an object lies in memory.
TEXT = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
RUNNING = re.compile(
    rf"(, )?\b(engine|memory)=({TEXT}|\d+)|(, )?\bsettings=Settings\(([^()'\"]|{TEXT})*\)| at 0x[0-9a-f]+"
)


def save_params(path: str | os.PathLike, module: Any, params: PyTree) -> None:
    """Writes parameters to a ``safetensors`` file, under their names, in their own types.

    Beside the arrays the file holds the call that makes the module, by which `load_params` knows them again, and the
    version of this package. A file that was there is replaced once the new one is whole. A leaf that is a JAX key is
    kept as its data.

    Args:
      path: of the file, ``…/model.safetensors``.
      module: the cell, layer or model that the parameters belong to.
      params: its parameters.

    Raises:
      TypeError: parameters of another module, or an array of a type that the format lacks.
      FileNotFoundError: no such folder.

    Example:
      >>> import jax, tempfile, seqjax as sj
      >>> model = sj.serial(sj.embedding(65, 8), sj.recurrent(sj.lstm(8, 16)), sj.dense(16, 65))
      >>> params, path = model.init(jax.random.key(0)), tempfile.mkdtemp() + "/model.safetensors"
      >>> sj.interop.save_params(path, model, params)
      >>> again = sj.interop.load_params(path, model)
      >>> bool((again[1].w_h == params[1].w_h).all())
      True
    """
    checks.params_of("save_params", module, params)
    write("save_params", path, named(module, params), {"module": printed(module)})


def load_params(path: str | os.PathLike, module: Any, *, same_call: bool = True) -> PyTree:
    """Reads the parameters of a module that `save_params` wrote.

    Args:
      path: of the file.
      module: the module they belong to, made by the same call; how it is run (``engine``, ``memory``) may differ.
      same_call: whether to insist on that call; if False, names, shapes and kinds of arrays have to agree only.

    Returns:
      The parameters, in the types of the file.

    Raises:
      FileNotFoundError: no file.
      ValueError: a file that is cut off, or something else, or of another module; arrays that are missing or unknown
        or of another shape; 64 bits where JAX keeps 32.
      TypeError: an array of another kind, such as integers for floats.

    Example:
      Of a model that was trained with dropout, the same without:

      >>> import jax, tempfile, seqjax as sj
      >>> noisy = sj.serial(sj.embedding(65, 8), sj.dropout(0.5), sj.recurrent(sj.lstm(8, 16)))
      >>> path = tempfile.mkdtemp() + "/model.safetensors"
      >>> sj.interop.save_params(path, noisy, noisy.init(jax.random.key(0)))
      >>> model = sj.serial(sj.embedding(65, 8), sj.recurrent(sj.lstm(8, 16)))
      >>> sj.interop.load_params(path, model, same_call=False)[1].w_h.shape
      (16, 64)
    """
    metadata, arrays = read("load_params", path)
    if same_call:
        _check_call(path, metadata, module)
    return rebuilt("load_params", module, arrays)


def printed(module: Any) -> str:
    """The call that makes a module, without the options that say how it is run.

    >>> import seqjax as sj
    >>> printed(sj.recurrent(sj.lstm(3, 4), reverse=True, memory="sqrt"))
    'recurrent(lstm(3, 4), reverse=True)'
    """
    return RUNNING.sub("", repr(module))


def write(who: str, path: str | os.PathLike, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes arrays by name, and what the file says of itself besides; ``who`` complains.

    Raises:
      TypeError: what is no array, or one of a type that the format lacks.
      FileNotFoundError: no such folder.
    """
    numpy = needed("safetensors.numpy", extra="files")
    keys = {name: str(jax.random.key_impl(leaf)) for name, leaf in arrays.items() if _is_key(leaf)}
    plain = {name: jax.random.key_data(leaf) if name in keys else leaf for name, leaf in arrays.items()}
    written = {name: np.asarray(leaf, order="C") for name, leaf in plain.items()}
    pairs = [name for name, array in written.items() if array.dtype == WIDE]
    written |= {name: np.stack([written[name].real, written[name].imag], axis=-1) for name in pairs}
    for name, array in written.items():
        _check_type(who, numpy, name, array)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{who}: expected a folder to write {path.name} to, got nothing at {path.parent}. Make it first."
        )
    new = path.with_name(path.name + ".new")
    notes = {"keys": json.dumps(keys), "pairs": json.dumps(pairs)}
    numpy.save_file(written, new, metadata={"seqjax": __version__, **metadata, **notes})
    os.replace(new, path)


def read(who: str, path: str | os.PathLike) -> tuple[dict[str, str], dict[str, Array]]:
    """What a file says of itself, and its arrays by name; ``who`` complains.

    Raises:
      FileNotFoundError: no file.
      ValueError: a file that is cut off, or something else; 64 bits where JAX keeps 32.
    """
    safetensors = needed("safetensors", extra="files")
    path, writer = Path(path), who.replace("load", "save")
    if not path.is_file():
        raise FileNotFoundError(f"{who}: expected a file that {writer} wrote, got nothing at {path}. Write it first.")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        entries = safetensors.deserialize(path.read_bytes())
        arrays = {name: _entry(each) for name, each in sorted(entries)}
        keys = dict(json.loads(metadata.get("keys", "{}")))
        arrays |= {name: arrays[name].view(WIDE)[..., 0] for name in json.loads(metadata.get("pairs", "[]"))}
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{who}: expected {path} to be a whole safetensors file, got one that is cut off, or something else "
            f"({error}). Write it again with {writer}."
        ) from error
    return metadata, {name: _array(who, name, array, keys.get(name)) for name, array in arrays.items()}


def _entry(entry: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(entry["data"], jnp.dtype(TYPES[entry["dtype"]])).reshape(entry["shape"])


def _check_call(path: Any, metadata: Mapping[str, str], module: Any) -> None:
    found = metadata.get("module")
    if found is None:
        raise ValueError(
            f"load_params: expected {path} to name the module of its parameters, as save_params writes it, got a "
            "file without. Pass same_call=False if its arrays have this module's names; sj.interop.named lists them."
        )
    if found != printed(module):
        raise ValueError(
            f"load_params: expected parameters of {printed(module)}, got a file of {found}. Make that module, or pass "
            "same_call=False where only names and shapes have to agree."
        )


def _array(who: str, name: str, array: np.ndarray, key: str | None) -> Array:
    kept = jnp.asarray(array)
    if kept.dtype != array.dtype:
        raise ValueError(
            f"{who}: expected {name} in at most 32 bits, as JAX keeps no more, got {array.dtype}. Set "
            "jax_enable_x64, or save the arrays cast."
        )
    return kept if key is None else jax.random.wrap_key_data(kept, impl=key)


def _check_type(who: str, numpy: Any, name: str, array: np.ndarray) -> None:
    try:
        numpy.save({"": np.zeros(0, array.dtype)})
    except Exception as error:  # each version has a type of its own for it
        raise TypeError(
            f"{who}: expected arrays of types that safetensors has, got {name} of {array.dtype}. "
            "Cast it, or leave it out."
        ) from error


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
