"""Doctests of a file that shows a framework which is not installed are left out."""

import os
from importlib.util import find_spec

os.environ.setdefault("KERAS_BACKEND", "jax")

FRAMEWORKS = {
    **{f"interop/{name}": [name] for name in ("torch", "keras", "haiku", "equinox", "onnx")},
    "interop/onnx_graph": ["jax2onnx", "onnxruntime"],
    "interop/files": ["safetensors"],
    "interop/pretrained": ["safetensors"],
    "saving": ["safetensors"],
    "interop/export": ["flatbuffers"],
    "interop/foreign/haiku": ["haiku"],
    "interop/foreign/equinox": ["equinox"],
}

collect_ignore = [f"seqjax/{file}.py" for file, modules in FRAMEWORKS.items() if not all(map(find_spec, modules))]
