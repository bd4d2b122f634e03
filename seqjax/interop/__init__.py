"""Other people's code: their cells in, ours out, weights both ways, files and export.

A framework is loaded when one of its functions is asked for, so that ``import seqjax`` loads none of them; one that is
missing is named with the extra that brings it:

    >>> import numpy as np, seqjax as sj
    >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.ones((8, 2))}
    >>> layer, params = sj.interop.torch.from_state_dict("lstm", weights)
    >>> sorted(sj.interop.torch.to_state_dict(layer, params))
    ['weight_hh_l0', 'weight_ih_l0']

In order of reading:

- `torch`, `keras`, `flax`, `haiku`, `equinox`, `onnx`: weight passports, the same verbs in each. ``from_state_dict``
  and ``from_module`` make a layer and its parameters, to the bit, and verify them if asked; ``to_state_dict`` and
  ``to_module`` go back; ``state_from`` and ``state_to`` do so for states. (rows, states, arrays, verified: what they
  share; layouts: how each keeps its weights; theirs: how each is run to verify)
- `from_nnx`, `from_linen`, `from_equinox`, `from_haiku`: a recurrent cell of theirs as one of ours. (foreign)
- `to_nnx`, `to_linen`, `to_equinox`: a cell or layer of ours as a module of theirs. (foreign)
- `named`, `unnamed`: parameters by name, and back (by_name); `save_params`, `load_params`: in a ``safetensors`` file.
  (files)
- `to_config`, `from_config`: a module as a record that JSON can hold. (config)
- `save_pretrained`, `from_pretrained`: both in a folder, or from the Hugging Face hub. (pretrained)
- Files that run without this package, by `jax.export`: `export_module`, a cell or layer as two programs, `start` and
  `run`, and `read_programs`; `exported`, any function, such as a sampler or a training step, with `plain` containers in
  the place of records. (export)
- Graphs for ONNX's runtimes, by jax2onnx: `to_onnx`. (onnx_graph; calls, equations: what these two rest on)
- extras: frameworks that may be missing.
"""

import importlib
from typing import Any

# What this room offers, and the module that holds it; a module by its own name is the module itself.
_WHERE: dict[str, str] = {
    **{name: name for name in ("torch", "keras", "flax", "haiku", "equinox", "onnx")},
    "from_nnx": "foreign.nnx",
    "from_linen": "foreign.linen",
    "from_equinox": "foreign.equinox",
    "from_haiku": "foreign.haiku",
    "to_nnx": "foreign.nnx",
    "to_linen": "foreign.linen",
    "to_equinox": "foreign.equinox",
    "named": "by_name",
    "unnamed": "by_name",
    "save_params": "files",
    "load_params": "files",
    "to_config": "config",
    "from_config": "config",
    "save_pretrained": "pretrained",
    "from_pretrained": "pretrained",
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
