"""Doctests of a file that shows a framework which is not installed are left out."""

import os
from importlib.util import find_spec

os.environ.setdefault("KERAS_BACKEND", "jax")

FRAMEWORKS = {
    **{name: [name] for name in ("torch", "keras", "haiku", "equinox", "onnx")},
    "onnx_graph": ["jax2onnx", "onnxruntime"],
    "files": ["safetensors"],
    "pretrained": ["safetensors"],
    "export": ["flatbuffers"],
    "foreign/haiku": ["haiku"],
    "foreign/equinox": ["equinox"],
}

collect_ignore = [
    f"seqjax/interop/{file}.py" for file, modules in FRAMEWORKS.items() if not all(map(find_spec, modules))
]
