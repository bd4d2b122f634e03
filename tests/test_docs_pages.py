"""The pages with examples, for those who come from other frameworks and on parallel recurrences, do what they say."""

import contextlib
import importlib.util
import io
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest
from marks import quick

import seqjax as sj
from benchmarks import headline
from seqjax.engines import platforms

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGES = {path.stem.removeprefix("coming_from_"): path for path in sorted(DOCS.glob("coming_from_*.md"))}
PARALLEL, DEVICES = DOCS / "parallel.md", DOCS / "devices.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("framework", quick(PAGES, "equinox"))
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_the_examples_of_a_page_run_and_print_what_it_shows(framework, monkeypatch):
    """Its blocks one after the other, under the settings that a reader has."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert_runs(PAGES[framework])


def assert_runs(page):
    names, printed, shown = {}, io.StringIO(), ""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), contextlib.redirect_stdout(printed):
        for language, block in BLOCK.findall(page.read_text("utf-8")):
            if language == "python":
                exec(compile(block, str(page), "exec"), names)
            else:
                shown += block
    assert shown
    assert printed.getvalue() == shown


@pytest.mark.slow
def test_the_examples_on_parallel_recurrences_run_and_print_what_is_shown():
    assert_runs(PARALLEL)
    assert "(docs/parallel.md)" in (DOCS.parent / "README.md").read_text("utf-8")


def test_the_page_on_devices_prints_what_it_shows_and_tells_the_rules():
    assert_runs(DEVICES)
    fields = {
        "bytes of stacked values a chunk": "chunk_bytes",
        "where no gradient is taken": "forward_chunk_bytes",
        "bytes of a stack on which threads share a forward pass's work, at a loss below twice as many": "shared",
        "least ticks a chunk; on a CPU fewer with a gradient, where weights are small beside a chunk": "least_chunk",
        "chunks that a long time is cut into at least, of 64 ticks or more": "pieces",
        "bytes a tick that another loop costs": "loop",
        "bytes a tick that a product saves outside of a loop": "product",
        "bytes a tick that a sum saves there": "sum",
        "bytes of weights that are read again at no cost to speak of": "near",
        "rows of the smallest matrix run by chunks": "least_matrix",
        "bytes of recurrent weights up to which commands spread a batch": "spread",
    }
    found = {
        first.strip("| "): [part.strip("| ") for part in rest]
        for first, *rest in rows("| | cpu | gpu | tpu |", DEVICES)
    }
    assert found.keys() == fields.keys()
    for what, field in fields.items():
        assert found[what] == [f"{getattr(platforms.KNOWN[name], field):,}" for name in ("cpu", "gpu", "tpu")], what
    assert "(docs/devices.md)" in (DOCS.parent / "README.md").read_text("utf-8")


def test_the_examples_on_clusters_run_and_print_what_is_shown():
    assert_runs(DOCS / "cluster.md")
    assert "(docs/cluster.md)" in (DOCS.parent / "README.md").read_text("utf-8")


def rows(heading, page=PARALLEL):
    """Of the table under a heading's columns, cell by cell."""
    table = page.read_text("utf-8").split(heading, 1)[1].split("\n\n", 1)[0]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def made(call):
    """A cell of 16 units by its name and options as the page has them."""
    name, _, options = call.partition("(")
    return eval(f"make(16, 16, {options or ')'}", {"make": getattr(sj.cells, name)})


def by_call(heading):
    return {first.strip("`| "): [part.strip("| ") for part in rest] for first, *rest in rows(heading)}


CELLS = by_call("| cell of `sj.cells` | factor of the state | its loops run |")
KEPT = by_call('| cell | `engine="scan"` | `"all"` | `"carries"` | `"sqrt"` |')


@pytest.mark.parametrize("call", quick(CELLS, "rglru", "mlstm", "delta_rule(gated=True)", "m2rnn"))
def test_the_table_says_how_each_cell_runs(call):
    cell = made(call)
    params = cell.init(jax.random.key(0))
    engine = "linear" if "linear" in CELLS[call][-1] else "auto"
    loops = sj.explain(cell, params, cell.initial_state(params, (2,)), jnp.ones((128, 2, 16)), engine=engine).loops
    assert "; ".join(loop.way or "tick by tick" for loop in loops) == CELLS[call][-1]


@pytest.mark.parametrize("call", quick(KEPT, "mingru"))
def test_the_table_says_what_a_gradient_keeps(call):
    """Leaves of the backward pass, counted without running it; under the settings that a reader has."""
    length, batch = 4096, 64
    hows = ("scan", "all"), ("linear", "all"), ("linear", "carries"), ("linear", "sqrt")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        cell, xs = made(call), jnp.ones((length, batch, 16))
        params = jax.eval_shape(cell.init, jax.random.key(0))

        def kept(params, engine, memory):
            state = cell.initial_state(params, (batch,))
            run = lambda params: jnp.sum(sj.unroll(cell, params, state, xs, engine=engine, memory=memory)[1])
            return jax.vjp(run, params)[1]

        for count, how in zip(KEPT[call], hows, strict=True):
            leaves = jax.tree.leaves(jax.eval_shape(lambda p, how=how: kept(p, *how), params))
            numbers = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / 4 / length / batch
            assert abs(numbers - int(count)) < 0.01 * numbers + 0.5, (how, numbers)


def test_there_is_a_page_for_each_and_the_readme_says_so():
    assert {"equinox", "flax", "keras", "torch"} == set(PAGES)
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    assert all(f"(docs/{path.name})" in readme for path in PAGES.values())
    assert all(len(path.read_text("utf-8").splitlines()) <= 140 for path in PAGES.values())


@pytest.mark.parametrize("framework", headline.BESIDE)
def test_a_page_tells_what_was_measured_beside_its_framework(framework):
    """The table's figures are those of the results by tests/test_headline.py; here, that there is one."""
    ((_, part, table, _),) = headline.PART.findall(PAGES[framework].read_text("utf-8"))
    assert part == framework
    assert {"LSTM, training, all cores each", "GRU, forward, all cores each"} <= set(
        re.findall(r"^\| (\w.*?) \|", table, re.M)
    )
