"""A recurrence written in JAX as something to time: compiled, fed, and spread over devices if wanted."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import memory, problem, timing
from benchmarks.problem import Problem, Result


class Adapter(NamedTuple):
    """A recurrence in a library's own terms.

    Attributes:
      load: our parameters as the library's weights.
      apply: ``(weights, xs) -> ys``, from a state of zeros.
      unload: a gradient in the library's weights as one in our parameters.
      time_axis: of ``xs`` and ``ys``; the batch axis is the other of the first two.
    """

    load: Callable[[Any], Any]
    apply: Callable[[Any, jax.Array], jax.Array]
    unload: Callable[[Any], Any]
    time_axis: int = 0


class Runner(NamedTuple):
    """Something to time.

    Attributes:
      call: runs once and returns when the result is there.
      result: what a call returned, in the form that is compared.
      trace_s: seconds to trace and lower; None where nothing is compiled.
      compile_s: seconds of XLA.
      bytes: of the compiled program.
      growth: ``(call) -> (result, bytes)``: by how much the memory in use rose at its highest.
    """

    call: Callable[[], Any]
    result: Callable[[Any], Result]
    trace_s: float | None = None
    compile_s: float | None = None
    bytes: memory.Bytes | None = None
    growth: Callable[[Callable], tuple[Any, int | None]] = memory.growth


def compiled(
    adapter: Adapter, row: Problem, cell: str, which: str, devices: int = 1, dtype: str | None = None
) -> Runner:
    """The forward pass (outputs of all ticks) or a training step (loss and gradients), compiled.

    Args:
      adapter: the library.
      row: the problem.
      cell: the name of the variant that the library has, as the problem knows it.
      which: ``"forward"`` or ``"train"``.
      devices: over how many the batch is spread.
      dtype: that the problem's weights and inputs are cast to; its own if None.
    """
    dtype = dtype or row.dtype
    weights = adapter.load(jax.tree.map(lambda p: jnp.asarray(p, dtype), problem.parameters(row, cell)))
    arguments = [
        jax.device_put(weights, _whole(devices)),
        placed("inputs", row, dtype, devices, adapter.time_axis),
    ]
    function, specs, results = adapter.apply, 1, _split(adapter.time_axis)
    if which == "train":
        arguments.append(placed("loss_weights", row, row.wide, devices, adapter.time_axis))
        function, specs = _train(adapter, row, spread=devices > 1), 2
        results = (PartitionSpec(), (PartitionSpec(), results)[: 1 + row.inputs_too])
    if devices > 1:
        inputs = (PartitionSpec(), *[_split(adapter.time_axis)] * specs)
        function = jax.shard_map(function, mesh=_mesh(devices), in_specs=inputs, out_specs=results, check_vma=False)

    lowered, trace_s = timing.once(lambda: jax.jit(function).lower(*arguments))
    program, compile_s = timing.once(lowered.compile)

    def result(values: Any) -> Result:
        if which == "forward":
            return problem.result(row, np.moveaxis(np.asarray(values), adapter.time_axis, 0))
        loss, gradients = values
        arrays = problem.named(adapter.unload(gradients[0]))
        if row.inputs_too:
            arrays["xs"] = np.moveaxis(np.asarray(gradients[1]), adapter.time_axis, 0)
        return Result(float(loss), arrays)

    return Runner(
        lambda: jax.block_until_ready(program(*arguments)),
        result,
        trace_s,
        compile_s,
        memory.of_compiled(program, devices),
    )


@functools.lru_cache(maxsize=4)
def placed(name: str, row: Problem, dtype: str, devices: int, time_axis: int) -> jax.Array | None:
    """The problem's inputs or loss weights on their devices, one copy for all who read the same."""
    array = getattr(problem, name)(row)
    if array is None:
        return None
    sharding = NamedSharding(_mesh(devices), _split(time_axis)) if devices > 1 else jax.devices()[0]
    return jax.device_put(np.moveaxis(array, 0, time_axis).astype(jnp.dtype(dtype)), sharding)


def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]), ("batch",))


def _split(time_axis: int) -> PartitionSpec:
    return PartitionSpec("batch") if time_axis else PartitionSpec(None, "batch")


def _whole(devices: int) -> NamedSharding | jax.Device:
    return NamedSharding(_mesh(devices), PartitionSpec()) if devices > 1 else jax.devices()[0]


def _train(adapter: Adapter, row: Problem, *, spread: bool) -> Callable:
    count = row.ticks * row.batch * row.hidden_size

    def loss(weights: Any, xs: jax.Array, r: jax.Array | None) -> jax.Array:
        ys = adapter.apply(weights, xs).astype(row.wide)
        return jnp.square(ys).sum() / count if r is None else (ys * r).sum()

    def train(weights: Any, xs: jax.Array, r: jax.Array | None) -> tuple[jax.Array, tuple]:
        which = (0, 1) if row.inputs_too else (0,)
        value, gradients = jax.value_and_grad(loss, which)(weights, xs, r)
        if spread:
            value = jax.lax.psum(value, "batch")
            gradients = (jax.lax.psum(gradients[0], "batch"), *gradients[1:])
        return value, gradients

    return train
