"""Running a step again with something in it changed."""

from collections.abc import Callable, Sequence

import jax

from seqjax.base import PyTree
from seqjax.engines.equations import jaxprs


def change_state(
    step: Callable, params: PyTree, state: PyTree, x: PyTree, change: Callable[[PyTree], PyTree]
) -> tuple[PyTree, PyTree]:
    """``step``, then ``change(new state)``; the output is computed from the changed state.

    What the output takes from the new state, be it a leaf of it (y = h') or a function of it (y = x + h'), it
    takes from the changed one instead. The state itself is changed after the fact: a change of c' is no
    change of h'.
    """
    closed, values, out = _trace(step, params, state, x)
    flat = jaxprs.trace(
        lambda *values: jaxprs.interpret(closed.jaxpr, closed.consts, values, _inline_jit),
        *map(jax.typeof, values),
    )
    state_tree, y_tree = map(jax.tree.structure, out)
    everything = jaxprs.function(flat.jaxpr, flat.eqns, flat.jaxpr.constvars + flat.jaxpr.invars, flat.jaxpr.outvars)
    leaves = everything([*flat.consts, *values])
    changed = change(state_tree.unflatten(leaves[: state_tree.num_leaves]))

    inputs = dict(zip(flat.jaxpr.constvars + flat.jaxpr.invars, [*flat.consts, *values]))
    made = zip(flat.jaxpr.outvars[: state_tree.num_leaves], jax.tree.leaves(changed))
    given = {v: leaf for v, leaf in made if not jaxprs.is_literal(v) and v not in inputs}
    ys = flat.jaxpr.outvars[state_tree.num_leaves :]
    equations = jaxprs.needed(flat.eqns, ys, given)
    reads = jaxprs.used(equations, ys)
    again = jaxprs.function(flat.jaxpr, equations, reads, ys)
    return changed, y_tree.unflatten(again([(inputs | given)[v] for v in reads]))


def change_recurrent_inputs(
    step: Callable, params: PyTree, state: PyTree, x: PyTree, change: Callable[[int, jax.Array], jax.Array]
) -> tuple[PyTree, PyTree]:
    """``step`` with ``change(index, h)`` wherever the step marks an h by `seqjax.recurrent_input`."""
    closed, values, out = _trace(step, params, state, x)
    marks = 0

    def rule(equation: jaxprs.Equation, inputs: list) -> Sequence | None:
        nonlocal marks
        if jaxprs.is_mark(equation):
            marks += 1
            return [change(marks - 1, inputs[0])]
        if not jaxprs.any_equation(equation, jaxprs.is_mark):
            return None
        call = _jitted(equation)
        if call is None:
            raise ValueError(
                "recurrent_dropout: expected sj.recurrent_input in the step itself, got it inside "
                f"{equation.primitive.name}. Mark h before it goes in there."
            )
        return jaxprs.interpret(*call, inputs, rule)

    leaves = jaxprs.interpret(closed.jaxpr, closed.consts, values, rule)
    if not marks:
        raise ValueError(
            "recurrent_dropout: expected a step that marks where h enters its products, got no mark. "
            "Write dot(sj.recurrent_input(h), w) in the step; of a cell of another library, which has none, "
            "use sj.zoneout or sj.variational_dropout."
        )
    return jax.tree.structure(out).unflatten(leaves)


def _trace(step: Callable, params: PyTree, state: PyTree, x: PyTree):
    closed, out = jax.make_jaxpr(step, return_shape=True)(params, state, x)
    return closed, jax.tree.leaves((params, state, x)), out


def _inline_jit(equation: jaxprs.Equation, inputs: list) -> Sequence | None:
    call = _jitted(equation)
    return None if call is None else jaxprs.interpret(*call, inputs, _inline_jit)


def _jitted(equation: jaxprs.Equation) -> tuple[jaxprs.Jaxpr, Sequence] | None:
    """The jaxpr and constants of a function under `jax.jit`."""
    return jaxprs.inner(equation) if equation.primitive.name in ("jit", "pjit") else None
