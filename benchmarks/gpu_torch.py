"""torch's LSTM and GRU (cuDNN on a GPU) on the problems of `benchmarks.gpu`; nothing where torch is absent."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

try:
    import torch
except ImportError:
    torch = None

# torch.nn.GRU's update gate has the meaning of ours; its candidate's inner bias is our b_n.


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
    module = getattr(torch.nn, case.torch)(
        case.hidden, case.hidden, num_layers=case.layers, bidirectional=case.both_ways
    ).to(device, dtype)
    weights = [name(i, case.both_ways) for i in range(len(problem.params))]
    with torch.no_grad():
        for suffix, p in zip(weights, problem.params):
            for key, value in parts(p).items():
                getattr(module, key + suffix).copy_(torch.from_numpy(np.array(value)))
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
        gradient = lambda key, suffix: array(getattr(module, key + suffix).grad)
        found = [like(p, lambda key, s=suffix: gradient(key, s)) for suffix, p in zip(weights, problem.params)]
        return [*jax.tree.leaves(found), array(xs.grad)]

    return call, numbers, {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "on": device.type}


def name(i: int, both_ways: bool) -> str:
    """torch's suffix of the i-th set of weights."""
    return f"_l{i // 2}" + ("_reverse" if i % 2 else "") if both_ways else f"_l{i}"


def parts(params: Any) -> dict[str, Any]:
    """Our parameters under torch's names; torch has a second bias, zero but for the GRU's candidate."""
    second = np.zeros_like(params.b)
    if getattr(params, "b_n", None) is not None:
        second[-params.b_n.shape[0] :] = params.b_n
    first = np.array(params.b)
    return {"weight_ih": params.w_x.T, "weight_hh": params.w_h.T, "bias_ih": first, "bias_hh": second}


def like(params: Any, gradient: Callable[[str], np.ndarray]) -> Any:
    """torch's gradients as a tree of ours."""
    new = {"w_x": gradient("weight_ih").T, "w_h": gradient("weight_hh").T, "b": gradient("bias_ih")}
    if getattr(params, "b_n", None) is not None:
        new["b_n"] = gradient("bias_hh")[-params.b_n.shape[0] :]
    return params._replace(**new)
