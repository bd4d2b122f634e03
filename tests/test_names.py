"""The public names: six groups and the rooms, what each name is, where old ones are found, and who lacks an example."""

import ast
import inspect
import operator
import pathlib
import re
import subprocess
import sys
import types

import pytest

import seqjax as sj

ROOT = pathlib.Path(__file__).parent.parent

ROOMS = {
    "automata", "cells", "curvature", "decoding", "gradients", "gradients.figures", "gradients.lessons", "hmm",
    "hmm.crf", "initializers", "interop", "interop.equinox", "interop.flax", "interop.haiku", "interop.keras",
    "interop.onnx", "interop.torch", "layers", "losses", "masks", "models", "products", "reservoir", "tasks",
    "tasks.applications", "tasks.frames", "training", "transforms",
}  # fmt: skip

# The number may only fall: a new function comes with an example, and whoever writes a missing one lowers it.
FUNCTIONS_WITHOUT_EXAMPLE = 146

ONCE_AT_THE_TOP = [
    "AttendParams", "AttendState", "BidirectionalParams", "BidirectionalState", "CarouselParams", "ConvParams",
    "ConvState", "CoupledLSTMParams", "Decoded", "DenseParams", "EchoStateParams", "ElmanParams", "EmbeddingParams",
    "FirstBiasParams", "FirstBiasState", "FiveEquationLSTMParams", "GRUParams", "HeadwiseGRUParams", "HeadwiseParams",
    "Hypotheses", "LSTM1997Params", "LSTMParams", "LSTMState", "LayerNormElmanParams", "LayerNormGRUParams",
    "LayerNormLSTMParams", "LayerNormParams", "LearnedInitialStateParams", "Memory", "MultiplicativeParams",
    "PassThroughParams", "PeepholeLSTMParams", "ProjectedLSTMParams", "ResetLSTMParams", "SLSTMParams", "SLSTMState",
    "SparseEchoStateParams", "TiedParams", "WeightNormParams", "attend", "dot", "first_bias", "norm_stabiliser",
    "perturbed", "recurrent_input", "swap_update_gate", "with_states", "zero_perturbation",
]  # fmt: skip

ONCE_IN_GRADIENTS = [
    "Attractors", "Barred", "Basins", "Descent", "HessianFreeInfo", "HessianFreeState", "Latch", "Norms", "Point",
    "Questions", "RandomProducts", "Recall", "Remedy", "Trial", "attractors", "basins", "bifurcation", "cliff_descent",
    "cliff_loss", "depth_stretch", "descend", "elman_bptt", "gauss_newton_product", "hessian_free",
    "hessian_free_step", "latch_probability", "linear_bptt", "logistic_map", "lstm_bptt", "map_cell", "norms_beyond",
    "period", "random_products", "remedies", "scalar_chain", "train_latch", "train_recall", "try_remedy",
]  # fmt: skip


def room(name):
    return operator.attrgetter(name)(sj)


def groups():
    """The lists that make up ``__all__``, in order: six groups and the rooms."""
    tree = ast.parse(pathlib.Path(sj.__file__).read_text("utf-8"))
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AugAssign) and ast.unparse(node).startswith("__all__ ")
    ]
    return [ast.literal_eval(names) for names in lists]


def test_the_readme_lists_the_names_group_by_group():
    section = (ROOT / "README.md").read_text("utf-8").split("## Names\n")[1].split("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", row) for row in section.splitlines() if "`" in row and row.startswith("|")]
    assert [sorted(row) for row in rows] == [sorted(group) for group in groups()]
    assert len(rows) == 6 + 1
    assert len(section.splitlines()) <= 24  # one screen


def test_the_top_is_what_one_types_first():
    assert len(sj.__all__) == len(set(sj.__all__)) <= 107
    assert set(dir(sj)) == {*sj.__all__, "__version__"}
    assert {name for name in sj.__all__ if isinstance(getattr(sj, name), types.ModuleType)} == {
        name for name in ROOMS if "." not in name
    }


def test_every_name_is_documented():
    assert [name for name in sj.__all__ if not inspect.getdoc(getattr(sj, name))] == []


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_room_lists_its_names(name):
    listed = room(name).__all__
    assert len(listed) == len(set(listed))
    for each in listed:
        assert isinstance(getattr(room(name), each), types.ModuleType) == (f"{name}.{each}" in ROOMS), each
    assert room(name).__doc__


def test_a_name_stays_its_object_whatever_is_imported():
    """A file of the same name never takes its place, in whatever order files are imported."""
    script = f"""
import importlib, operator, pkgutil, sys
import seqjax as sj
rooms = [sj, *(operator.attrgetter(room)(sj) for room in {sorted(ROOMS)})]
listed = lambda room: getattr(room, "__all__", [])
before = {{(room.__name__, name): id(getattr(room, name)) for room in rooms for name in listed(room)}}
for file in pkgutil.walk_packages(sj.__path__, "seqjax."):
    if not file.name.endswith("__main__"):
        try:
            importlib.import_module(file.name)
        except ModuleNotFoundError as missing:
            assert file.name.startswith("seqjax.interop.") and "pip install" in str(missing), missing
print(*(f"{{room.__name__}}.{{name}}" for room in rooms for name in listed(room)
        if id(getattr(room, name)) != before[room.__name__, name]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_what_left_the_top_is_still_reached_there():
    for name in ONCE_AT_THE_TOP:
        assert name not in sj.__all__
        assert getattr(sj, name).__name__ == name


def test_what_left_the_top_is_listed_in_a_room():
    listed = {name: found for found in map(room, ROOMS) for name in getattr(found, "__all__", [])}
    assert {name for name in ONCE_AT_THE_TOP if getattr(listed.get(name), name, None) is not getattr(sj, name)} == set()


def test_what_left_the_gradients_is_still_reached_there():
    for name in ONCE_IN_GRADIENTS:
        assert name not in sj.gradients.__all__
        assert getattr(sj.gradients, name) is getattr(sj.gradients.lessons, name, getattr(sj.curvature, name, None))


@pytest.mark.parametrize("module", [sj, sj.gradients], ids=lambda module: module.__name__)
def test_a_name_that_never_was(module):
    with pytest.raises(AttributeError, match=rf"^module '{module.__name__}' has no attribute 'lsmt'$"):
        _ = module.lsmt


def test_more_functions_have_an_example():
    """Of the public names that are functions: how many have no doctest."""
    named = {
        f"{found.__module__}.{found.__name__}": found
        for module in [sj, *map(room, ROOMS)]
        for found in (getattr(module, name) for name in getattr(module, "__all__", []))
        if inspect.isfunction(found)
    }
    without = sorted(name for name, found in named.items() if ">>>" not in (inspect.getdoc(found) or ""))
    assert len(without) <= FUNCTIONS_WITHOUT_EXAMPLE, f"a function without an example is new, one of {without}"
    assert len(without) == FUNCTIONS_WITHOUT_EXAMPLE, f"fewer lack an example: write {len(without)} here"
