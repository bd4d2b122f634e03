"""torch's LSTM and GRU (cuDNN on a GPU) on the problems of `benchmarks.gpu`; nothing where torch is absent."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import seqjax as sj
from benchmarks.peers.passports import one_bias

try:
    import torch
except ImportError:
    torch = None


def torch_candidates(problem: Any, which: str) -> Iterator[tuple[str, Callable]]:
    """Each a name and a function that gives ``(call, numbers of its result, facts)``."""
    if torch is None or problem.case.torch is None:
        return
    yield "torch", lambda: prepared(problem, which)


def prepared(problem: Any, which: str) -> tuple[Callable, Callable, dict]:
    """torch's module with the problem's weights, its call and its results as ours."""
    case = problem.case
    on_gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    dtype = getattr(torch, case.dtype)
    module = sj.interop.torch.to_module(*layer(problem)).to(device, dtype)
    xs = torch.from_numpy(np.array(problem.xs)).to(device, dtype).requires_grad_(which == "train")
    r = torch.from_numpy(np.array(problem.r)).to(device)
    lengths = None if problem.lengths is None else torch.from_numpy(np.array(problem.lengths)).to(torch.int64)

    def outputs() -> Any:
        if lengths is None:
            return module(xs)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(xs, lengths)
        return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], total_length=case.ticks)[0]

    def call() -> Any:
        if which == "forward":
            with torch.no_grad():
                ys = outputs()
        else:
            module.zero_grad(set_to_none=True)
            xs.grad = None
            (outputs().float() * r).sum().backward()
            ys = None
        if device.type == "cuda":
            torch.cuda.synchronize()
        return ys

    def numbers(ys: Any) -> list[np.ndarray]:
        array = lambda t: t.detach().float().cpu().numpy()
        if which == "forward":
            return [array(ys)]
        gradients = {name: array(weight.grad) for name, weight in module.named_parameters()}
        found = one_bias(sj.interop.torch.from_state_dict(case.torch.lower(), gradients)[1])
        return [*jax.tree.leaves(found), array(xs.grad)]

    return call, numbers, {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "on": device.type}


def layer(problem: Any) -> tuple[sj.Layer, Any]:
    """The problem's layers as one, and its parameters."""
    cell = problem.cell("float32")
    if problem.case.both_ways:
        return sj.bidirectional(cell, cell), sj.layers.BidirectionalParams(*problem.params)
    return sj.serial(*[sj.recurrent(cell)] * len(problem.params)), tuple(problem.params)
