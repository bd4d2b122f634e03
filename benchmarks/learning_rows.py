"""What cells are said to be able to learn, and what they are not: tasks, models and how they are trained."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import seqjax as sj
from seqjax import tasks
from seqjax.cells import delta_rule, linear_attention, lru, mingru, mlstm, s5, selective_state_space
from seqjax.models import mamba_block

MakeCell = Callable[[int, int], sj.Cell]


class Model(NamedTuple):
    """A model, and what share of right answers is required of it; one with ``at_most`` is a negative control."""

    make: Callable[[], sj.Layer]
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, figure: float) -> str:
        """What is required, and whether a figure is that."""
        if self.at_least is not None:
            return f"at least {100 * self.at_least:g}%: {'reached' if figure >= self.at_least else 'not reached'}"
        if self.at_most is not None:
            return f"at most {100 * self.at_most:g}%: {'so it is' if figure <= self.at_most else 'exceeded'}"
        return ""


class Row(NamedTuple):
    """A task and its models.

    Attributes:
      task: in words.
      published: by others, in words.
      train: what every update draws anew, and for how many updates, one stage after the other.
      test: what the answers are counted on, drawn once.
      models: by name.
      batch_size: sequences of one.
      rate: Adam's, at its highest.
    """

    task: str
    published: str
    train: tuple[tuple[tasks.Problem, int], ...]
    test: tasks.Problem
    models: dict[str, Model]
    batch_size: int
    rate: float

    @property
    def updates(self) -> int:
        """Of all stages."""
        return sum(count for _, count in self.train)

    @property
    def protocol(self) -> dict[str, float]:
        """The numbers of the training."""
        return {"updates": self.updates, "batch_size": self.batch_size, "rate": self.rate}


def one_layer(cell: MakeCell, symbols: int, outputs: int, *, size: int, hidden_size: int, conv: int = 0) -> sj.Layer:
    """Embedded symbols, a convolution over the last ``conv`` of them where there is one, a cell, answers."""
    look = [sj.causal_conv(size, size, width=conv, groups=size)] if conv else []
    run = sj.recurrent(cell(size, hidden_size))
    return sj.serial(sj.embedding(symbols, size), *look, run, sj.dense(hidden_size, outputs))


def attention(symbols: int, outputs: int, *, size: int, window: int, conv: int) -> sj.Layer:
    """`one_layer` with attention of one head in place of the cell."""
    look = sj.causal_conv(size, size, width=conv, groups=size)
    run = sj.layers.windowed_attention(size, 1, window)
    return sj.serial(sj.embedding(symbols, size), look, run, sj.dense(size, outputs))


def two_blocks(cell: MakeCell, symbols: int, outputs: int, *, size: int) -> sj.Layer:
    """Two blocks of Mamba around a cell."""
    body = sj.models.deep_blocks(size, block=functools.partial(mamba_block, cell=cell), layers=2)
    return sj.serial(sj.embedding(symbols, size), body, sj.dense(size, outputs))


def parity() -> Row:
    """Whether a state can turn its sign: trained on strings to 40, tested on longer ones."""
    make = lambda cell: functools.partial(one_layer, cell, 2, 2, size=16, hidden_size=32)
    part = functools.partial
    able = {
        "LSTM": sj.lstm,
        "sLSTM": sj.slstm,
        "delta rule, β = 2, two heads": part(delta_rule, beta=2.0, heads=2),
    }
    unable = {
        "delta rule, β = 1, two heads": part(delta_rule, heads=2),
        "minGRU": mingru,
        "mLSTM, two heads": part(mlstm, heads=2),
        "linear attention, two heads": part(linear_attention, heads=2),
    }
    return Row(
        "parity, trained on lengths to 40: accuracy on lengths 41 to 256",
        "100 %; positive eigenvalues at chance (Grazzi et al. 2024)",
        ((tasks.running_parity(1, 40), 500),),
        tasks.parity(41, 256),
        {name: Model(make(cell), at_least=0.99) for name, cell in able.items()}
        | {name: Model(make(cell), at_most=0.6) for name, cell in unable.items()},
        batch_size=64,
        rate=1e-2,
    )


def recall(rounds: int, heads: int, updates: int, rate: float, linear_at_most: float | None) -> Row:
    """Whether a write can replace what was written: 16 keys, given a value each in every round."""
    problem = tasks.associative_recall(128, pairs=16, symbols=64, rounds=rounds)
    width, shape = 16 * heads, f"{heads} head{'s' * (heads > 1)} of 16 × 16"
    sizes = {"size": 64, "conv": 4}
    make = lambda cell: functools.partial(
        one_layer, functools.partial(cell, heads=heads), 64, 32, hidden_size=width, **sizes
    )
    times = {1: "each key given one value", 2: "each key given two values, of which the last counts"}[rounds]
    return Row(
        f"associative recall, T = 128, 16 pairs, 64 symbols, {times}: accuracy",
        "delta rule above linear attention (Schlag et al. 2021, Yang et al. 2024)",
        ((problem, updates),),
        problem,
        {
            f"delta rule, {shape}": Model(make(delta_rule), at_least=0.99),
            f"linear attention, {shape}": Model(make(linear_attention), at_most=linear_at_most),
            "windowed attention, one head": Model(
                functools.partial(attention, 64, 32, window=128, **sizes), at_least=0.995
            ),
        },
        batch_size=32,
        rate=rate,
    )


def copying() -> Row:
    """Whether the input decides what is kept: 16 symbols among 256 ticks, learned among fewer first: that is cheap."""
    among = lambda length: tasks.selective_copying(length, width=16, symbols=8)
    make = lambda cell: functools.partial(two_blocks, cell, 10, 8, size=64)
    ring = functools.partial(lru, r_min=0.9, r_max=0.999)
    return Row(
        "selective copying, 16 symbols of 8 kinds scattered over 256 ticks: accuracy",
        "97 to 99.8 %, time-invariant 18 % (Gu and Dao 2023, T = 4,096)",
        ((among(32), 4000), (among(64), 1000), (among(128), 600), (among(256), 3000)),
        among(256),
        {
            "selective state space, two Mamba blocks of 64": Model(make(selective_state_space), at_least=0.99),
            "LRU in the same blocks": Model(make(ring), at_most=0.5),
            "S5 in the same blocks": Model(make(s5), at_most=0.5),
        },
        batch_size=8,
        rate=4e-3,
    )


ROWS: dict[str, Callable[[], Row]] = {
    "parity": parity,
    "recall": functools.partial(recall, 1, 1, 2000, 5e-3, None),
    "recall-replaced": functools.partial(recall, 2, 4, 3000, 1e-2, 0.6),
    "copying": copying,
}
