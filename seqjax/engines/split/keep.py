"""What a loop keeps of each tick for its derivative, and what it computes again.

The linear map of a tick needs coefficients. Those that cheap equations give back from fewer bytes are computed again
behind the loop; of an LSTM i, f, g, o and c stay, and σ' = σ(1 - σ) does not.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.split.linearize import LinearTick

# Pointwise equations cheap enough to repeat in the backward loop, a pass of simple arithmetic each; the results of any
# other (products, transcendentals, divisions, reductions) are kept.
REPEATED = {
    "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "concatenate", "convert_element_type", "copy", "eq",
    "expand_dims", "ge", "gt", "integer_pow", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "not",
    "one_minus_square", "or", "reshape", "select_n", "sign", "slice", "split", "square", "squeeze",
    "stop_gradient", "sub", "transpose", "xor",
}  # fmt: skip


class Kept(NamedTuple):
    """What is kept of a linearised tick.

    Attributes:
      tick: the tick.
      stacked: values stacked by the forward loop, besides states and inputs.
      states: variables of the state before the tick that are read.
      sources: all that is read per tick: stacked values, states and inputs.
      fixed: what is read that never changes along time.
      varying: wanted values that change along time.
      constant: every variable that does not change along time.
      again: ``[*sources, *fixed]`` to ``varying``.
    """

    tick: LinearTick
    stacked: list[Var]
    states: list[Var]
    sources: list[Var]
    fixed: list[Var]
    varying: list[Var]
    constant: set[Var]
    again: Callable[[list], list]

    def once(self, values: list) -> list:
        """``fixed`` from the values of what never changes."""
        return self.tick.function(self.tick.once, self.fixed)(values)

    def rebuild(self, sources: list, fixed: list) -> list:
        """The linear map's coefficients at one tick."""
        environment = dict(zip(self.varying, self.again([*sources, *fixed]))) | dict(zip(self.fixed, fixed))
        return [jaxprs.literal(v) if jaxprs.is_literal(v) else environment[v] for v in self.tick.coefficients]

    def batched(self, v: Var, stack: dict[Var, jax.Array], fixed: list, length: int) -> jax.Array:
        """One value for all ticks at once."""
        if jaxprs.is_literal(v):
            return jaxprs.repeat(jaxprs.literal(v), length)
        if v in stack:
            return stack[v]
        if v in self.constant:
            return jaxprs.repeat(dict(zip(self.fixed, fixed))[v], length)
        f = self.tick.function([*self.sources, *self.fixed], [v])
        return jax.vmap(lambda sources: f([*sources, *fixed])[0])([stack[s] for s in self.sources])


def kept_of(tick: LinearTick) -> Kept:
    """Chooses, for every coefficient, the nearest values from which cheap equations give it."""
    equations = tick.jaxpr.eqns
    producer = {v: e for e in equations for v in e.outvars}
    constant = set(tick.once)
    for e in equations:
        if all(jaxprs.is_literal(v) or v in constant for v in e.invars):
            constant.update(e.outvars)
    free = constant | set(tick.x)
    wanted = variables_of([*tick.left.values(), *tick.coefficients])
    varying = [v for v in wanted if v not in constant]
    kept: dict[Var, None] = {}
    # What has one origin first, so that values of several find them kept already.
    for v in sorted(varying, key=lambda v: len(_origins(v, producer, free))):
        kept |= _sources(v, producer, free, kept)
    kept = _nearer(kept, varying, equations, free)
    repeat = jaxprs.needed(equations, varying, [*kept, *free])
    reads = jaxprs.used(repeat, varying)
    sources = [v for v in reads if v not in constant]
    fixed = [v for v in variables_of([*reads, *wanted]) if v in constant]
    return Kept(
        tick=tick,
        stacked=[v for v in kept if v in reads and v not in set(tick.before)],
        states=[v for v in tick.before if v in reads],
        sources=sources,
        fixed=fixed,
        varying=varying,
        constant=constant,
        again=jaxprs.function(tick.jaxpr, repeat, [*sources, *fixed], varying),
    )


def _sources(v: Var, producer: dict[Var, Equation], free: set[Var], kept: dict[Var, None]) -> dict[Var, None]:
    """The smallest set not kept yet from which cheap equations give ``v``."""
    if jaxprs.is_literal(v) or v in free or v in kept:
        return {}
    equation = producer.get(v)
    if equation is None or equation.primitive.name not in REPEATED:
        return {v: None}
    found: dict[Var, None] = {}
    for operand in equation.invars:
        found |= _sources(operand, producer, free, kept)
    return found if _size(found) <= _size([v]) else {v: None}


def _nearer(
    kept: dict[Var, None], wanted: Sequence[Var], equations: Sequence[Equation], free: set[Var]
) -> dict[Var, None]:
    """With what one wanted value only is computed from, and is no smaller, replaced by it: nothing is repeated."""
    readers: dict[Var, list[Var]] = {v: [] for v in kept}
    for v in wanted:
        for source in jaxprs.used(jaxprs.needed(equations, [v], [*kept, *free]), [v]):
            if source in kept:
                readers[source].append(v)
    nearer = {v: of[0] if len(of) == 1 and _size(of) <= _size([v]) else v for v, of in readers.items()}
    return dict.fromkeys(nearer.values())


def _origins(v: Var, producer: dict[Var, Equation], free: set[Var]) -> set[Var]:
    """The values that are not cheap to repeat behind a value."""
    if jaxprs.is_literal(v) or v in free:
        return set()
    equation = producer.get(v)
    if equation is None or equation.primitive.name not in REPEATED:
        return {v}
    return set().union(*(_origins(operand, producer, free) for operand in equation.invars))


def _size(variables: Iterable[Var]) -> int:
    return sum(jaxprs.nbytes(v.aval) for v in variables)


def variables_of(values: Sequence[Var]) -> list[Var]:
    """The variables among values, each once; literals left out."""
    return list(dict.fromkeys(v for v in values if not jaxprs.is_literal(v)))
