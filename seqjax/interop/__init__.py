"""Other people's code: their cells in, ours out, weights both ways, files and export.

A framework is loaded when one of its functions is asked for, so that ``import seqjax`` loads none of them; one that is
missing is named with the extra that brings it:

    >>> from seqjax.interop.extras import needed
    >>> needed("numpy", extra="none").__name__
    'numpy'

In order of reading:

- `needed`: a framework that may be missing. (extras)
- `named`, `unnamed`: parameters by name, and back (by_name); `save_params`, `load_params`: in a ``safetensors`` file.
  (files)
- `to_config`, `from_config`: a module as a record that JSON can hold. (config)
- `save_pretrained`, `from_pretrained`: both in a folder, or from the Hugging Face hub. (pretrained)
"""

import importlib
from typing import Any

# What this room offers, and the module that holds it; a module by its own name is the module itself.
_WHERE: dict[str, str] = {
    "from_config": "config",
    "from_pretrained": "pretrained",
    "load_params": "files",
    "named": "by_name",
    "save_params": "files",
    "save_pretrained": "pretrained",
    "to_config": "config",
    "unnamed": "by_name",
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
