"""Products in few bits, everything else in many."""

import functools
from typing import Any, Literal, TypeVar, get_args

import jax.numpy as jnp

from seqjax import checks, defaults, records
from seqjax.records import maker

Products = Literal["float32", "bfloat16"]
Model = TypeVar("Model")


@maker
def mixed_precision(model: Model, products: Products = "bfloat16") -> Model:
    """A model whose products have operands in bfloat16, and all else as it was.

        a = bf16(x) bf16(W) + b      summed in float32

    Parameters are the model's own, the master weights of mixed-precision training: float32, and so are sums, biases,
    gates, states, losses and what an optimizer keeps. Backwards a product has one operand in bfloat16, beside the
    gradient of a sum in float32. bfloat16 has the range of float32, so that losses need no scale.
    It pays where a device has units for such products; the CPUs of many machines have none and are slower for it.

    Every maker in the model that takes ``compute_dtype`` and was not told another is given it: cells, `seqjax.dense`,
    convolutions, attention within a window, blocks. What was made by hand stays as it is; there,
    ``seqjax.products.dot(x, w, jnp.bfloat16)`` is such a product.

    Args:
      model: a cell, layer, model that writes under a condition, or output layer.
      products: ``"bfloat16"``, or ``"float32"`` for the model itself.

    Returns:
      The model made anew, with the same parameters and states.

    Raises:
      TypeError: something that no `seqjax.maker` made.
      ValueError: another name, or a model without any product that could be told.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.recurrent(sj.lstm(3, 4)), sj.dense(4, 2))
      >>> mixed, params = sj.mixed_precision(model), model.init(jax.random.key(0))
      >>> state, ys = mixed.apply(params, mixed.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.dtype, state[0].c.dtype
      (dtype('float32'), dtype('float32'))

    References:
      Micikevicius et al. (2018), Mixed precision training. https://arxiv.org/abs/1710.03740
      Kalamkar et al. (2019), A study of BFLOAT16 for deep learning training. https://arxiv.org/abs/1905.12322
    """
    checks.choice("mixed_precision", "products", products, get_args(Products))
    if products == "float32":
        return model
    if records.call_of(model) is None:
        raise TypeError(
            f"mixed_precision: expected a model that a maker made, got {model!r}. Decorate its function with "
            "seqjax.maker, or give compute_dtype=jnp.bfloat16 to its parts."
        )
    with defaults.given({"compute_dtype": jnp.dtype(products)}) as taken:
        made = _again(model)
    if not taken:
        raise ValueError(
            f"mixed_precision: expected a model with products, got {model!r}, in which nothing takes compute_dtype. "
            "Leave it as it is."
        )
    return made


def _again(value: Any) -> Any:
    """A record, made by the same calls anew, its parts first: under `defaults.given` it may become another one.

    Lists, tuples, dictionaries and partials are gone through; all else stays: functions, what was made by hand.
    """
    call = records.call_of(value)
    if call is not None:
        return call.again(_again)
    if isinstance(value, dict):
        return {name: _again(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_again, value))
    if isinstance(value, functools.partial):
        return functools.partial(value.func, *map(_again, value.args), **_again(value.keywords))
    return value
