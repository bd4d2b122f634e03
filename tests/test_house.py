"""The house itself: which room touches what may move, how long a file is, and that every room has its page."""

import ast
import pathlib

import pytest

import seqjax

ROOT = pathlib.Path(seqjax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MOVING = ("jax.extend", "jax.interpreters", "jax._src")
EXPERIMENTAL = "jax.experimental"


def imported(file):
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(file):
    return str(file.relative_to(ROOT))


def users(prefixes):
    begins = lambda module: any(module == p or module.startswith(f"{p}.") for p in prefixes)
    return {name(file) for file in FILES if any(map(begins, imported(file)))}


def test_one_room_touches_interfaces_that_may_move():
    found = users(MOVING)
    assert found, "nothing found: has the room moved?"
    assert {file.rpartition("/")[0] for file in found} == {"engines/equations"}


def test_what_is_experimental_is_loaded_where_it_is_used():
    """cuDNN's binding inside a function; kernels in a room of their own, which only their engine imports."""
    kernels = {f"engines/pallas/{file}.py" for file in ("mosaic", "places", "triton/alone", "triton/placement")}
    assert users((EXPERIMENTAL,)) == {"engines/cudnn.py", *kernels}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_holds_one_idea(file):
    assert len(file.read_text("utf-8").splitlines()) <= 300


def test_shapes_are_asked_of_numpy():
    """NumPy reads ``x.shape`` off anything that has one; `jnp.shape` is one of the functions that exporters replace."""
    asked = {
        f"{name(file)}:{node.lineno}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("shape", "ndim", "size")
        and ast.unparse(node.value) in ("jnp", "jax.numpy")
    }
    assert not asked


@pytest.mark.parametrize("file", [file for file in FILES if file.name == "__init__.py"], ids=name)
def test_every_room_has_its_page(file):
    """More than a title: what is in the room, in order of reading."""
    page = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    assert len(page.splitlines()) >= 5
