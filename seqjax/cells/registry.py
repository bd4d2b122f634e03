"""The one table of cells: from it come the laws' cases, the list of references, README's table and ``--cell``.

>>> REGISTRY["peephole_lstm"].small(), sorted(COMMANDS)[:3]
(peephole_lstm(3, 4), ['carousel', 'coupled-lstm', 'delta-rule'])
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from seqjax import cells
from seqjax.base import Cell
from seqjax.initializers import identity

D, H = 3, 4


class Entry(NamedTuple):
    """A cell of the table.

    Attributes:
      make: its factory.
      recurrence: what is its own, in a line of README; empty for a variant of the entry above.
      paper: where it comes from, in Markdown.
      parameters: their number, in d, h and the options' letters: `letters`.
      variant: options that make it what it is.
      sizes: options that it needs, or is tested with, at small sizes.
      reference: the function of tests/reference/cells.py that computes its tick, where the name differs.
    """

    make: Callable[..., Cell]
    recurrence: str
    paper: str
    parameters: str
    variant: Mapping[str, Any] = MappingProxyType({})
    sizes: Mapping[str, Any] = MappingProxyType({})
    reference: str = ""

    def small(self) -> Cell:
        """The cell with d = 3 inputs, or as many as units, and h = 4 units."""
        return self.sized(D, H)

    def sized(self, d: int, h: int) -> Cell:
        """The cell with other sizes."""
        return self.make(*((d, h) if self.input_size == D else (h,)), **self.variant, **self.sizes)

    @property
    def input_size(self) -> int:
        """Of the inputs that `small` reads."""
        return D if "input_size" in inspect.signature(self.make).parameters else H

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one tick's input that `small` reads: its size, behind the places of a picture."""
        return (*self.sizes.get("shape", ()), self.input_size)

    @property
    def offered(self) -> bool:
        """Whether ``input_size`` and ``hidden_size`` alone make a cell with outputs of ``hidden_size``."""
        parameters = inspect.signature(functools.partial(self.make, **self.variant)).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty]
        return needed == ["input_size", "hidden_size"]


def letters(entry: Entry, d: int, h: int) -> dict[str, int]:
    """The sizes in a formula: d, h, p of a projection, m of factors, n heads, c connections, k places of a kernel,
    s numbers of a state, r of a rank.
    """
    named = {"projection_size": "p", "factor_size": "m", "heads": "n", "connections": "c"}
    named |= {"state_size": "s", "rank": "r"}
    found = {named[name]: size for name, size in entry.sizes.items() if name in named}
    return {"d": d, "h": h, "k": math.prod(entry.sizes.get("kernel_size", ()))} | found


# ---- papers

LSTM = "[Hochreiter and Schmidhuber 1997](https://doi.org/10.1162/neco.1997.9.8.1735)"
CHO = "[Cho et al. 2014](https://arxiv.org/abs/1406.1078)"
ELMAN = "[Elman 1990](https://doi.org/10.1207/s15516709cog1402_1)"
GERS = "[Gers et al. 2002](https://www.jmlr.org/papers/v3/gers02a.html)"
DAO = "[Dao and Gu 2024](https://arxiv.org/abs/2405.21060)"
DELTA = "[Schlag et al. 2021](https://arxiv.org/abs/2102.11174)"
FENG = "[Feng et al. 2024](https://arxiv.org/abs/2410.01201)"
GATED_DELTA = "[Yang et al. 2024](https://arxiv.org/abs/2412.06464)"
GREFF = "[Greff et al. 2017](https://arxiv.org/abs/1503.04069)"
GLA = "[Yang et al. 2023](https://arxiv.org/abs/2312.06635)"
GRIFFIN = "[De et al. 2024](https://arxiv.org/abs/2402.19427)"
IRNN = "[Le et al. 2015](https://arxiv.org/abs/1504.00941)"
FLASH = "[Pöppel et al. 2024](https://arxiv.org/abs/2412.07752)"
JAEGER = "[Jaeger et al. 2007](https://doi.org/10.1016/j.neunet.2007.04.016)"
KATHAROPOULOS = "[Katharopoulos et al. 2020](https://arxiv.org/abs/2006.16236)"
KRAUSE = "[Krause et al. 2016](https://arxiv.org/abs/1609.07959)"
LAYER_NORM = "[Ba et al. 2016](https://arxiv.org/abs/1607.06450)"
LEVY = "after [Levy et al. 2018](https://arxiv.org/abs/1805.03716)"
M2RNN = "[Mishra et al. 2026](https://arxiv.org/abs/2603.14360)"
MAMBA = "[Gu and Dao 2023](https://arxiv.org/abs/2312.00752)"
ORVIETO = "[Orvieto et al. 2023](https://arxiv.org/abs/2303.06349)"
RETENTION = "[Sun et al. 2023](https://arxiv.org/abs/2307.08621)"
SAK = "[Sak et al. 2014](https://arxiv.org/abs/1402.1128)"
SHI = "[Shi et al. 2015](https://arxiv.org/abs/1506.04214)"
SMITH = "[Smith et al. 2022](https://arxiv.org/abs/2208.04933)"
SUTSKEVER = "[Sutskever et al. 2011](https://icml.cc/2011/papers/524_icmlpaper.pdf)"
XLSTM = "[Beck et al. 2024](https://arxiv.org/abs/2405.04517)"
ZHOU = "[Zhou et al. 2016](https://arxiv.org/abs/1603.09420)"

# ---- options

RELU: dict[str, Any] = {"activation": jax.nn.relu}
SOME: dict[str, Any] = {"peepholes": "diagonal", "coupled": True, "normalise": "layer"}
LEAKY: dict[str, Any] = {"leak": 0.6, "radius": 1.2, "trainable": True}
FACTORS, HEADS = {"factor_size": 5}, {"heads": 2}
POSITIVE: dict[str, Any] = {"candidate": "positive"}
RING: dict[str, Any] = {"r_min": 0.3, "learned_gamma": True}
PICTURES = {"shape": (3, 2), "kernel_size": (3, 2)}

REGISTRY: dict[str, Entry] = {
    "elman": Entry(cells.elman, "h' = φ(x W + h U + b)", ELMAN, "h*(d + h + 1)"),
    "elman_relu": Entry(cells.elman, "", ELMAN, "h*(d + h + 1)", RELU),
    "irnn": Entry(cells.elman, "", IRNN, "h*(d + h + 1)", {**RELU, "w_h_init": identity()}, reference="elman_relu"),
    "layer_norm_elman": Entry(cells.layer_norm_elman, "its summed input normalised", LAYER_NORM, "h*(d + h + 2)"),
    "pass_through": Entry(
        cells.pass_through, "one gate z: h' = z ⊙ h + (1-z) ⊙ relu(…)", f"after {ZHOU}", "2*h*(d + h + 1)"
    ),
    "minimal_gated_unit": Entry(cells.minimal_gated_unit, "one gate resets and updates", ZHOU, "2*h*(d + h + 1)"),
    "gru": Entry(
        cells.gru, "reset after or before the recurrent product", CHO, "3*h*(d + h + 1) + h", reference="gru_after"
    ),
    "gru_before": Entry(cells.gru, "", CHO, "3*h*(d + h + 1)", {"reset": "before"}),
    "layer_norm_gru": Entry(cells.layer_norm_gru, "summed inputs normalised", LAYER_NORM, "3*h*(d + h + 2)"),
    "gated_gru": Entry(
        cells.gated_gru,
        "any combination of these, such as both biases, normalised",
        CHO,
        "3*h*(d + h + 2) + h",
        {"normalise": "layer"},
    ),
    "carousel": Entry(cells.carousel, "constant error: c' = c + tanh(…)", f"{LSTM}, section 3", "h*(d + h + 1)"),
    "lstm_1997": Entry(cells.lstm_1997, "input and output gate, no forget gate", LSTM, "3*h*(d + h + 1)"),
    "lstm": Entry(
        cells.lstm,
        "with forget gate",
        "[Gers et al. 2000](https://doi.org/10.1162/089976600300015015)",
        "4*h*(d + h + 1)",
    ),
    "peephole_lstm": Entry(
        cells.peephole_lstm,
        "gates see c, diagonally or in full",
        GERS,
        "4*h*(d + h + 1) + 3*h",
        reference="peephole_diagonal",
    ),
    "peephole_full": Entry(cells.peephole_lstm, "", GERS, "4*h*(d + h + 1) + 3*h*h", {"peepholes": "full"}),
    "coupled_lstm": Entry(cells.coupled_lstm, "i = 1 - f", GREFF, "3*h*(d + h + 1)"),
    "projected_lstm": Entry(
        cells.projected_lstm,
        "h is a projection of the output",
        SAK,
        "4*h*(d + p + 1) + h*p",
        sizes={"projection_size": 2},
    ),
    "layer_norm_lstm": Entry(cells.layer_norm_lstm, "summed inputs normalised", LAYER_NORM, "4*h*(d + h + 2)"),
    "five_equation_lstm": Entry(
        cells.five_equation_lstm, "no bias, no squashing: c' = f ⊙ c + i ⊙ x, so d = h", LEVY, "6*h*h"
    ),
    "reset_lstm": Entry(
        cells.reset_lstm, "a reset gate in the candidate, no output squashing", f"after {CHO}", "5*h*(d + h + 1)"
    ),
    "gated_lstm": Entry(
        cells.gated_lstm,
        "any combination of these, such as coupled gates, peepholes, normalisation and projection",
        GREFF,
        "3*h*(d + p + 2) + 2*h + h*p",
        SOME,
        {"projection_size": 2},
    ),
    "multiplicative_rnn": Entry(
        cells.multiplicative_rnn, "(x W) ⊙ (h U) in place of h", SUTSKEVER, "h*(d + m + 1) + m*(d + h)", sizes=FACTORS
    ),
    "multiplicative_lstm": Entry(
        cells.multiplicative_lstm, "the same", KRAUSE, "4*h*(d + m + 1) + m*(d + h)", sizes=FACTORS
    ),
    "headwise_elman": Entry(
        cells.headwise_elman, "n heads side by side: U is block-diagonal", FLASH, "h*(d + h//n + 1)", sizes=HEADS
    ),
    "headwise_lstm": Entry(cells.headwise_lstm, "the same", FLASH, "4*h*(d + h//n + 1)", sizes=HEADS),
    "headwise_gru": Entry(cells.headwise_gru, "the same", FLASH, "3*h*(d + h//n + 1) + h", sizes=HEADS),
    "slstm": Entry(
        cells.slstm, "the same with exponential gates and a normaliser", XLSTM, "4*h*(d + h//n + 1)", sizes=HEADS
    ),
    "mingru": Entry(cells.mingru, "u from x only: h' = (1-u) ⊙ h + u ⊙ (x W + b)", FENG, "2*h*(d + 1)"),
    "mingru_positive": Entry(cells.mingru, "", FENG, "2*h*(d + 1)", POSITIVE, reference="mingru"),
    "minlstm": Entry(cells.minlstm, "f and i from x only, as shares of their sum", FENG, "3*h*(d + 1)"),
    "lru": Entry(
        cells.lru, "complex: h' = a ⊙ h + √(1-|a|²) ⊙ (x B), y = Re(h' C) + D ⊙ x", ORVIETO, "h*(d + 4*h + 3)"
    ),
    "lru_learned_gamma": Entry(cells.lru, "", ORVIETO, "h*(d + 4*h + 4)", RING, reference="lru"),
    "rglru": Entry(
        cells.rglru, "h' = a ⊙ h + √(1-a²) ⊙ i ⊙ x, a and i from x", GRIFFIN, "h*(d + 2*h//n + 3)", sizes=HEADS
    ),
    "s5": Entry(
        cells.s5, "dh/dt = Λ ⊙ h + x B, complex, over learned steps", SMITH, "h*(d + 4*h + 4)", sizes={"blocks": 2}
    ),
    "selective_state_space": Entry(
        cells.selective_state_space,
        "s numbers a channel; step, input and output weights from x",
        MAMBA,
        "h*(d + 2*r + 3*s + 2)",
        sizes={"state_size": 5, "rank": 2},
    ),
    "linear_attention": Entry(
        cells.linear_attention, "a matrix a head: S' = S + k vᵀ, y = qᵀ S'", KATHAROPOULOS, "3*d*h", sizes=HEADS
    ),
    "linear_attention_head": Entry(
        cells.linear_attention, "", RETENTION, "3*d*h", {"decay": "head"}, HEADS, "linear_attention"
    ),
    "linear_attention_input": Entry(
        cells.linear_attention, "", DAO, "3*d*h + n*(d + 2)", {"decay": "input"}, HEADS, "linear_attention"
    ),
    "linear_attention_channel": Entry(
        cells.linear_attention, "", GLA, "3*d*h + 16*(d + h) + h", {"decay": "channel"}, HEADS, "linear_attention"
    ),
    "mlstm": Entry(
        cells.mlstm, "the same with exponential gates and a normaliser", XLSTM, "(4*h + 2*n)*(d + 1)", sizes=HEADS
    ),
    "delta_rule": Entry(
        cells.delta_rule, "S' = S - b k (kᵀS - vᵀ): a write replaces", DELTA, "3*d*h + n*d", sizes=HEADS
    ),
    "gated_delta_rule": Entry(
        cells.delta_rule,
        "",
        GATED_DELTA,
        "3*d*h + n*(2*d + 2)",
        {"gated": True, "beta": 2.0},
        HEADS,
        "delta_rule",
    ),
    "m2rnn": Entry(
        cells.m2rnn,
        "S' = f S + (1-f) tanh(S W + k vᵀ), y = S'ᵀ q + w ⊙ v",
        M2RNN,
        "3*d*h + h*h//n + n*(d + 2) + h",
        sizes=HEADS,
    ),
    "conv_lstm": Entry(
        cells.conv_lstm, "an LSTM over pictures: convolutions of k places", SHI, "4*h*(k*(d + h) + 1)", sizes=PICTURES
    ),
    "echo_state": Entry(
        cells.echo_state, "a fixed random reservoir: h' = (1-a) h + a tanh(…)", JAEGER, "h*(d + h + 1)", sizes=LEAKY
    ),
    "sparse_echo_state": Entry(
        cells.sparse_echo_state,
        "c connections a unit",
        JAEGER,
        "h*(d + c + 1)",
        sizes={**LEAKY, "connections": 2},
    ),
}

COMMANDS: dict[str, Callable[..., Cell]] = {
    name.replace("_", "-"): functools.partial(entry.make, **entry.variant) if entry.variant else entry.make
    for name, entry in REGISTRY.items()
    if entry.offered
}


def table() -> str:
    """README's table of cells, a row a factory."""
    rows = ["| name | recurrence | parameters | paper |", "|---|---|---|---|"]
    for name, entry in REGISTRY.items():
        if entry.recurrence:
            formula = entry.parameters.replace("h*h", "h²").replace("//", "/").replace("*", "")
            rows.append(f"| `{name}` | {entry.recurrence} | {formula} | {entry.paper} |")
    return "\n".join(rows) + "\n"
