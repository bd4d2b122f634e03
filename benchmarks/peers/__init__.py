"""Other libraries, each in a file: the cells it has, and how it is given our weights and gives its gradients."""

import importlib
from types import ModuleType

JAX_LIBRARIES = {
    "scan": "plain_scan",
    "flax": "flax_linen",
    "haiku": "dm_haiku",
    "equinox": "equinox_nn",
    "keras": "keras_jax",
}
LIBRARIES = {**JAX_LIBRARIES, "torch": "torch_nn"}


def find(name: str) -> ModuleType | None:
    """The peer's module, or None where its library is not installed.

    A module has ``CELLS``, our name of a cell to our name of the variant that the library has; ``DTYPES`` if it
    lacks one; and for JAX ``adapter(problem)``, for torch ``runner(problem, which)``.
    """
    try:
        return importlib.import_module(f"benchmarks.peers.{LIBRARIES[name]}")
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.startswith("benchmarks"):
            raise
        return None
