"""The character model's training step, all of it, in characters a second, beside torch and Flax.

python -m benchmarks.charlm            # 1 and 2 layers, 128 and 256 units, 8 to 64 windows of 128 to 1,024 characters
python -m benchmarks.charlm --quick    # one layer, windows of 128

Same weights, same windows; the losses of the first steps and the weights after them are compared before anything
is timed, and who differs is not timed. The limit is that of the recurrent layers (`benchmarks.limit`), the products of
the logits, their cross-entropy, the look-up of characters, each with its derivative, and Adam's pass over its numbers.
"""

import argparse
import datetime
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import charlm_models, limit, options, peers, problem, record, report, timing
from benchmarks.charlm_models import Model, Trainer

STEPS = 3
PEERS = ("flax", "torch")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; status 1 if any model's training went differently."""
    chosen = parse(argv)
    options.set_up(chosen)
    console = Console()
    records = record.Records(chosen.out / f"{chosen.name}.jsonl")
    models = [
        Model(cell, layers, hidden, batch, window, chosen.embedding)
        for cell, layers, hidden, batch, window in itertools.product(
            chosen.cells, chosen.layers, chosen.hidden, chosen.batch, chosen.windows
        )
    ]
    wrong = False
    with report.progress(console, len(models)) as bar:
        for model in models:
            lines = measure(model, chosen, bar.say)
            for line in lines:
                records.write(line)
                wrong |= "skipped" in line
            bar.done(table(lines))
    for reference in PEERS:
        for found in report.ratios(records.rows, reference):
            report.show(console, found)
    console.print(f"{records.path}", soft_wrap=True)
    return int(wrong)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one layer, windows of 128, fewer rounds")
    parser.add_argument("--cells", nargs="+", choices=charlm_models.CELLS, default=["lstm"])
    parser.add_argument("--layers", nargs="+", type=int, metavar="N", help="recurrent layers (1 2)")
    parser.add_argument("--hidden", nargs="+", type=int, metavar="h", help="units a layer (128 256)")
    parser.add_argument("--embedding", type=int, default=64, metavar="d", help="features a character (64)")
    parser.add_argument("--batch", nargs="+", type=int, default=[8, 32, 64], metavar="B", help="windows (8 32 64)")
    parser.add_argument("--windows", nargs="+", type=int, metavar="T", help="characters a window (128 1024)")
    parser.add_argument("--devices", nargs="+", type=int, metavar="N", help="that ours is spread over")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--precision", choices=("default", "highest"), default="default")
    parser.add_argument("--rounds", type=int, help="steps timed at most (20)")
    parser.add_argument("--seconds", type=float, help="after which no further round starts, if there are 5 (60)")
    parser.add_argument("--out", type=Path, default=options.RESULTS, metavar="DIR")
    parser.add_argument("--name", help="of the file; charlm-DATE-TIME if not given")
    chosen = parser.parse_args(argv)
    quick = chosen.quick
    chosen.layers = chosen.layers or ([1] if quick else [1, 2])
    chosen.hidden = chosen.hidden or ([128] if quick else [128, 256])
    chosen.windows = chosen.windows or ([128] if quick else [128, 1024])
    chosen.rounds = chosen.rounds or (10 if quick else 20)
    chosen.seconds = chosen.seconds or (5 if quick else 60)
    chosen.name = chosen.name or f"charlm-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    chosen.dtypes = ["float32"]
    return chosen


def measure(model: Model, chosen: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """All libraries on one model: proven equal, then timed step by step in turns."""
    makers: dict[str, tuple[str, int, Callable[[], Trainer]]] = {}
    for devices in chosen.devices:
        if model.batch % devices == 0:
            name = "seqjax auto" + (f" ×{devices}" if devices > 1 else "")
            makers[name] = ("seqjax", devices, lambda devices=devices: charlm_models.ours(model, devices))
    for name in chosen.peers:
        if peers.find(name) is not None:
            makers[name] = (name, 1, lambda name=name: getattr(charlm_models, name)(model))
    title = f"{model.cell} {model.layers} × {model.hidden_size}, {model.batch} windows of {model.window}"
    lines, steps, truth = [], {}, None
    for name, (library, devices, make) in makers.items():
        say(f"{title}: {name}, compiling")
        trainer = make()
        first, first_call_s = timing.once(lambda trainer=trainer: float(trainer.step(0)))
        losses = [first, *(float(trainer.step(number)) for number in range(1, STEPS))]
        line = {
            "benchmark": "charlm",
            **{"cell": model.cell, "layers": model.layers, "hidden_size": model.hidden_size},
            **{"input_size": model.embedding_size, "symbols": model.symbols},
            **{"batch": model.batch, "ticks": model.window, "dtype": "float32", "pass": "train"},
            **{"candidate": name, "library": library, "devices": devices},
            **{"losses": losses, "first_call_s": first_call_s},
        }
        lines.append(line)
        weights = trainer.params()
        truth = truth or (name, losses, weights)
        line |= compare(model, losses, weights, truth)
        if "skipped" not in line:
            numbers = itertools.count(STEPS)
            steps[name] = lambda trainer=trainer, numbers=numbers: trainer.step(next(numbers))
    counts = sorted({line["devices"] for line in lines if line["candidate"] in steps})
    below: dict[int, dict[str, str]] = {}
    for count in counts:
        say(f"{title}: limit ×{count}, compiling")
        of_parts = charlm_models.limit_runners(model, count)
        below[count] = {f"limit ×{count}: {part}": part for part in of_parts}
        steps |= dict(zip(below[count], of_parts.values()))
    times = timing.interleave(
        steps,
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        after_round=lambda done: say(f"{title}: round {done} of at most {chosen.rounds}"),
    )
    for line in lines:
        if (taken := times.get(line["candidate"])) is not None:
            line |= report.times(taken)
            named = {part: times[name].median for name, part in below[line["devices"]].items()}
            line |= {"limit_s": limit.total(named), "limit": named}
            line["characters_per_second"] = model.batch * model.window / taken.median
    return lines


def compare(
    model: Model, losses: Sequence[float], weights: dict[str, np.ndarray], truth: tuple[str, Any, Any]
) -> dict[str, Any]:
    """How far the losses, and the weights' way since the start, are from the first candidate's."""
    name, expected_losses, expected = truth
    begin = problem.named(charlm_models.start(model))
    away = sum(float(np.square(weights[k] - expected[k]).sum()) for k in expected) ** 0.5
    way = sum(float(np.square(expected[k] - begin[k]).sum()) for k in expected) ** 0.5
    loss_error = float(np.abs(np.divide(losses, expected_losses) - 1).max())
    found: dict[str, Any] = {"loss_error": loss_error, "weights_error": away / way, "compared_with": name}
    # Adam's first steps turn on the gradient's sign: where it is near zero, rounding decides.
    if not (loss_error < 1e-4 and away < 0.05 * way):
        found["skipped"] = f"differs by {loss_error:.1e} in the losses, {away / way:.1e} in the weights"
    return found


def table(lines: Sequence[dict[str, Any]]) -> Table:
    """All candidates on one model."""
    first = lines[0]
    title = (
        f"{first['cell']} {first['layers']} × {first['hidden_size']}, {first['batch']} windows of "
        f"{first['ticks']:,} characters"
    )
    found = report.blank(title)
    found.add_column("")
    for name in ("characters/s", "ms", "quartiles", "×torch", "×flax", "×limit", "first step s", "loss error"):
        found.add_column(name, justify="right", no_wrap=True)
    medians = {line["candidate"]: line["median_s"] for line in lines if "median_s" in line}
    for line in lines:
        if "skipped" in line:
            found.add_row(line["candidate"], line["skipped"], style="dim")
            continue
        median = line["median_s"]
        found.add_row(
            line["candidate"],
            f"{line['characters_per_second']:,.0f}",
            f"{1e3 * median:,.2f}",
            f"{1e3 * line['lower_quartile_s']:,.2f}–{1e3 * line['upper_quartile_s']:,.2f}",
            *(f"{medians[peer] / median:.2f}" if peer in medians else "" for peer in ("torch", "flax")),
            f"{median / line['limit_s']:.2f}" if "limit_s" in line else "",
            f"{line['first_call_s']:.2f}",
            f"{line['loss_error']:.0e}",
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
