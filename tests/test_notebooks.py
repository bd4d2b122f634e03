"""The executed notebooks as they are kept: complete, small, and without anything of the machine they ran on."""

import json
import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_copy_is_executed_and_clean(source):
    path = source.with_suffix(".ipynb")
    text = path.read_text("utf-8")
    assert len(text) < 500_000
    assert not re.search(r"/(tmp|root|home|usr|work|opt)/|site-packages|\.venv", text)
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert "assert" in "".join(code[-1]["source"])
    # Every figure has a caption in the text that follows.
    assert "**Figure 1.**" in "".join(
        line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"]
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_copy_holds_its_source(source):
    cells, lines = [], []
    for line in source.read_text("utf-8").splitlines():
        if line.startswith("# %%"):
            lines = []
            cells.append((line == "# %% [markdown]", lines))
        else:
            lines.append(line)
    expected = [
        "\n".join(re.sub(r"^# ?", "", line) if markdown or line.startswith("# %matplotlib") else line for line in lines)
        for markdown, lines in cells
    ]
    copies = ["".join(cell["source"]) for cell in json.loads(source.with_suffix(".ipynb").read_text("utf-8"))["cells"]]
    assert [copy.strip() for copy in copies] == [text.strip() for text in expected]


def test_there_is_no_copy_without_a_source():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SOURCES}
    assert len(SOURCES) >= 14
