"""What every axis of a tick's values is: batch, heads or features; and the proof that batch and heads never mix.

A kernel runs a tile of the batch, and one head, to the end of time without a word to the others. That is right if no
equation moves a value along those axes. Every axis gets a role: a number for a batch axis, ``HEAD``, or ``FEATURE``;
each equation must keep the first two in place. Any consistent assignment is a proof, so roles of inputs may be guessed
from shapes: a wrong guess is refused, never believed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqjax.engines.base import UnsupportedError
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.pallas.normal_form import Canonical

HEAD, FEATURE = "head", "feature"
Roles = tuple[Any, ...]

POINTWISE = {
    "abs", "add", "add_any", "and", "atan2", "ceil", "clamp", "convert_element_type", "cos", "cosh", "div", "eq", "exp",
    "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt", "max",
    "min", "mul", "ne", "neg", "not", "or", "pow", "rem", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square",
    "sub", "tan", "tanh", "xor", "asin", "acos", "atan", "asinh", "acosh", "atanh", "cbrt",
}  # fmt: skip
REDUCING = {"reduce_sum", "reduce_max", "reduce_min"}
MOVING = {"broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "split", "concatenate", "pad"}


class Axes(NamedTuple):
    """Roles of every variable of a tick.

    Attributes:
      batch: sizes of the batch axes.
      heads: how many heads run apart; None where there are none.
      roles: of each variable's axes; None for a value that is one number everywhere.
      weights: invariants that are read as the weight of a product, and in no other way.
      partial: variables that are sums over this tile of the batch only.
    """

    batch: tuple[int, ...]
    heads: int | None
    roles: dict[Var, Roles | None]
    weights: set[Var]
    partial: set[Var]


def axes_of(tick: Canonical) -> Axes:
    """The assignment with the most to run apart: as many batch axes as can, and heads if they can.

    Raises:
      UnsupportedError: no assignment holds; says why the one that got furthest did not.
    """
    shapes = [v.aval.shape for v in tick.state]
    if not shapes:
        raise UnsupportedError("the loop carries no state")
    shared = min(map(len, shapes))
    while shared and len({s[:shared] for s in shapes}) > 1:
        shared -= 1
    heads = {e.invars[0].aval.shape[d] for e in tick.equations for d in _batched_dims(e)}
    refusals = []
    for rank in range(shared, -1, -1):
        for n in [*sorted(heads), None]:
            attempt = _Assignment(tick, shapes[0][:rank], n)
            try:
                return attempt.run()
            except UnsupportedError as refusal:
                refusals.append((len(attempt.roles), -rank, refusal))
    raise max(refusals, key=lambda tried: tried[:2])[2]


def _batched_dims(equation: Equation) -> Sequence[int]:
    return equation.params["dimension_numbers"][1][0] if equation.primitive.name == "dot_general" else ()


class _Assignment:
    """One try."""

    def __init__(self, tick: Canonical, batch: tuple[int, ...], heads: int | None):
        self.tick, self.batch, self.heads = tick, batch, heads
        self.roles: dict[Var, Roles | None] = {}
        self.weights: set[Var] = set()
        self.partial: set[Var] = set()
        # Their axes are settled where they are first read.
        self.open = {*tick.once, *tick.x}

    def run(self) -> Axes:
        """Assigns roles to all variables, or raises."""
        for v in self.tick.state:
            self.roles[v] = self._natural(v.aval.shape)
        if self.heads is not None and not any(HEAD in (self.roles[v] or ()) for v in self.tick.state):
            raise UnsupportedError("the state has no axis of heads")
        for e in self.tick.equations:
            name = e.primitive.name
            out: Roles | None
            if name == "dot_general":
                out = self._product(e)
            elif name in POINTWISE:
                out = self._pointwise(e)
            elif name in REDUCING:
                out = self._reduced(e)
            elif name in MOVING:
                out = getattr(self, f"_{name}")(e)
            else:
                raise UnsupportedError(f"{name} along time is neither pointwise nor a product with a weight")
            self._sums(e)
            self.roles.update(dict.fromkeys(e.outvars, out))
        for before, after in zip(self.tick.state, self.tick.results):
            if not jaxprs.is_literal(after) and self._of(after) not in (None, self.roles[before]):
                raise UnsupportedError("the state's axes change places from tick to tick")
        for v in jaxprs.used([], self.tick.results):
            self._of(v)
        for v in self.open - self.weights:
            self.roles[v] = self._natural(v.aval.shape)
        for v in {*self.tick.once, *self.tick.x} - self.weights:
            self._whole_batch(v)
        return Axes(self.batch, self.heads, self.roles, self.weights, self.partial)

    def _natural(self, shape: tuple[int, ...]) -> Roles:
        """Batch axes lead if the sizes say so, then heads."""
        rank = len(self.batch)
        roles: list = list(range(rank)) if rank and shape[:rank] == self.batch else []
        if self.heads is not None and shape[len(roles) : len(roles) + 1] == (self.heads,):
            roles.append(HEAD)
        return tuple(roles + [FEATURE] * (len(shape) - len(roles)))

    def _whole_batch(self, v: Var) -> None:
        """A tile is a stretch of all batch axes together: what has some of them only cannot be cut into tiles.

        In ``u ⊙ h`` with h ``[B, h]`` and u ``[h]`` both axes of h could be the batch, were it not for u.
        """
        apart = [role for role in self.roles[v] or () if role not in (HEAD, FEATURE)]
        if apart and apart != list(range(len(self.batch))):
            raise UnsupportedError(f"{v.aval.str_short()} has some of the batch's axes, or has them in another order")

    def _of(self, v: Var, wanted: Roles | None = None) -> Roles | None:
        """A variable's roles; what comes from outside takes those wanted where it is first read."""
        if jaxprs.is_literal(v):
            return None
        if v in self.weights:
            raise UnsupportedError(f"{v.aval.str_short()} is the weight of a product and read otherwise as well")
        if v in self.open:
            self.open.discard(v)
            self.roles[v] = self._natural(v.aval.shape) if wanted is None else wanted
        return self.roles[v]

    def _pointwise(self, e: Equation) -> Roles | None:
        """Operands have the result's shape, or size one along some axes, or no axes at all."""
        shape = e.outvars[0].aval.shape
        found: list[Any] = [None] * len(shape)
        # What is open comes last: its axes are what the others say.
        for v in sorted(e.invars, key=lambda v: not jaxprs.is_literal(v) and v in self.open):
            size = v.aval.shape
            natural = self._natural(size)
            wanted = [
                FEATURE if s != n else own if r is None else r for s, n, r, own in zip(size, shape, found, natural)
            ]
            roles = self._of(v, tuple(wanted))
            if roles is None or not size:
                continue
            for i, (s, n, role) in enumerate(zip(size, shape, roles)):
                if (s == n and found[i] not in (None, role)) or (s != n and role != FEATURE):
                    raise UnsupportedError(
                        f"{e.primitive.name} mixes values whose batch or heads lie on different axes"
                    )
                found[i] = role if s == n else found[i]
        if all(role is None for role in found):
            return None if all(jaxprs.is_literal(v) or self.roles[v] is None for v in e.invars) else ()
        return tuple(FEATURE if role is None else role for role in found)

    def _reduced(self, e: Equation) -> Roles | None:
        (v,), axes = e.invars, e.params["axes"]
        roles = self._of(v)
        if roles is None:
            raise UnsupportedError("a constant is summed along time")
        apart = [r for i, r in enumerate(roles) if i in axes and r != FEATURE]
        if apart:
            batch = [r for r in roles if r not in (HEAD, FEATURE)]
            if e.primitive.name != "reduce_sum" or any(r not in apart for r in batch):
                raise UnsupportedError(f"{e.primitive.name} runs over the batch or over heads")
            self.partial.add(e.outvars[0])
        return tuple(r for i, r in enumerate(roles) if i not in axes)

    def _sums(self, e: Equation) -> None:
        """What is computed from a sum over a tile must be linear in it: the tiles are added behind the kernel."""
        partial = [not jaxprs.is_literal(v) and v in self.partial for v in e.invars]
        if not any(partial):
            return
        sums = e.primitive.name in ("add", "add_any", "concatenate") and all(partial)
        alone = len(e.invars) == 1 and (e.primitive.name in MOVING or e.primitive.name in ("neg", "reduce_sum"))
        cast = e.primitive.name == "convert_element_type" and jaxprs.is_float(e.outvars[0].aval)
        if not (sums or alone or cast):
            raise UnsupportedError(f"{e.primitive.name} reads a sum over the batch")
        self.partial.update(e.outvars)

    def _product(self, e: Equation) -> Roles:
        (left, right), (left_batch, right_batch) = e.params["dimension_numbers"]
        a, b = e.invars
        fixed = [v in self.tick.once for v in (a, b)]
        if sum(fixed) != 1:
            raise UnsupportedError("a product of two values that both change along time")
        side = fixed.index(True)
        weight, value = (a, b) if side == 0 else (b, a)
        if weight not in self.open and weight not in self.weights:
            raise UnsupportedError(f"{weight.aval.str_short()} is the weight of a product and read otherwise as well")
        roles = self._of(value)
        if roles is None:
            raise UnsupportedError("a product of a constant with a weight")
        contracted, batched = (right, right_batch) if side == 0 else (left, left_batch)
        if any(s > 1 and r == FEATURE and i not in (*contracted, *batched)
               for i, (s, r) in enumerate(zip(value.aval.shape, roles))):  # fmt: skip
            raise UnsupportedError("a product of a weight with features that are a matrix")
        if any(roles[i] != FEATURE for i in contracted):
            raise UnsupportedError("a product sums over the batch or over heads")
        if any(roles[i] not in (HEAD, FEATURE) for i in batched):
            raise UnsupportedError("a product has a weight for each example")
        self.open.discard(weight)
        self.weights.add(weight)
        kept = [r for i, r in enumerate(roles) if i not in contracted and i not in batched]
        free = [FEATURE] * (weight.aval.ndim - len(contracted) - len(batched))
        return (*(roles[i] for i in batched), *(free + kept if side == 0 else kept + free))

    def _broadcast_in_dim(self, e: Equation) -> Roles | None:
        (v,), shape, places = e.invars, e.params["shape"], e.params["broadcast_dimensions"]
        if not v.aval.shape:
            if not jaxprs.is_literal(v):
                self._of(v, ())
            return None
        new = list(self._natural(shape))
        grown = [v.aval.shape[i] != shape[place] for i, place in enumerate(places)]
        wanted = tuple(FEATURE if more else new[place] for place, more in zip(places, grown))
        roles = self._of(v, wanted)
        if roles is None:
            return None
        taken = {r for r in roles if r != FEATURE}
        # An axis is the batch here because of its size; where the operand has the batch elsewhere, it is not.
        new = [FEATURE if r in taken else r for r in new]
        for role, place, more in zip(roles, places, grown):
            if not more:
                new[place] = role
            elif role != FEATURE:
                raise UnsupportedError("a batch of one is repeated")
        return tuple(new)

    def _reshape(self, e: Equation) -> Roles | None:
        roles = self._of(e.invars[0])
        if roles is None:
            return None
        apart = sum(r != FEATURE for r in roles)
        before, after = e.invars[0].aval.shape, e.outvars[0].aval.shape
        if FEATURE in roles[:apart] or before[:apart] != after[:apart]:
            raise UnsupportedError("a reshape mixes the batch, or heads, with features")
        return (*roles[:apart], *[FEATURE] * (len(after) - apart))

    def _squeeze(self, e: Equation) -> Roles | None:
        roles = self._of(e.invars[0])
        if roles is None:
            return None
        if any(roles[i] != FEATURE for i in e.params["dimensions"]):
            raise UnsupportedError("a squeeze removes the batch, or heads")
        return tuple(r for i, r in enumerate(roles) if i not in e.params["dimensions"])

    def _transpose(self, e: Equation) -> Roles | None:
        roles = self._of(e.invars[0])
        return None if roles is None else tuple(roles[i] for i in e.params["permutation"])

    def _slice(self, e: Equation) -> Roles | None:
        roles, before, after = self._of(e.invars[0]), e.invars[0].aval.shape, e.outvars[0].aval.shape
        return self._along_features(e, roles, [a != b for a, b in zip(before, after)])

    def _split(self, e: Equation) -> Roles | None:
        roles = self._of(e.invars[0])
        return self._along_features(e, roles, [i == e.params["axis"] for i in range(e.invars[0].aval.ndim)])

    def _concatenate(self, e: Equation) -> Roles | None:
        known = (self.roles[v] for v in e.invars if not jaxprs.is_literal(v) and v not in self.open)
        wanted = next((r for r in known if r is not None), None)
        found = {r for v in e.invars if (r := self._of(v, wanted)) is not None}
        if len(found) > 1:
            raise UnsupportedError("a concatenation mixes values whose batch or heads lie on different axes")
        roles = next(iter(found), self._natural(e.outvars[0].aval.shape))
        return self._along_features(e, roles, [i == e.params["dimension"] for i in range(len(roles))])

    def _pad(self, e: Equation) -> Roles | None:
        self._of(e.invars[1], ())
        roles = self._of(e.invars[0])
        roles = self._natural(e.outvars[0].aval.shape) if roles is None else roles
        if any(interior for _, _, interior in e.params["padding_config"]):
            raise UnsupportedError("a pad puts values between others")
        return self._along_features(e, roles, [config != (0, 0, 0) for config in e.params["padding_config"]])

    def _along_features(self, e: Equation, roles: Roles | None, changed: Sequence[bool]) -> Roles | None:
        if roles is not None and any(role != FEATURE and c for role, c in zip(roles, changed)):
            raise UnsupportedError(f"{e.primitive.name} cuts along the batch, or along heads")
        return roles
