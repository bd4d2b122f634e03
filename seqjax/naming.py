"""Names of parameters: where an array stands in a module, in the words that the module is written in.

Parameters are tuples, ``params[1].w_h``. For files, tables and reports each array has a name besides, ``lstm/w_h``,
that follows from the module and from nothing drawn: not from the key, not from the sizes.

- A field of a record is called by itself: ``w_h``, ``forward/w_h``.
- What stands in a row is called by its maker, the second of a name by its number: ``lstm/w_h``, ``lstm_1/w_h``.
  `serial` and `stack` are such rows; inside one another they are one row. A wrapper that leaves the parameters alone
  (`recurrent`, `residual`, `zoneout`) gives way to what it wraps.
- Of what was made by hand the tree tells: a field, a key, or an index.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax

from seqjax import checks
from seqjax.base import Array, Noise, PyTree
from seqjax.layers.compose import serial
from seqjax.records import Bound, Call
from seqjax.transforms.compose import stack

ROWS = (serial, stack)
ALONE = "array"  # the name of parameters that are one array


def named(module: Any, params: PyTree) -> dict[str, Array]:
    """The arrays of a module's parameters by name, in the order of the tree's leaves.

    Args:
      module: a cell, a layer, a `seqjax.models.Conditional`: whatever has ``init``.
      params: its parameters, or a tree like them: gradients, shapes, the moments of an optimizer.

    Returns:
      ``{name: leaf}``. Names are unique; `seqjax.interop.unnamed` makes parameters of them again.

    Raises:
      TypeError: something else than a module, or parameters of another one.

    Example:
      >>> import jax, seqjax as sj
      >>> from seqjax.naming import named
      >>> model = sj.serial(sj.embedding(5, 8), sj.recurrent(sj.stack(sj.gru(8, 8), sj.gru(8, 8))), sj.dense(8, 5))
      >>> list(named(model, model.init(jax.random.key(0))))  # doctest: +NORMALIZE_WHITESPACE
      ['embedding/w', 'gru/w_x', 'gru/w_h', 'gru/b', 'gru/b_n', 'gru_1/w_x', 'gru_1/w_h', 'gru_1/b', 'gru_1/b_n',
       'dense/w', 'dense/b']
    """
    check_module("named", module)
    checks.params_of("named", module, params)
    return _by_name(module, params, "init")


def named_state(module: Any, state: PyTree) -> dict[str, Array]:
    """The arrays of a state by name, as `named` has it of parameters.

    >>> import seqjax as sj
    >>> cell = sj.stack(sj.zoneout(sj.lstm(3, 4), 0.1), sj.elman(4, 4))
    >>> list(named_state(cell, cell.initial_state(cell.init(jax.random.key(0)))))
    ['lstm/h', 'lstm/c', 'elman']
    """
    return _by_name(module, state, "initial_state")


def named_tree(tree: PyTree) -> dict[str, Array]:
    """The leaves of any tree by name, as the tree itself tells them.

    >>> from seqjax.cells import LSTMState
    >>> list(named_tree({"state": (LSTMState(h=1, c=2), Noise(3)), "step": 4}))
    ['state/0/h', 'state/0/c', 'state/1/value', 'step']
    """
    arrays = _by_name(None, tree, "init")
    if len(arrays) < len(jax.tree.leaves(tree)):
        raise ValueError(
            f"named_tree: expected a name of its own for each of {len(jax.tree.leaves(tree))} leaves, got "
            f"{len(arrays)} names. Keys of a dictionary that print alike, 1 and '1', need others."
        )
    return arrays


def shapes_of(module: Any) -> PyTree:
    """The parameters that a module draws, as shapes; as arrays where its ``init`` runs on the host."""
    try:
        return jax.eval_shape(module.init, jax.random.key(0))
    except Exception:  # such as one that looks for eigenvalues: it draws, or says what is wrong
        return module.init(jax.random.key(0))


def _by_name(module: Any, tree: PyTree, part: str) -> dict[str, Array]:
    return {"/".join(path) or ALONE: leaf for path, leaf in _leaves(module, tree, part)}


def _leaves(module: Any, node: PyTree, part: str) -> Iterator[tuple[tuple[str, ...], Array]]:
    """Every leaf with its path, from the module that draws this node, or None."""
    if jax.tree_util.all_leaves([node]):
        yield (), node
        return
    inside = _inside(module, node, part)
    if inside is not None:
        yield from _leaves(*inside, part)
        return
    row = _row(module, node, part)
    if row is None:
        given = dict(_given(_source(module, part)))
        branches = [(_text(key), given.get(_text(key)), child) for key, child in _branches(node)]
    else:
        labels = _numbered([label for label, _, _ in row])
        branches = [(label, inner, child) for label, (_, inner, child) in zip(labels, row)]
    for label, inner, child in branches:
        for path, leaf in _leaves(inner, child, part):
            yield (_escaped(label), *path), leaf


def _row(module: Any, node: PyTree, part: str) -> list[tuple[str, Any, PyTree]] | None:
    """A tuple with an entry for each of the modules it is made of: name, module, entry; None for any other node."""
    inside = _inside(module, node, part)
    if inside is not None:
        return _row(*inside, part)
    call = _source(module, part)
    given = _given(call)
    if call is None or type(node) is not tuple or not given or len(given) != len(node):
        return None
    row: list[tuple[str, Any, PyTree]] = []
    for (argument, inner), child in zip(given, node):
        within = _row(inner, child, part) if call.maker in ROWS and _maker(inner) in ROWS else None
        row += [(argument or label(inner), inner, child)] if within is None else within
    return row


def _inside(module: Any, node: PyTree, part: str) -> tuple[Any, PyTree] | None:
    """The one module that another is made of, where the node is like its own, or that and `Noise` not yet drawn."""
    call = _source(module, part)
    inner = [each for _, each in _given(call) if hasattr(each, part)]
    if len(inner) != 1 or call is None or call.maker in ROWS:
        return None
    noisy = type(node) is tuple and node[1:] == (Noise(None),)
    node = node[0] if noisy else node
    return (inner[0], node) if _structure(inner[0], part) == jax.tree.structure(node) else None


@functools.lru_cache(maxsize=256)
def _structure(module: Any, part: str) -> Any:
    """Of a module's parameters or state; None where they cannot be traced."""
    draw = module.init if part == "init" else lambda key: module.initial_state(module.init(key))
    try:
        return jax.tree.structure(jax.eval_shape(draw, jax.random.key(0)))
    except Exception:  # an init for the host
        return None


def _chain(module: Any, part: str) -> list[Call]:
    """The calls that a function of a module has come through, the outermost first."""
    function, calls = getattr(module, part, None), []
    while isinstance(function, Bound):
        calls.append(function.call)
        function = function.__wrapped__
    return calls


def _source(module: Any, part: str) -> Call | None:
    """The call that made the function itself: a preset's is that of what it is a preset of."""
    return ([None, *_chain(module, part)])[-1]


def _outermost(module: Any) -> Call | None:
    """The call that a module is named by: its own, but for wrappers whose parameters are those of an argument."""
    calls = _chain(module, "init")
    for call, inner in zip(calls, [*calls[1:], None]):
        passed = [value.call for _, value in _arguments(call) if isinstance(value, Bound) and value.part == "init"]
        passed += [calls[0] for _, value in _given(call) if (calls := _chain(value, "init"))]
        if inner is None or inner not in passed:
            return call
    return None


def _maker(module: Any) -> Any:
    call = _outermost(module)
    return call and call.maker


def label(module: Any) -> str:
    """What a module is called in a row: its maker, or that of what a wrapper leaves the parameters of."""
    call = _outermost(module)
    return type(module).__name__.lower() if call is None else call.maker.__name__


def _arguments(call: Call | None) -> Iterator[tuple[str, Any]]:
    """The options of a call by name; those that stand in a row have none."""
    if call is None:
        return
    options = call.options()
    for name, value in options.arguments.items():
        if options.signature.parameters[name].kind is not options.signature.parameters[name].VAR_POSITIONAL:
            yield name, value
        else:
            yield from (("", each) for each in value)


def _given(call: Call | None) -> list[tuple[str, Any]]:
    """The modules among them."""
    return [(name, value) for name, value in _arguments(call) if is_module(value)]


def is_module(value: Any) -> bool:
    """Whether a value is a record of functions that draws parameters."""
    return isinstance(value, tuple) and "init" in getattr(value, "_fields", ())


def _branches(node: PyTree) -> list[tuple[Any, PyTree]]:
    """A node's children with their keys."""
    pairs = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda each: each is not node)[0]
    return [(path[-1], child) for path, child in pairs]


def _text(key: Any) -> str:
    return jax.tree_util.keystr((key,), simple=True)


def _escaped(label: str) -> str:
    """A key of a dictionary may hold the sign that stands between labels."""
    return label.replace("%", "%25").replace("/", "%2F")


def _numbered(labels: list[str]) -> list[str]:
    """The labels, those that have been before with a number.

    >>> _numbered(["lstm", "dense", "lstm", "lstm_1", "lstm"])
    ['lstm', 'dense', 'lstm_2', 'lstm_1', 'lstm_3']
    """
    taken, numbered = set(labels), []
    for place, label in enumerate(labels):
        number = 1
        while label in labels[:place] and f"{label}_{number}" in taken:
            number += 1
        numbered.append(f"{label}_{number}" if label in labels[:place] else label)
        taken.add(numbered[-1])
    return numbered


def check_module(who: str, module: Any) -> None:
    """A module where one belongs."""
    if not is_module(module):
        raise TypeError(
            f"{who}: expected a cell, a layer or a model with init, got {type(module).__name__}. "
            "The module comes first, then its parameters."
        )
