"""Frameworks that may be missing, named with the extra that brings them."""

import importlib
from typing import Any


def needed(module: str, *, extra: str) -> Any:
    """A module of a package that an extra brings.

    Args:
      module: its name, such as ``"flax.nnx"``.
      extra: of this package, ``pip install 'seqjax[extra]'``.

    Returns:
      The module.

    Raises:
      ModuleNotFoundError: it is not installed; says which extra brings it.

    Example:
      >>> needed("numpy", extra="none").__name__
      'numpy'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"interop: expected {module} to be installed, got nothing under that name. "
            f"Install it with pip install 'seqjax[{extra}]'.",
            name=missing.name,
        ) from missing
