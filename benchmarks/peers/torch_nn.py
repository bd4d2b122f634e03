"""PyTorch: nn.RNN, nn.LSTM and nn.GRU, on the accelerator if JAX uses one, else on all cores."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

import seqjax as sj
from benchmarks import memory, problem, record
from benchmarks.peers.passports import KINDS, one_bias
from benchmarks.problem import Problem, Result
from benchmarks.program import Runner

CELLS = {"elman": "elman", "lstm": "lstm", "gru": "gru"}
DEVICE = torch.device("cuda" if torch.cuda.is_available() and jax.default_backend() != "cpu" else "cpu")

torch.set_num_threads(record.cores())


def runner(row: Problem, which: str) -> Runner:
    """Without gradients where none is asked for."""
    dtype, wide = getattr(torch, row.dtype), getattr(torch, row.wide)
    module = sj.interop.torch.to_module(row.make(row.cell), problem.parameters(row, row.cell)).to(DEVICE, dtype)
    xs = torch.from_numpy(problem.inputs(row)).to(DEVICE, dtype)
    r = problem.loss_weights(row)
    r = None if r is None else torch.from_numpy(r).to(DEVICE)
    count = row.ticks * row.batch * row.hidden_size

    def forward() -> torch.Tensor:
        with torch.no_grad():
            ys = module(xs)[0]
        wait()
        return ys

    def train() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        xs.grad = None
        ys = module(xs)[0].to(wide)
        loss = ys.square().sum() / count if r is None else (ys * r).sum()
        loss.backward()
        wait()
        return loss.detach()

    def result(values: Any) -> Result:
        if which == "forward":
            return problem.result(row, values.to(wide).cpu().numpy())
        arrays = problem.named(unload(row.cell, module, lambda weight: numpy(weight.grad)))
        if row.inputs_too:
            arrays["xs"] = numpy(xs.grad)
        return Result(float(values), arrays)

    if which == "train":
        xs.requires_grad_(row.inputs_too)
    return Runner({"forward": forward, "train": train}[which], result, growth=growth)


def set_precision(*, exact: bool) -> None:
    """TF32 products of float32 on an accelerator, as JAX has them by default, or exact ones."""
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact


def unload(cell: str, module: torch.nn.Module, read: Callable[[torch.Tensor], np.ndarray], *, add: bool = False) -> Any:
    """What is read of its weights in our layout: a sum of biases if they are to be added, else the first's gradient."""
    entries = {name: read(weight) for name, weight in module.named_parameters()}
    return one_bias(sj.interop.torch.from_state_dict(KINDS[cell], entries)[1], add=add)


def numpy(tensor: torch.Tensor) -> np.ndarray:
    """On the host, in a dtype that NumPy has."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32)).cpu().numpy().copy()


def growth(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """A call's result, and by how much torch's memory in use rose at its highest."""
    if DEVICE.type == "cpu":
        return memory.process_growth(call)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    return result, torch.cuda.max_memory_allocated() - before


def cudnn() -> int | None:
    """The version of cuDNN, 91300 for 9.13.0; None on a CPU."""
    return torch.backends.cudnn.version() if DEVICE.type == "cuda" else None


def wait() -> None:
    """The CPU is never ahead of its work, the accelerator is."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
