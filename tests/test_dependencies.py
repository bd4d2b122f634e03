"""What is imported is declared, what is declared is used, and `import seqjax` loads little."""

import ast
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Where the name that is imported is not the distribution's.
IMPORTED_AS = {"orbax-checkpoint": "orbax", "dm-haiku": "haiku"}
# Run, not imported; or plugins.
TOOLS = {"import-linter", "ipykernel", "jupytext", "mypy", "pre-commit", "pytest-xdist", "ruff", "seqjax"}


def declared(extra=""):
    """The modules of the core's dependencies, or of an extra's."""
    listed = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    names = {re.match(r"[\w-]+", each)[0] for each in listed} - TOOLS
    return {IMPORTED_AS.get(name, name) for name in names}


def imports(folder):
    """``{file: (imported as the file is loaded, imported inside functions)}`` of one folder, third parties only."""
    own = {"seqjax", "tests", "benchmarks", *sys.stdlib_module_names}
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        }
        found = (set(), set())
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                names = [node.args[0].value]
            found[id(node) in inside].update({name.split(".")[0] for name in names} - own)
        yield path.relative_to(ROOT), found


def test_what_is_imported_is_declared():
    """The core loads its own dependencies only; a function may ask for those of an extra, a recipe for its own."""
    core, recipes = declared(), declared("recipes")
    anything = core.union(*map(declared, PROJECT["optional-dependencies"]))
    for path, (loaded, later) in imports("seqjax"):
        front = "recipes" in path.parts or path.name == "__main__.py"
        assert loaded <= (core | recipes if front else core), path
        assert later <= anything, path


def test_what_is_declared_is_used():
    """The core's by the core, the recipes' by the package, the rest by tests, benchmarks and notebooks."""
    used = {
        folder: [(path, loaded | later) for path, (loaded, later) in imports(folder)]
        for folder in ("seqjax", "tests", "benchmarks", "notebooks")
    }
    package = set().union(*(found for _, found in used["seqjax"]))
    core = set().union(*(found for path, found in used["seqjax"] if "recipes" not in path.parts))
    anywhere = set().union(*(found for files in used.values() for _, found in files))
    assert declared() <= core
    assert declared("recipes") <= package
    for extra in PROJECT["optional-dependencies"]:
        assert declared(extra) <= anywhere, extra


def test_nothing_is_declared_twice():
    assert not declared() & declared("recipes")
    assert not declared("recipes") & declared("test")


@pytest.fixture(scope="module")
def loaded():
    """The modules that `import seqjax` loads after its great dependencies."""
    script = (
        "import json, sys, jax, optax, chex; before = set(sys.modules); import seqjax;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_loads_nothing_undeclared(loaded):
    known = {"seqjax", *declared(), *sys.stdlib_module_names}
    assert {name for name in loaded if name.split(".")[0] not in known and not name.startswith("_")} == set()


def test_importing_loads_no_part_of_jax_that_an_engine_may_want(loaded):
    assert [name for name in loaded if re.match(r"jax\.experimental\.(pallas|rnn)$", name)] == []
