"""Programs that run without this package: `jax.export` of any function, with plain containers in place of records.

A process that deserialises a program must know the types of its arguments and results. Those of the package are
registered, which helps where it is installed; elsewhere dictionaries, lists and tuples are all there is.
"""

import functools
import pathlib
import zipfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.export
import numpy as np

from seqjax import symbolic
from seqjax.base import Cell, Layer, PyTree
from seqjax.interop.calls import Extra, Size, call_of
from seqjax.interop.extras import needed


def plain(tree: PyTree) -> PyTree:
    """A tree with records as dictionaries by field, for programs that `exported` made.

    Args:
      tree: records, tuples, lists and dictionaries of arrays; any other node becomes the list of its children.

    Returns:
      The same arrays in dictionaries, lists and tuples.

    Example:
      >>> import seqjax as sj
      >>> plain((sj.cells.LSTMState(h=1, c=2), None))
      ({'h': 1, 'c': 2}, None)
    """
    if hasattr(tree, "_fields"):
        return {name: plain(value) for name, value in zip(tree._fields, tree)}
    if isinstance(tree, tuple | list):
        return type(tree)(map(plain, tree))
    if isinstance(tree, dict):
        return {str(name): plain(value) for name, value in tree.items()}
    if tree is None or jax.tree_util.all_leaves([tree]):
        return tree
    return list(map(plain, jax.tree_util.default_registry.flatten_one_level(tree)[0]))


def exported(
    function: Callable, *args: PyTree, platforms: Sequence[str] | None = None, **kwargs: PyTree
) -> jax.export.Exported:
    """A function as a program of StableHLO, called with plain containers in the place of records.

    ``exported(f, a).call(plain(a))`` is ``plain(f(a))``, here or, from ``serialize()``, in a process that has JAX and
    flatbuffers only:

        program = jax.export.deserialize(bytearray(file.read_bytes()))
        symbols = program.call(params, first, key)["symbols"]

    Sizes may be symbols, made together: ``t, b = jax.export.symbolic_shape("t, b")``, in the shape of a
    `jax.ShapeDtypeStruct`. Any layer, sampler, loss or training step takes a batch of any size; a length of any size
    all that does not cut time into pieces (`seqjax.explain` says so of a recurrence). A sampler draws what its call
    draws, except for batches so large (2¹⁸ numbers for a tick or a few) that the call draws fewer ticks at once.

    Args:
      function: of arrays and trees; options are bound beforehand, ``lambda params, first: sj.sample(…, length=9)``.
      *args: of what types its arguments are, as arrays or `jax.ShapeDtypeStruct`.
      platforms: to run on, such as ``("cpu", "cuda", "tpu")``; the one at hand if None.
      **kwargs: those given by name.

    Returns:
      The program; ``serialize()`` makes bytes of it, ``serialize(vjp_order=1)`` with its gradient.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.lstm(3, 4)
      >>> params, (b,) = cell.init(jax.random.key(0)), jax.export.symbolic_shape("b")
      >>> x = jax.ShapeDtypeStruct((b, 3), jnp.float32)
      >>> start = lambda params, x: cell.initial_state(params, x.shape[:1])
      >>> program = sj.interop.exported(start, params, x)
      >>> jax.tree.map(jnp.shape, program.call(sj.interop.plain(params), jnp.ones((7, 3))))
      {'c': (7, 4), 'h': (7, 4)}
    """
    shapes = jax.eval_shape(lambda *args, **kwargs: (args, kwargs), *args, **kwargs)
    leaves, tree = jax.tree.flatten(shapes)
    order = jax.tree.leaves(plain(tree.unflatten(range(len(leaves)))))
    place = np.argsort(np.array(order, int))

    def flat(*args: PyTree, **kwargs: PyTree) -> PyTree:
        given = jax.tree.leaves((args, kwargs))
        args, kwargs = tree.unflatten([given[i] for i in place])
        return plain(function(*args, **kwargs))

    args, kwargs = plain(shapes)
    try:
        return jax.export.export(jax.jit(flat), platforms=platforms)(*args, **kwargs)
    except Exception as error:
        symbols = {str(size) for leaf in leaves for size in leaf.shape if not symbolic.known(size)}
        if symbols:
            error.add_note(
                f"exported: the function was traced with the symbols {', '.join(sorted(symbols))} for sizes. "
                "What needs the number itself needs one there: put it in the place of the symbol."
            )
        raise


class Programs(NamedTuple):
    """A cell or layer without this package: where a sequence starts, and how it goes on.

    Attributes:
      start: ``([params,] xs[, key=]) -> state`` is the state before inputs of that shape.
      run: ``([params,] state, xs, **extra) -> (state, ys)``.
    """

    start: jax.export.Exported
    run: jax.export.Exported


def export_module(
    module: Cell | Layer,
    params: PyTree,
    x: PyTree,
    path: str | pathlib.Path | None = None,
    *,
    length: Size = "t",
    batch: Size | tuple[Size, ...] = "b",
    takes: Sequence[Extra] = (),
    constants: bool = True,
    platforms: Sequence[str] | None = None,
    vjp_order: int = 0,
) -> Programs:
    """A cell or layer as two programs that need JAX only, and a file of them: state in, state out.

        state = start(xs)      state, ys = run(state, xs)

    so that a stream is run a chunk at a time, as here. The file is a ZIP archive that says how it is used: ``start``,
    ``run`` and ``READ_ME``. States are dictionaries by the names of their fields (`plain`).

    Args:
      module: the cell, of which a tick is run, or layer, of which a chunk is run.
      params: its parameters.
      x: one tick's input of one sequence, as an array or a `jax.ShapeDtypeStruct`.
      path: of the file; None writes none.
      length: ticks a chunk; a letter for any number of them. Nothing to a cell.
      batch: sequences a batch; a letter for any number of them, a tuple for several axes, ``()`` for one sequence.
      takes: what ``run`` is given by name, of ``"mask"``, ``"lengths"``, ``"reset"`` and ``"key"``; a cell's ``start``
        takes the key, a layer's both do.
      constants: whether the parameters are part of the programs; if not they come first, ``plain(params)``.
      platforms: to run on, such as ``("cpu", "cuda", "tpu")``; the one at hand if None.
      vjp_order: how often the programs in the file can be differentiated.

    Returns:
      The programs.

    Raises:
      ModuleNotFoundError: a file is wanted, and flatbuffers, which JAX writes it with, is not installed.
      TypeError: neither a cell nor a layer.
      ValueError: an extra that is none, or that a cell does not take.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 8)), sj.dense(8, 5))
      >>> start, run = sj.interop.export_module(model, model.init(jax.random.key(0)), jnp.int32(0))
      >>> symbols = jnp.zeros((7, 2), jnp.int32)
      >>> state, logits = run.call(start.call(symbols), symbols)
      >>> logits.shape
      (7, 2, 5)
    """
    call = call_of("export_module", module, params, x, length=length, batch=batch, takes=takes)
    start, run = (functools.partial(f, params) if constants else f for f in (call.start, call.run))
    front: tuple = () if constants else (params,)
    programs = Programs(
        exported(start, *front, call.xs, platforms=platforms, **call.at_start),
        exported(run, *front, call.state, call.xs, platforms=platforms, **call.extra),
    )
    if path is not None:
        needed("flatbuffers", extra="export")
        path = pathlib.Path(path)
        types = {} if constants else {"params": params}
        types |= {"state": call.state, "xs": call.xs, **call.at_start, **call.extra}
        page = _page(module, path, types, list(call.at_start), list(call.extra))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("READ_ME", page)
            for name, program in programs._asdict().items():
                file.writestr(name, program.serialize(vjp_order=vjp_order))
    return programs


def read_programs(path: str | pathlib.Path) -> Programs:
    """The programs of a file that `export_module` wrote.

    Example:
      >>> import tempfile, jax, jax.numpy as jnp, seqjax as sj
      >>> cell, path = sj.elman(3, 4), pathlib.Path(tempfile.mkdtemp(), "cell.zip")
      >>> _ = sj.interop.export_module(cell, cell.init(jax.random.key(0)), jnp.ones(3), path)
      >>> start, run = sj.interop.read_programs(path)
      >>> run.call(start.call(jnp.ones((2, 3))), jnp.ones((2, 3)))[1].shape
      (2, 4)
    """
    needed("flatbuffers", extra="export")
    with zipfile.ZipFile(path) as file:
        return Programs(*(jax.export.deserialize(bytearray(file.read(name))) for name in Programs._fields))


PAGE = """{module}

Needs JAX {version}, or one that came out within half a year of it, and flatbuffers:

    import zipfile

    import jax.export

    with zipfile.ZipFile("{path}") as file:
        start, run = (jax.export.deserialize(bytearray(file.read(name))) for name in ("start", "run"))
    state = start.call({start})
    state, ys = run.call({run})

where

{types}
"""


def _page(module: Cell | Layer, path: pathlib.Path, types: dict[str, PyTree], keys: list[str], given: list[str]) -> str:
    """How the archive is used, for whoever finds it; parameters are among the types where they are arguments."""
    front = [name for name in ("params", "state", "xs") if name in types]
    by_name = lambda names: [f"{name}={name}" for name in names]
    shown = lambda leaf: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return PAGE.format(
        module=module,
        version=jax.__version__,
        path=path.name,
        start=", ".join([*(name for name in front if name != "state"), *by_name(keys)]),
        run=", ".join([*front, *by_name(given)]),
        types="\n".join(f"    {name}: {jax.tree.map(shown, plain(tree))}" for name, tree in types.items()),
    )
