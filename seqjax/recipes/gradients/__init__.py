"""The laboratory of gradients: one experiment a file, with figures, tables and sentences that follow from them.

    python -m seqjax gradients              what there is
    python -m seqjax gradients latch        one of them; --help says what can be set

In order of reading, behind `experiment`, which is what they share:

- what a recurrence is: `shapes` of problems, the graph `unrolled`;
- what happens to a gradient on its way: `chain`, `maps`, `bounded` (a state, whose Jacobian is not), `depth`, `flow`;
- what learning makes of it: `cliff`, `clipping`, `latch`, `remedies`, `capacity`;
- what networks came to: `gates`, `tagger`.

Every experiment has `Options` and ``main(options, report)``. What it says is printed and kept as ``report.md``, and the
numbers behind ``NAME.png`` as ``NAME.json``. The computations are `seqjax.gradients.lessons`, the drawings
`seqjax.gradients.figures`; the notebooks tell the same step by step.

References:
  Hochreiter (1991), Untersuchungen zu dynamischen neuronalen Netzen.
  Bengio, Simard and Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
  https://doi.org/10.1109/72.279181
  Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks.
  https://arxiv.org/abs/1211.5063
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Union

import jax
import tyro

from seqjax.recipes.gradients import (
    bounded,
    capacity,
    chain,
    cliff,
    clipping,
    depth,
    flow,
    gates,
    latch,
    maps,
    remedies,
    shapes,
    tagger,
    unrolled,
)
from seqjax.recipes.gradients.experiment import Report

EXPERIMENTS: dict[str, Any] = {
    "shapes": shapes,
    "unrolled": unrolled,
    "chain": chain,
    "maps": maps,
    "bounded": bounded,
    "depth": depth,
    "flow": flow,
    "cliff": cliff,
    "clipping": clipping,
    "latch": latch,
    "remedies": remedies,
    "capacity": capacity,
    "gates": gates,
    "tagger": tagger,
}

if TYPE_CHECKING:
    Chosen = Any
else:
    subcommands = {name: module.Options for name, module in EXPERIMENTS.items()} | {"list": None}
    Chosen = Union[  # noqa: UP007
        tuple(Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in subcommands.items())
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Experiments on vanishing, exploding and remembering, with their figures: chain, maps, latch, cliff and more."""

    experiment: Annotated[Chosen, tyro.conf.arg(name="")] = None
    """What to try."""

    def check(self, who: str) -> None:
        """Refuses what the experiment refuses."""
        if self.experiment is not None:
            self.experiment.check(who)


def main(options: Options) -> None:
    """``python -m seqjax gradients``."""
    chosen = options.experiment
    if chosen is None:
        wide = max(map(len, EXPERIMENTS))
        for name, module in EXPERIMENTS.items():
            print(f"{name:{wide}}  {module.Options.__doc__}")
        print("\npython -m seqjax gradients NAME runs one, with --help it says what can be set.")
        return
    name = named(chosen)
    report = Report.begin(name, chosen)
    with jax.enable_x64(chosen.exact):
        EXPERIMENTS[name].main(chosen, report)
    report.end()


def named(options: Any) -> str:
    """The experiment of which these are the options."""
    return next(name for name, module in EXPERIMENTS.items() if type(options) is module.Options)
