"""A run over several processes, each with devices of its own, on one machine or on many.

Every process runs the whole command: it reads the same data, holds the same parameters and computes its share of each
batch. What is written is the first one's, but checkpoints, which all write together. So that the rest of a recipe need
not know, another process than the first is quiet and has a folder of its own, for a while, in the place of the run's.
"""

import atexit
import dataclasses
import functools
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqjax import leaving
from seqjax.base import PyTree
from seqjax.devices import in_turn, mesh_of, shares_of
from seqjax.recipes.running.options import RunOptions
from seqjax.stepping import Step

_folders: dict[Path, Path] = {}  # a process's own folder of a run: the run's


def several() -> bool:
    """Whether there are other processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that tells of the run."""
    return not several() or jax.process_index() == 0


def by() -> str:
    """What stands in front of a complaint of another process than the first."""
    return "" if first() else f"process {jax.process_index()}: "


def placed(options: RunOptions, make: Callable[[], Path]) -> RunOptions:
    """The options, with a folder: the run's for the first process, one of its own for another, made like the run's.

    Args:
      options: of this start.
      make: of a run whose folder is not named.
    """
    if not several():
        return options
    if first():
        asked = options.resume or options.run_dir or str(make())
        _agreed_text(str(Path(asked).absolute()))
        wait("folders")  # the others read what this one will change
        return options if options.resume else dataclasses.replace(options, run_dir=asked)
    folder = Path(_agreed_text(""))
    own = Path(tempfile.mkdtemp(prefix="seqjax-")) / folder.name
    atexit.register(_tidy)
    leaving.last.append(_tidy)
    _folders[own] = folder
    if options.resume is not None:
        own.mkdir()
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith("."):  # which are the first process's, as its lock is
                shutil.copy(path, own)
    wait("folders")
    changed: dict[str, Any] = {"resume" if options.resume else "run_dir": str(own)}
    return dataclasses.replace(options, **changed)


def leave() -> None:
    """Takes leave of the other processes, of which none counts as lost then; all of them have to call."""
    _tidy()
    if several():
        jax.distributed.shutdown()


def _tidy() -> None:
    for own in _folders:
        shutil.rmtree(own.parent, ignore_errors=True)


def common(folder: Path) -> Path:
    """The folder that all processes mean by one of this process's own."""
    for own, run in _folders.items():
        if folder.is_relative_to(own):
            return run / folder.relative_to(own)
    return folder


def devices(count: int | None) -> int | list[jax.Device] | None:
    """So many devices of each process, for `seqjax.train_step`."""
    if not several():
        return count
    each = (count or jax.process_count()) // jax.process_count()
    return [device for own in _devices_by_process() for device in own[:each]]


def agreed(numbers: dict[str, float]) -> dict[str, float]:
    """The first process's numbers, for all."""
    if not several():
        return numbers
    bits = np.array(list(numbers.values()), np.float64).view(np.uint32)  # JAX would round them to 32
    return dict(zip(numbers, _of_all(bits)[0].view(np.float64).tolist()))


def any_asks(*asked: bool) -> tuple[bool, ...]:
    """Of each question whether a process says yes; all of them have to call."""
    if not several():
        return asked
    return tuple(np.any(_of_all(np.array(asked)), axis=0).tolist())


def wait(what: str) -> None:
    """Until all processes have come here.

    Raises:
      RuntimeError: another one waits elsewhere.
    """
    if several() and len(set(_of_all(np.array(zlib.crc32(what.encode()), np.uint32)).tolist())) > 1:
        raise RuntimeError(f"expected all processes to wait at the same place, got one elsewhere than at the {what}.")


def shared(tree: PyTree) -> PyTree:
    """The tree as arrays of all processes; those of one process, equal in all of them, become whole everywhere."""
    if not several():
        return tree
    everywhere = NamedSharding(_mesh(), PartitionSpec())
    mine = lambda x: not isinstance(x, jax.Array) or x.is_fully_addressable
    return jax.tree.map(lambda x: _put(x, everywhere) if mine(x) else x, tree)


def spread(given: tuple[PyTree, PyTree, PyTree], step: Step) -> tuple[PyTree, PyTree, PyTree]:
    """Arguments of a training step, which every process has, as arrays of which each holds its part."""
    if not several():
        return given
    mesh = step.mesh
    assert mesh is not None

    def leaf(spec: PartitionSpec, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: _put(x, NamedSharding(mesh, spec)), tree)

    shares = tuple(shares_of(given[2], step.in_front))
    return jax.tree.map(leaf, shares, given, is_leaf=lambda node: isinstance(node, PartitionSpec))


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array):
        if x.sharding == sharding:
            return x
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(_put(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    numbers = np.asarray(whole(x))
    return jax.make_array_from_callback(numbers.shape, sharding, lambda at: numbers[at])


def whole(tree: PyTree) -> PyTree:
    """Arrays of all processes, whole, as arrays of this one."""

    def leaf(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        if x.is_fully_replicated:
            return x.addressable_data(0)
        assert isinstance(x.sharding, NamedSharding)
        mesh = x.sharding.mesh
        assert isinstance(mesh, Mesh)
        return _everywhere(mesh, x)

    return jax.tree.map(leaf, tree)


def on_one(tree: PyTree) -> PyTree:
    """Arrays on this process's first device only, for what is not spread."""
    return jax.device_put(whole(tree), jax.local_devices()[0])


def _of_all(mine: np.ndarray) -> np.ndarray:
    """A row of each process."""
    mesh = Mesh(np.array([own[0] for own in _devices_by_process()]), ("process",))
    rows = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("process")), mine[None])
    return np.asarray(_everywhere(mesh, rows))


def _everywhere(mesh: Mesh, x: jax.Array) -> jax.Array:
    """All of an array that is spread over a mesh, on this process."""
    (found,) = in_turn(mesh, _gather(NamedSharding(mesh, PartitionSpec())), (x,))
    return found.addressable_data(0)


@functools.cache
def _gather(everywhere: NamedSharding) -> Any:
    return jax.jit(lambda x: (x,), out_shardings=everywhere)


def _devices_by_process() -> list[list[jax.Device]]:
    found: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        found.setdefault(device.process_index, []).append(device)
    return [found[index] for index in sorted(found)]


def _mesh() -> Mesh:
    mesh = mesh_of(jax.devices())
    assert mesh is not None
    return mesh


def _agreed_text(text: str) -> str:
    room = np.zeros(4096, np.uint8)
    letters = np.frombuffer(text.encode(), np.uint8)
    room[: len(letters)] = letters
    return _of_all(room)[0].tobytes().rstrip(b"\0").decode()
