"""The table of cells: what is made from it, and what the records of its cells promise."""

import functools
import inspect
import pathlib
import pickle
import subprocess
import sys

import jax
import pytest

import seqjax as sj
from seqjax.cells import registry
from seqjax.cells.registry import COMMANDS, REGISTRY

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text("utf-8")
FACTORIES = {f for f in vars(sj.cells).values() if inspect.isfunction(f) and hasattr(f, "__wrapped__")}


def leaves(cell):
    """The number of parameters; only reservoirs, which find eigenvalues on the host, have to be drawn for it."""
    init = cell.init if "echo_state" in repr(cell) else functools.partial(jax.eval_shape, cell.init)
    return sum(p.size for p in jax.tree.leaves(init(jax.random.key(0))))


def test_every_factory_is_registered():
    assert {entry.make for entry in REGISTRY.values()} == FACTORIES
    assert {f.__name__ for f in FACTORIES} <= set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_parameters_are_counted(name):
    entry, d, h = REGISTRY[name], 6, 10
    assert leaves(entry.sized(d, h)) == eval(entry.parameters, registry.letters(entry, d, h))


def test_parameters_of_the_three_at_64_inputs_and_128_units():
    d, h = 64, 128
    assert leaves(sj.elman(d, h)) == 24_704
    assert leaves(sj.gru(d, h, inner_bias=False)) == leaves(sj.gru(d, h, reset="before")) == 74_112
    assert leaves(sj.lstm(d, h)) == 98_816


def test_readme_shows_the_table():
    assert registry.table() in README


@pytest.mark.slow
def test_commands_make_cells_of_two_sizes():
    today = "elman elman-relu irnn pass-through gru lstm peephole-lstm layer-norm-lstm multiplicative-lstm"
    assert set(today.split()) <= set(COMMANDS)
    assert {"projected-lstm", "headwise-gru", "five-equation-lstm"}.isdisjoint(COMMANDS)
    for name, make in COMMANDS.items():
        cell = make(5, 12)
        params = cell.init(jax.random.key(0))
        assert cell.step(params, cell.initial_state(params), jax.numpy.ones(5))[1].shape == (12,), name


@pytest.mark.parametrize("name", REGISTRY)
def test_records_know_their_maker(name):
    entry = REGISTRY[name]
    cell, again = entry.small(), entry.small()
    assert cell == again
    assert hash(cell) == hash(again)
    assert cell != entry.sized(4, 8)
    assert cell.name == entry.make.__name__
    names = {**vars(sj.initializers), **vars(sj.cells), "relu": jax.nn.relu}
    assert eval(repr(cell), names) == cell


def test_keywords_in_any_order_and_at_their_defaults():
    assert sj.lstm(3, 4) == sj.lstm(3, 4, dtype=None, b_init=sj.initializers.lstm_bias, compute_dtype=None)
    assert sj.lstm(3, 4, b_init=None, dtype="float32") == sj.lstm(3, 4, dtype="float32", b_init=None)
    assert repr(sj.lstm(3, 4, compute_dtype=None, w_h_init=sj.initializers.orthogonal(0.5))) == (
        "lstm(3, 4, w_h_init=orthogonal(0.5))"
    )


def test_pickles_are_read_by_a_fresh_process():
    pickled = pickle.dumps({name: entry.small() for name, entry in REGISTRY.items()})
    program = (
        "import pickle, sys; cells = pickle.load(sys.stdin.buffer); from seqjax.cells.registry import REGISTRY; "
        "assert cells == {name: entry.small() for name, entry in REGISTRY.items()}; print(cells['gru_before'])"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, check=True)
    assert done.stdout == b"gru(3, 4, reset='before')\n"


@pytest.mark.parametrize("make", sorted(FACTORIES, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_unknown_keywords(make):
    sizes = next(entry for entry in REGISTRY.values() if entry.make is make).sizes
    with pytest.raises(TypeError, match=rf"{make.__name__}.*'b_initt'"):
        make(*((3, 4) if make is not sj.five_equation_lstm else (4,)), **sizes, b_initt=None)


def test_keywords_are_in_the_signature():
    shown = inspect.signature(sj.gru).parameters
    assert list(shown) == [
        *("input_size", "hidden_size", "reset", "inner_bias"),
        *("w_x_init", "w_h_init", "b_init", "dtype", "compute_dtype"),
        *("activation", "gate_activation"),
    ]
    assert shown["b_init"].default is sj.initializers.zero_bias
    assert "b_init" not in inspect.signature(sj.five_equation_lstm).parameters
    with pytest.raises(TypeError, match=r"five_equation_lstm: expected one of the keywords w_x_init.*, got 'b_init'"):
        sj.five_equation_lstm(4, b_init=None)


def test_files_do_not_hide_functions_of_their_name():
    names = [f.stem for f in pathlib.Path(sj.cells.__file__).parent.glob("[a-z]*.py")]
    program = "".join(f"import seqjax.cells.{name}\n" for name in names)
    program += "import seqjax as sj\nfor name in sj.cells.__all__: assert callable(getattr(sj.cells, name)), name\n"
    subprocess.run([sys.executable, "-c", program + "sj.cells.lstm(3, 4)"], check=True)
