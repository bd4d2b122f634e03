"""What a row can hardly be faster than, measured beside it: its products alone, everything else at once, its traffic.

Of ``a = x W + h U`` over T ticks of B sequences, summed over all products of a tick:

    products    x W of all ticks as one; h U a tick, T times one behind the other, with U or its transpose, whichever is
                faster; in a training step also z̄ Uᵀ a tick, and xsᵀ z̄ and hsᵀ z̄ of all ticks as one each
    pointwise   whatever else a tick computes, for all ticks at once; in a training step with its derivative
    stream      once over x and y; in a training step over both and their cotangents, and twice over what is kept

Each is timed in the turns of the candidates, and the medians are added up. It is no bound: who fuses pointwise work
into products, or does two of these at a time, may be below it. It says how much of a row's time has a name.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from benchmarks.problem import Problem
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation
from seqjax.engines.split.engine import Split
from seqjax.unroll import checked

TURNED, SUMS = ", turned", ", as sums"  # of several programs for one product the fastest counts


class Part(NamedTuple):
    """Something to time: a function and the types of its arguments."""

    run: Callable
    arguments: tuple[jax.ShapeDtypeStruct, ...]


def parts(row: Problem, which: str, devices: int = 1) -> dict[str, Part]:
    """By name, for one device's share of the batch."""
    cell = row.make(row.cell, dtype=jnp.dtype(row.dtype))
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: cell.initial_state(params, (row.batch // devices,)), params)
    xs = jax.ShapeDtypeStruct((row.ticks, row.batch // devices, row.input_size), jnp.dtype(row.dtype))
    found: list[Split] = []
    jax.eval_shape(lambda *given: found.append(Split(checked(cell, *given))), params, state, xs)
    return _of(found[0], row, which)


def _of(split: Split, row: Problem, which: str) -> dict[str, Part]:
    program, tick = split.program, split.program.tick
    looped = {e for stage in program.stages for recurrence in stage.recurrences for e in recurrence.equations}
    never = set(program.once)
    of_weights = lambda e: jaxprs.is_product(e) and any(v in program.invariant for v in e.invars)
    products = [e for e in tick.jaxpr.eqns if of_weights(e) and e not in never]
    named: dict[str, Part] = {}
    for number, e in enumerate(products, 1):
        of = _Product(number, e, tick.jaxpr, program.invariant, row.ticks)
        named |= of.loop(which) if e in looped else of.batched(which, row.inputs_too)
    rest = [e for e in tick.jaxpr.eqns if e not in never and e not in products]
    outputs = [v for v in [*tick.state_out, *tick.y] if not jaxprs.is_literal(v)]
    reads = jaxprs.used(rest, outputs)
    fixed, moving = [v for v in reads if v in program.invariant], [v for v in reads if v not in program.invariant]
    run = jaxprs.function(tick.jaxpr, rest, [*fixed, *moving], outputs)

    def pointwise(*values: jax.Array) -> list:
        f = lambda *values: jax.vmap(lambda some: run([*values[: len(fixed)], *some]))(list(values[len(fixed) :]))
        if which == "forward":
            return f(*values)
        outs, pull = jax.vjp(f, *values)
        return [outs, pull(jax.tree.map(jnp.ones_like, outs))]

    named["pointwise"] = Part(pointwise, (*map(_type, fixed), *(_type(v, row.ticks) for v in moving)))
    numbers = row.ticks * sum(v.aval.size for v in [*tick.x, *tick.y])
    moved = numbers * jnp.dtype(row.dtype).itemsize
    if which == "train":
        moved += moved + 2 * row.ticks * split.costs().all
    named["stream"] = Part(lambda a: a + 1, (jax.ShapeDtypeStruct((max(1, moved // 8),), jnp.float32),))
    return named


class _Product:
    """A product of a weight with what comes per tick."""

    def __init__(self, number: int, equation: Equation, template: Any, invariant: set, ticks: int):
        self.equation, self.template, self.ticks = equation, template, ticks
        self.weight = next(v for v in equation.invars if v in invariant)
        self.operand = next(v for v in equation.invars if v is not self.weight)
        self.out = equation.outvars[0]
        self.name = f"product {number}, {self.operand.aval.str_short()} by {self.weight.aval.str_short()}"

    def one(self, value: jax.Array, weight: jax.Array) -> jax.Array:
        """At a tick."""
        pair = (weight, value) if self.equation.invars[0] is self.weight else (value, weight)
        return jaxprs.evaluate(self.template, self.equation, pair)[0]

    def all(self, values: jax.Array, weight: jax.Array) -> jax.Array:
        """At every tick; ticks and batch as one axis of a matrix product."""
        if jaxprs.is_matrix_product(self.equation):
            flat = jnp.matmul(values.reshape(-1, values.shape[-1]), weight, preferred_element_type=self.out.aval.dtype)
            return flat.reshape(*values.shape[:-1], weight.shape[-1])
        return jax.vmap(self.one, (0, None))(values, weight)

    def batched(self, which: str, inputs_too: bool) -> dict[str, Part]:
        """Outside of loops."""
        stack, outs, weight = _type(self.operand, self.ticks), _type(self.out, self.ticks), _type(self.weight)
        found = {f"{self.name}, all": Part(self.all, (stack, weight))}
        if which == "train":
            found |= self.of_weight(stack, outs, weight)
        if which == "train" and inputs_too:
            back = lambda ct, w: jax.linear_transpose(lambda values: self.all(values, w), stack)(ct)
            found[f"{self.name}, back, all"] = Part(back, (outs, weight))
        return found

    def loop(self, which: str) -> dict[str, Part]:
        """One behind the other."""
        value, out, weight = _type(self.operand), _type(self.out), _type(self.weight)
        back = lambda ct, w: jax.linear_transpose(lambda value: self.one(value, w), value)(ct)[0]
        ways = {"": (self.one, value)} | ({", back": (back, out)} if which == "train" else {})
        found = {}
        for name, (f, first) in ways.items():
            found[f"{self.name}{name}, {self.ticks} times"] = Part(repeated(f, self.ticks), (first, weight))
            if jaxprs.is_matrix_product(self.equation):
                turned = jax.ShapeDtypeStruct(weight.shape[::-1], weight.dtype)
                other = lambda value, w, f=f: f(value, w.T)
                found[f"{self.name}{name}, {self.ticks} times{TURNED}"] = Part(
                    repeated(other, self.ticks), (first, turned)
                )
        if which == "train":
            found |= self.of_weight(_type(self.operand, self.ticks), _type(self.out, self.ticks), weight)
        return found

    def of_weight(self, stack: Any, outs: Any, weight: Any) -> dict[str, Part]:
        """The weight's gradient."""
        run = lambda values, ct: jax.linear_transpose(lambda w: self.all(values, w), weight)(ct)
        return {f"{self.name}, gradient": Part(run, (stack, outs))}


def repeated(f: Callable, ticks: int) -> Callable:
    """Each of what the one before gave, cut or repeated to the shape that is read."""

    def run(first: jax.Array, *given: jax.Array) -> jax.Array:
        def body(value: jax.Array, _: None) -> tuple[jax.Array, None]:
            out = f(value, *given).reshape(-1)
            times = math.ceil(value.size / out.size)
            again = jnp.concatenate([out] * times)[: value.size].reshape(value.shape)
            return again.astype(value.dtype), None

        return lax.scan(body, first, None, length=ticks)[0]

    return run


def _type(v: Any, ticks: int | None = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(v.aval.shape if ticks is None else (ticks, *v.aval.shape), v.aval.dtype)


def runners(row: Problem, which: str, devices: int = 1) -> dict[str, Callable[[], Any]]:
    """The parts as programs to time, on every device its share at once."""
    return {name: compiled(part, devices) for name, part in parts(row, which, devices).items()}


def compiled(part: Part, devices: int = 1) -> Callable[[], Any]:
    """A part as a program to time, on every device its share at once."""
    rng = np.random.default_rng(0)
    # Products that follow each other neither grow nor vanish.
    scale = lambda t: math.sqrt(max(1, math.prod(t.shape[:1])))
    draw = lambda t: jnp.asarray(rng.standard_normal(t.shape, np.float32) / scale(t), t.dtype)
    given = [draw(t) for t in part.arguments]
    run = part.run
    if devices > 1:
        mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
        place = jax.NamedSharding(mesh, PartitionSpec("batch"))
        given = [jax.device_put(jnp.stack([value] * devices), place) for value in given]
        each = lambda *values: jax.tree.map(lambda out: out[None], part.run(*(value[0] for value in values)))
        run = jax.shard_map(
            each, mesh=mesh, in_specs=PartitionSpec("batch"), out_specs=PartitionSpec("batch"), check_vma=False
        )
    program = jax.jit(run).lower(*given).compile()
    return lambda: jax.block_until_ready(program(*given))


def total(seconds: dict[str, float]) -> float:
    """Of the medians of all parts, the fastest of several ways of one product."""
    least: dict[str, float] = {}
    for name, value in seconds.items():
        part = name.removesuffix(TURNED).removesuffix(SUMS)
        least[part] = min(value, least.get(part, value))
    return sum(least.values())
