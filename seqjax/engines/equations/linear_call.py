"""A linear function with a transpose of its own, which JAX can batch, differentiate and transpose.

`jax.custom_derivatives.linear_call` does the same but cannot be batched, nor differentiated in its coefficients.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from seqjax.engines.equations import jaxprs

Flat = Callable[[list, list], list]


class Linear(NamedTuple):
    """Three ways to run one map, each ``(coefficients, linear) -> outputs`` of flat lists.

    Attributes:
      forward: the map.
      transpose: its transpose, ``(coefficients, cotangents of outputs) -> cotangents of linear``.
      plain: the map in operations that JAX can differentiate in the coefficients.
    """

    forward: Flat
    transpose: Flat
    plain: Flat


def call(linear: Linear, coefficients: Sequence, moving: Sequence) -> list:
    """``linear.forward(coefficients, moving)``, linear in ``moving``."""
    coefficients, moving = list(coefficients), list(moving)
    return linear_p.bind(*coefficients, *moving, linear=linear, count=len(coefficients))


def never_transposed(value: jax.Array, why: str) -> jax.Array:
    """The value itself; a gradient through it is refused when it is traced.

    Raises:
      ValueError: with ``why``, from whatever transposes it.
    """
    return never_transposed_p.bind(value, why=why)


linear_p = core.Primitive("seqjax_linear")
linear_p.multiple_results = True


def _run(*values: jax.Array, linear: Linear, count: int) -> list:
    return linear.forward(list(values[:count]), list(values[count:]))


def _abstract(*avals: jaxprs.Aval, linear: Linear, count: int) -> list:
    return jaxprs.trace(lambda *values: linear.plain(list(values[:count]), list(values[count:])), *avals).out_avals


def _transpose(cotangents: Sequence, *values: jax.Array, linear: Linear, count: int) -> list:
    coefficients = values[:count]
    cotangents = [ad.instantiate_zeros(ct) for ct in cotangents]

    def plain(coefficients: list, cotangents: list) -> list:
        # Zeros and not their types: these would leave out shardings, and the axes of a mesh over which values differ.
        at = [jaxprs.zeros(v.aval) for v in values[count:]]
        f = lambda *moving: linear.plain(coefficients, list(moving))
        return list(jax.linear_transpose(f, *at)(list(cotangents)))

    back = Linear(linear.transpose, linear.forward, plain)
    return [*([None] * count), *call(back, coefficients, cotangents)]


def _jvp(primals: Sequence, tangents: Sequence, *, linear: Linear, count: int) -> tuple[list, list]:
    coefficients, moving = list(primals[:count]), list(primals[count:])
    outs = call(linear, coefficients, moving)
    moved = [ad.instantiate_zeros(t) for t in tangents[count:]]
    d_outs = call(linear, coefficients, moved)
    varied = [i for i, t in enumerate(tangents[:count]) if type(t) is not ad.Zero and t.dtype != jaxprs.float0]
    if varied:

        def of(*some: jax.Array) -> list:
            full = list(coefficients)
            for i, value in zip(varied, some):
                full[i] = value
            return linear.plain(full, moving)

        _, more = jax.jvp(of, [coefficients[i] for i in varied], [tangents[i] for i in varied])
        d_outs = [a + b for a, b in zip(d_outs, more)]
    return outs, d_outs


def _batch(values: Sequence, dims: Sequence, *, linear: Linear, count: int) -> tuple[list, list]:
    """Linear operands all get the new axis: the transpose of that broadcast sums their cotangents."""
    size = next(v.shape[d] for v, d in zip(values, dims) if d is not None)
    moving = [batching.bdim_at_front(v, d, size) for v, d in zip(values[count:], dims[count:])]

    def mapped(f: Flat) -> Flat:
        return lambda coefficients, linear: jax.vmap(f, (list(dims[:count]), 0), 0, axis_size=size)(
            coefficients, linear
        )

    batched = Linear(mapped(linear.forward), mapped(linear.transpose), mapped(linear.plain))
    outs = call(batched, values[:count], moving)
    return outs, [0] * len(outs)


def _refuse(cotangent: jax.Array, value: jax.Array, *, why: str) -> list:
    raise ValueError(why)


never_transposed_p = core.Primitive("seqjax_never_transposed")
never_transposed_p.def_impl(lambda value, *, why: value)
never_transposed_p.def_abstract_eval(lambda value, *, why: value)
mlir.register_lowering(never_transposed_p, mlir.lower_fun(lambda value, *, why: value, multiple_results=False))
ad.deflinear2(never_transposed_p, _refuse)
batching.defvectorized(never_transposed_p)

linear_p.def_impl(jax.jit(_run, static_argnames=("linear", "count")))
linear_p.def_abstract_eval(_abstract)
mlir.register_lowering(linear_p, mlir.lower_fun(_run, multiple_results=True))
ad.primitive_transposes[linear_p] = _transpose
ad.primitive_jvps[linear_p] = _jvp
batching.primitive_batchers[linear_p] = _batch
