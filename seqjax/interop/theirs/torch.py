"""Outputs of a torch module."""

from typing import Any

import numpy as np

from seqjax.interop.extras import needed
from seqjax.interop.layouts.torch import tensor
from seqjax.interop.verified import Run


def outputs_of(module: Any) -> Run:
    """A module's outputs as it stands, without dropout."""
    torch = needed("torch", extra="torch")

    def run(xs: np.ndarray, states: Any) -> np.ndarray:
        device = next(module.parameters()).device
        given, *first = (tensor(torch, each).to(device) for each in (xs, *map(np.stack, zip(*states))))
        pack = lambda state: tuple(state) if len(state) == 2 else state[0]
        if hasattr(module, "num_layers"):
            turned = (lambda ys: ys.transpose(0, 1)) if module.batch_first else (lambda ys: ys)
            ys = turned(module(turned(given), pack(first))[0])
        else:
            state, ticks = pack([s[0] for s in first]), []
            for x in given:
                state = module(x, state)
                ticks.append(state[0] if isinstance(state, tuple) else state)
            ys = torch.stack(ticks)
        return ys.to(torch.float64).cpu().numpy()

    def without_dropout(xs: np.ndarray, states: Any) -> np.ndarray:
        training = module.training
        try:
            with torch.no_grad():
                module.eval()
                return run(xs, states)
        finally:
            module.train(training)

    return without_dropout
