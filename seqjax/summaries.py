"""The size of a model: parameters, state, arithmetic a tick."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.engines.equations.jaxprs import ClosedJaxpr, Equation, Jaxpr
from seqjax.engines.plan import as_written
from seqjax.naming import named, named_state

ELEMENTWISE = """
    add sub mul div rem max min neg abs sign floor ceil round clamp pow integer_pow square sqrt rsqrt cbrt
    exp exp2 expm1 log log1p logistic tanh sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh
    erf erfc erf_inv lgamma digamma add_any
"""
PADS = "pads: padding's share in tiles of 8 × 128, 16 × 128 in bfloat16; in multiples of 16 bytes"
REDUCTIONS = "reduce_sum reduce_prod reduce_max reduce_min cumsum cumprod cummax cummin cumlogsumexp"


# The blocks to which a device pads the last two axes of an array, or wants them filled, of numbers of so many bytes:
# a TPU stores 8 rows of 128 columns of 4 bytes, more rows of fewer bytes
# (https://cloud.google.com/tpu/docs/performance-guide); products run on a GPU's tensor cores by multiples of 16 bytes
# (https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html).
TILES = {
    "TPU": lambda itemsize: (8 * max(1, 4 // itemsize), 128),
    "GPU": lambda itemsize: (max(1, 16 // itemsize),) * 2,
}


class Leaf(NamedTuple):
    """One array: its name (`seqjax.interop.named`), shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    bytes: int

    def padded(self, device: str) -> int:
        """Numbers that are stored or multiplied where a ``"TPU"`` or ``"GPU"`` fills its tiles.

        Of a vector a TPU fills a row; a GPU multiplies none.
        """
        if not self.size or not self.shape or (device == "GPU" and len(self.shape) == 1):
            return self.size
        tile = TILES[device](self.bytes // self.size)[-len(self.shape) :]
        blocks = math.prod(math.ceil(n / t) * t for n, t in zip(self.shape[-len(tile) :], tile))
        return math.prod(self.shape[: -len(tile)]) * blocks


class Flop(NamedTuple):
    """Floating-point operations: those of matrix products, and all others."""

    products: float
    other: float


class Summary(NamedTuple):
    """What `summary` found; prints as a table.

    Attributes:
      parameters: the parameters, leaf by leaf.
      state: the state of one sequence, leaf by leaf.
      flop: operations of one tick of one sequence, forwards.
    """

    parameters: tuple[Leaf, ...]
    state: tuple[Leaf, ...]
    flop: Flop

    @property
    def parameter_count(self) -> int:
        """The number of parameters."""
        return sum(leaf.size for leaf in self.parameters)

    @property
    def state_size(self) -> int:
        """How many numbers are carried from tick to tick."""
        return sum(leaf.size for leaf in self.state)

    def __str__(self) -> str:
        """The table."""
        rows = [*_part("parameters", self.parameters, padding=True), *_part("state of a sequence", self.state)]
        a, b, c, d = (max(len(row[i]) for row in rows) for i in range(4))
        lines = [
            f"{r[0]:<{a}}  {r[1]:<{b}}  {r[2]:<{c}}  {r[3]:>{d}}  {r[4]:>10}"
            + "".join(f"  {share:>8}" for share in r[5:])
            for r in rows
        ]
        products, other = self.flop
        total = f"{products + other:,.0f} FLOP a tick: {products:,.0f} in products, {other:,.0f} elsewhere"
        return "\n".join([*lines, PADS, total])


def summary(
    module: Cell | Layer, inputs: PyTree, *, params: PyTree | None = None, batch_axes: int | None = None
) -> Summary:
    """Counts parameters, state, and the arithmetic of a tick, without running anything.

    Counted are the operations of the forward pass as it is written, by jaxpr: 2 m n k for a product of
    ``[m, k]`` and ``[k, n]`` (multiplications and additions each count), likewise convolutions; 1 an element
    for every elementwise function of floats (tanh and exp count as 1, like an addition); 1 an input element
    for sums and other reductions. Not counted: look-ups, copies, comparisons, selections, integers, random
    bits. Recurrences are counted tick by tick as their equations stand, whatever engine runs them. Of the
    branches of a condition the dearest counts; the body of a while loop, whose length nobody knows, counts once.

    Of every parameter the table says which share is padding where its last two axes fill a TPU's tiles, as they are
    stored there, and where they are multiples of what a GPU's tensor cores multiply at once.

    Args:
      module: a cell or a layer.
      inputs: an example, or `jax.ShapeDtypeStruct`: one tick ``[*B, d]`` for a cell, a chunk ``[T, *B, d]`` (or
        ``[T, *B]`` of symbols) for a layer. Of a batch one sequence is counted.
      params: the parameters, needed only where ``init`` can't be traced; their values are not looked at.
      batch_axes: how many batch axes the inputs have; None tries it out: as few as the module can read, as many
        where it has parameters but no state, which would tell.

    Returns:
      A `Summary`: of one sequence, and of one tick of it.

    Raises:
      TypeError: something else than a cell or a layer.
      ValueError: inputs that it can't read.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> print(sj.summary(sj.elman(64, 128, dtype="float32"), jnp.zeros(64, jnp.float32)))
      parameters           shape      type     number      memory  TPU pads  GPU pads
        w_x                64 × 128   float32   8,192      32 KiB        0%        0%
        w_h                128 × 128  float32  16,384      64 KiB        0%        0%
        b                  128        float32     128       512 B        0%        0%
        total                                  24,704    96.5 KiB        0%        0%
      state of a sequence  shape      type     number      memory
        array              128        float32     128       512 B
        total                                     128       512 B
      pads: padding's share in tiles of 8 × 128, 16 × 128 in bfloat16; in multiples of 16 bytes
      49,536 FLOP a tick: 49,152 in products, 384 elsewhere
    """
    if not isinstance(module, Cell):
        checks.instance("summary", module, Layer, "Pass a cell or a layer.")
    if params is None:
        params = jax.eval_shape(module.init, jax.random.key(0))
    checks.params_of("summary", module, params)
    state = jax.eval_shape(lambda p: module.initial_state(p), params)
    ticks = 1 if isinstance(module, Cell) else checks.length("summary", inputs)
    total = flop(_traced(module, params, state, inputs, batch_axes))
    return Summary(
        _leaves(named(module, params)),
        _leaves(named_state(module, state)),
        Flop(total.products / ticks, total.other / ticks),
    )


def _traced(module: Cell | Layer, params: PyTree, state: PyTree, inputs: PyTree, batch_axes: int | None) -> ClosedJaxpr:
    """One sequence through the module, the inputs' batch axes left out."""
    time = 0 if isinstance(module, Cell) else 1
    run: Any = module.step if isinstance(module, Cell) else module.apply

    def trace(axes: int) -> ClosedJaxpr:
        def one(x: Any) -> jax.ShapeDtypeStruct:
            shape = np.shape(x)
            return jax.ShapeDtypeStruct(shape[:time] + shape[time + axes :], jnp.result_type(x))

        with as_written():
            return jax.make_jaxpr(run)(params, state, jax.tree.map(one, inputs))

    if batch_axes is not None:
        return trace(batch_axes)
    tried, first = [], None
    for axes in range(min((np.ndim(x) for x in jax.tree.leaves(inputs)), default=time) - time + 1):
        try:
            tried.append(trace(axes))
        except (TypeError, ValueError) as error:
            first = first or error
        if tried and (jax.tree.leaves(state) or not jax.tree.leaves(params)):
            break
    if not tried:
        raise first or ValueError("summary: expected inputs, got none. Give an example.")
    return tried[-1]


def flop(jaxpr: ClosedJaxpr | Jaxpr) -> Flop:
    """The operations of a jaxpr, by the rules of `summary`."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    counts = [_equation(eqn) for eqn in jaxpr.eqns]
    return Flop(sum(c.products for c in counts), sum(c.other for c in counts))


def _equation(eqn: Equation) -> Flop:
    name = eqn.primitive.name
    out: Any
    first: Any
    out, first = (variables[0].aval if variables else None for variables in (eqn.outvars, eqn.invars))
    inner = [flop(sub) for sub in _subjaxprs(eqn)]
    if name == "cond":
        return max(inner, key=sum)
    if inner:
        times = eqn.params["length"] if name == "scan" else 1
        return Flop(times * sum(i.products for i in inner), times * sum(i.other for i in inner))
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return Flop(2 * out.size * math.prod(first.shape[axis] for axis in contracted), 0)
    if name == "conv_general_dilated":
        kernel: Any = eqn.invars[1].aval
        features = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        return Flop(2 * out.size * kernel.size // features, 0)
    if name in ELEMENTWISE.split() and _is_float(out):
        return Flop(0, out.size)
    if name in REDUCTIONS.split() and _is_float(out):
        return Flop(0, first.size)
    return Flop(0, 0)


def _is_float(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _subjaxprs(eqn: Equation) -> Iterator[ClosedJaxpr | Jaxpr]:
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr | Jaxpr):
                yield one


def _leaves(arrays: dict[str, Array]) -> tuple[Leaf, ...]:
    return tuple(
        Leaf(name, leaf.shape, str(leaf.dtype), leaf.size, leaf.size * leaf.dtype.itemsize)
        for name, leaf in arrays.items()
    )


def _part(title: str, leaves: tuple[Leaf, ...], *, padding: bool = False) -> list[tuple[str, ...]]:
    devices = TILES if padding else ()

    def row(name: str, shape: str, dtype: str, some: tuple[Leaf, ...]) -> tuple[str, ...]:
        size, memory = sum(leaf.size for leaf in some), sum(leaf.bytes for leaf in some)
        stored = [sum(leaf.padded(device) for leaf in some) for device in devices]
        shares = (f"{1 - size / n:.0%}" if n else "" for n in stored)
        return f"  {name}", shape, dtype, f"{size:,}", _amount(memory), *shares

    rows = [row(leaf.name, " × ".join(map(str, leaf.shape)), leaf.dtype, (leaf,)) for leaf in leaves]
    heading = (title, "shape", "type", "number", "memory", *(f"{device} pads" for device in devices))
    return [heading, *rows, row("total", "", "", leaves)]


def _amount(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
