"""The pages for those who come from other frameworks do what they say."""

import contextlib
import importlib.util
import io
import pathlib
import re

import jax
import pytest
from marks import quick

from benchmarks import headline

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGES = {path.stem.removeprefix("coming_from_"): path for path in sorted(DOCS.glob("coming_from_*.md"))}
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("framework", quick(PAGES, "equinox"))
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_the_examples_of_a_page_run_and_print_what_it_shows(framework, monkeypatch):
    """Its blocks one after the other, under the settings that a reader has."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    page = PAGES[framework].read_text("utf-8")
    names, printed, shown = {}, io.StringIO(), ""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), contextlib.redirect_stdout(printed):
        for language, block in BLOCK.findall(page):
            if language == "python":
                exec(compile(block, str(PAGES[framework]), "exec"), names)
            else:
                shown += block
    assert printed.getvalue() == shown


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
