"""Other people's code: their cells in, ours out, weights both ways, files and export.

A framework is loaded when one of its functions is asked for, so that ``import seqjax`` loads none of them; one that is
missing is named with the extra that brings it:

    >>> from seqjax.interop.extras import needed
    >>> needed("numpy", extra="none").__name__
    'numpy'

In order of reading:

- `needed`: a framework that may be missing. (extras)
- Files that run without this package, by `jax.export`: `export_module`, a cell or layer as two programs, `start` and
  `run`, and `read_programs`; `exported`, any function, such as a sampler or a training step, with `plain` containers in
  the place of records. (export)
- Graphs for ONNX's runtimes, by jax2onnx: `to_onnx`. (onnx_graph)
"""

import importlib
from typing import Any

# What this room offers, and the module that holds it; a module by its own name is the module itself.
_WHERE: dict[str, str] = {
    "Programs": "export",
    "export_module": "export",
    "exported": "export",
    "plain": "export",
    "read_programs": "export",
    "to_onnx": "onnx_graph",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """A function or module of this room, loaded when it is first asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_WHERE[name]}")
    return module if _WHERE[name] == name else getattr(module, name)


def __dir__() -> list[str]:
    """What completion offers."""
    return __all__
