"""What it costs to leave an update out where its numbers are not finite: the same step with and without, in turns.

python -m benchmarks.nonfinite                # a character model of 64, 256 and 512 units, Adam behind a clip
python -m benchmarks.nonfinite --units 256 --rounds 30

A row: milliseconds of an update that makes every update and of one that may skip, the median of the rounds' ratios, and
the bytes that XLA counts of each program, outside loops and of a loop once.
"""

import argparse
from collections.abc import Sequence

import jax
import numpy as np
import optax

import seqjax as sj
from benchmarks import timing

SYMBOLS, BATCH = 65, 32


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and prints a row a size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nonfinite", description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--ticks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args(argv)
    print(f"{'units':>6} {'keep ms':>9} {'skip ms':>9} {'ratio':>7} {'keep MB':>9} {'skip MB':>9} {'temporaries':>12}")
    for units in chosen.units:
        print(row(units, chosen.ticks, chosen.rounds))
    return 0


def row(units: int, ticks: int, rounds: int) -> str:
    """One size, both ways."""
    model, optimizer = sj.models.language_model(SYMBOLS, units), optax.adam(1e-3)
    params = model.init(jax.random.key(0))
    symbols = jax.random.randint(jax.random.key(1), (ticks + 1, BATCH), 0, SYMBOLS)
    batch, state = sj.Batch(symbols[:-1], symbols[1:]), model.initial_state(params, (BATCH,))
    calls, sizes, spaces = {}, {}, {}
    for way in ("keep", "skip"):
        loss = sj.objective(model, sj.cross_entropy)
        step = sj.train_step(loss, optimizer, clip=sj.clip_by_global_norm(1.0), nonfinite=way)  # type: ignore[arg-type]
        held = [sj.train_state(params, optimizer)]

        def call(step=step, held=held) -> None:
            held[0], _, metrics = step(held[0], state, batch)
            jax.block_until_ready((held[0], metrics))

        compiled = step.lower(held[0], state, batch).compile()  # type: ignore[attr-defined]
        sizes[way] = compiled.cost_analysis()["bytes accessed"] / 1e6
        spaces[way] = compiled.memory_analysis().temp_size_in_bytes
        calls[way] = call
    times = timing.interleave(calls, rounds=rounds, seconds=120)
    ratio = float(np.median(np.divide(times["skip"].seconds, times["keep"].seconds)))
    ms = [1e3 * times[way].median for way in ("keep", "skip")]
    mb, more = [sizes[way] for way in ("keep", "skip")], spaces["skip"] / spaces["keep"]
    return f"{units:>6} {ms[0]:>9.2f} {ms[1]:>9.2f} {ratio:>7.3f} {mb[0]:>9.2f} {mb[1]:>9.2f} {more:>12.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
