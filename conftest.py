"""Doctests of a file that shows a framework which is not installed are left out."""

import os
from importlib.util import find_spec

os.environ.setdefault("KERAS_BACKEND", "jax")

FRAMEWORKS = {"torch": ["torch"], "keras": ["keras"], "haiku": ["haiku"], "equinox": ["equinox"], "onnx": ["onnx"]}

collect_ignore = [
    f"seqjax/interop/{file}.py" for file, modules in FRAMEWORKS.items() if not all(map(find_spec, modules))
]
