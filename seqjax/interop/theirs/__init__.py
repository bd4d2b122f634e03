"""Modules of other libraries run as they stand, for ``verify=True``: a framework a file.

In every one ``outputs_of(…)`` is a `seqjax.interop.verified.Run`, from inputs and first states to outputs:

- `torch`: a module, without its dropout; `equinox`: cells, in a scan; `haiku`: cores with their parameters.
- `flax`: modules of linen or nnx, cells in Flax's own loop.
- `keras`: copies that Keras makes of configuration and weights, which return every tick and remember nothing.
- `onnx`: a model of one operator, by onnxruntime.
"""
