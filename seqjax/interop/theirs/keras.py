"""Outputs of Keras layers."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seqjax.interop.extras import needed
from seqjax.interop.verified import Run


def outputs_of(modules: Sequence[Any], dtype: str) -> Run:
    """Of copies that Keras makes of configuration and weights, computing in a dtype."""
    keras = needed("keras", extra="keras")
    tensor = lambda x: keras.ops.convert_to_tensor(x, dtype=dtype)

    def run(xs: Any, states: Any) -> Any:
        left = iter(states)
        with jax.enable_x64(False):
            ys = tensor(xs.swapaxes(0, 1))
            for module in modules:
                again = _copied(keras, module, dtype)
                both = hasattr(again, "backward_layer")
                again.build(ys.shape)
                again.set_weights(weights_of(keras, module))
                ys = again(ys, initial_state=[tensor(s) for _ in range(1 + both) for s in next(left)])
                if not both and again.go_backwards:
                    ys = keras.ops.flip(ys, 1)
            return keras.ops.convert_to_numpy(ys).swapaxes(0, 1)

    return run


def _copied(keras: Any, module: Any, dtype: str) -> Any:
    """A layer of its configuration that returns outputs, all of them, and keeps nothing."""
    if hasattr(module, "backward_layer"):
        ends = [_copied(keras, end, dtype) for end in (module.forward_layer, module.backward_layer)]
        return keras.layers.Bidirectional(ends[0], backward_layer=ends[1], merge_mode=module.merge_mode)
    plain = {
        "dtype": dtype,
        "return_sequences": True,
        "return_state": False,
        "stateful": False,
        "recurrent_initializer": "zeros",
    }
    return type(module).from_config(module.get_config() | plain)


def weights_of(keras: Any, module: Any) -> list[np.ndarray]:
    """As they are; what a stateful layer remembers is none of them."""
    return [keras.ops.convert_to_numpy(w.value) for w in module.weights]
