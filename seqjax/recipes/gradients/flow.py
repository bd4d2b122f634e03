"""Where the gradient goes in untrained networks: norms, stretch, effective memory, by distance from the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import gradients
from seqjax.recipes.gradients.experiment import DrawnOptions, Report
from seqjax.recipes.running.options import check_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawnOptions):
    """Where the gradient goes: norm and stretch tick by tick, effective memory, Lyapunov exponents."""

    length: int = 100
    """Ticks from the first input to the loss."""
    batch_size: int = 32
    """Sequences."""
    hidden_size: int = 32
    """Units of each cell."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "length", "batch_size", "hidden_size")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients flow``."""
    batch, hidden, features = options.batch_size, options.hidden_size, 4
    ticks, long = (20, 100) if options.small else (options.length, 1500)
    cells: dict[str, sj.Cell] = {
        "Elman": sj.elman(features, hidden),
        "LSTM": sj.lstm(features, hidden),
        "LSTM, forget bias 2": sj.lstm(features, hidden, b_init=sj.initializers.forget_bias(2.0)),
    }
    noise, readout, own, more = jax.random.split(jax.random.key(options.seed), 4)
    xs, longer = (jax.random.normal(k, (t, b, features)) for k, t, b in ((noise, ticks, batch), (more, long, 4)))
    weights = jax.random.normal(readout, (hidden,))
    last, each = lambda ys: (ys[-1] @ weights).sum(), lambda ys, _: ys[-1] @ weights
    flows, distances, rows = {}, {}, []
    for name, cell in cells.items():
        params = cell.init(own)
        state, few = (cell.initial_state(params, (b,)) for b in (batch, 4))
        found = gradients.flow(cell, params, state, xs, last, probes=min(8, hidden))
        norms = gradients.weight_gradient_norms(cell, params, state, xs, each, jnp.zeros(batch))
        exponent = gradients.lyapunov_exponents(cell, params, few, longer, 1, skip=long // 10)[:, 0].mean()
        slope = (found.log_stretch[-1] - found.log_stretch[0]).mean() / (ticks - 1)
        squares = (np.asarray(norms) ** 2).mean(1)
        flows[name] = {"loss_gradient": found.loss_gradient, "log_stretch": found.log_stretch}
        distances[name] = norms
        far = f"{squares[: max(0, ticks - 20)].sum() / squares.sum():.1e}"
        rows.append([name, f"{found.memory_length.mean():.1f}", f"{-slope:+.3f}", f"{exponent:+.3f}", far])
    report.say(f"Untrained cells of {hidden} units read noise for {ticks} ticks; the loss looks at the last output.")
    report.table(
        [
            "cell",
            "memory (ticks)",
            "stretch (nats a tick)",
            f"Lyapunov exponent, {long} ticks",
            "of the weights' squared gradient, beyond 20 ticks",
        ],
        rows,
    )
    report.draw("flow", "flow", reports=flows)
    report.draw("distance", "distance", norms=distances)
