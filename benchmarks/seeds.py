"""Whether updates of several seeds are faster in one program than one after the other: LSTMs of several sizes.

python -m benchmarks.seeds               # 3 seeds, one host device
python -m benchmarks.seeds --devices 2   # each batch shared by two

The losses of both ways are compared first, then the ways are timed in interleaved rounds. `--seeds` of the commands
does on a CPU what is faster there (`seqjax.recipes.running.courses`).
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import seqjax as sj
from benchmarks.timing import interleave
from seqjax.devices import in_turn
from seqjax.recipes.running.courses import side_by_side

SIZES = {8: 8, 16: 16, 32: 32, 64: 64, 128: 32}  # units: sequences
TICKS, SYMBOLS = 64, 60


def ways(hidden: int, batch: int, seeds: int, devices: int) -> dict[str, Callable[[], Any]]:
    """An update of every seed: ``name -> call``, which returns their losses and goes on from where it came."""
    model = sj.models.language_model(SYMBOLS, hidden, embedding_size=hidden)
    optimizer = optax.adam(1e-3)
    clip, spread = sj.clip_by_global_norm(1.0), devices if devices > 1 else None
    step: Any = sj.train_step(sj.objective(model, sj.cross_entropy), optimizer, clip=clip, devices=spread)
    joint, rng = side_by_side(step), np.random.default_rng(0)
    params = [model.init(jax.random.key(seed)) for seed in range(seeds)]
    states = [model.initial_state(p, (batch,)) for p in params]
    batches = [sj.Batch(*rng.integers(0, SYMBOLS, (2, TICKS, batch))) for _ in params]
    trains = {name: [sj.train_state(p, optimizer) for p in params] for name in ("together", "one after the other")}

    def run(name: str) -> list[float]:
        given = trains[name], states, batches
        if name != "together":
            answers = list(map(step, *given))
        else:
            answers = joint(*given) if step.mesh is None else in_turn(step.mesh, joint, given)
        trains[name] = [train for train, _, _ in answers]
        return [float(metrics.loss) for _, _, metrics in answers]

    return {name: lambda name=name: run(name) for name in trains}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if jax.config.jax_platforms in (None, "cpu"):
        jax.config.update("jax_num_cpu_devices", options.devices)
    print(f"{options.seeds} seeds, {options.devices} devices ({jax.devices()[0].device_kind})")
    print("units  together, times as fast as one after the other (quartiles)")
    for hidden, batch in SIZES.items():
        calls = ways(hidden, batch, options.seeds, options.devices)
        for _ in range(3):
            np.testing.assert_allclose(*(call() for call in calls.values()), rtol=1e-4)
        timed = interleave(calls, rounds=options.rounds, seconds=60)
        ratios = np.divide(timed["one after the other"].seconds, timed["together"].seconds)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"{hidden:5}  {middle:.2f} ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    main()
