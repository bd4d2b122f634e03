"""Runs every notebook from its percent-format source and writes the executed copy beside it.

    python notebooks/execute.py            # all of them
    python notebooks/execute.py 05 07      # those whose names begin so
    python notebooks/execute.py --check    # runs them, writes nothing, and fails where a copy is out of date

A notebook fails where a cell raises (each ends in assertions) or writes to the error stream.
"""

import argparse
import concurrent.futures
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
LONGEST = 600  # seconds a cell
LARGEST = 500_000  # bytes of an executed copy


def execute(source: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, and without anything of this machine."""
    notebook = jupytext.read(source, fmt="py:percent")
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=LONGEST, kernel_name="python3", resources=resources, record_timing=False
        )
        client.extra_arguments = ["--IPKernelApp.log_level=40"]
        client.execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"{source.name}: expected nothing on the error stream, got: {output.text}")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return notebook


def up_to_date(source: Path) -> bool:
    """Whether the executed copy has the source's cells."""
    copy = source.with_suffix(".ipynb")
    cells = jupytext.read(source, fmt="py:percent").cells
    return copy.exists() and [c.source for c in nbformat.read(copy, 4).cells] == [c.source for c in cells]


def run(source: Path, check: bool) -> bool:
    """Executes one notebook, says how it went, and writes the copy unless it is only checked; whether it passed."""
    begin = time.perf_counter()
    try:
        text = nbformat.writes(execute(source)) + "\n"
        problem = "" if len(text.encode()) <= LARGEST else f"larger than {LARGEST:,} bytes"
    except Exception as error:
        text, problem = "", re.sub(r"\x1b\[[0-9;]*m", "", str(error)) or type(error).__name__
    if not problem and check and not up_to_date(source):
        problem = "the executed copy is out of date: run notebooks/execute.py"
    if not problem and not check:
        source.with_suffix(".ipynb").write_text(text, "utf-8")
    seconds, size = time.perf_counter() - begin, len(text) // 1000
    print(f"{source.stem:34s} {seconds:6.1f} s {size:5d} kB  {problem or 'passed'}", flush=True)
    return not problem


def main() -> int:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="what the notebooks' names begin with; all if none is given")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a copy is out of date")
    parser.add_argument("--jobs", type=int, default=1, help="how many run side by side")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # The notebooks' time is spent compiling small programs that run once.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    sources = [s for s in sorted(FOLDER.glob("[0-9][0-9]_*.py")) if s.name.startswith(tuple(options.names) or "")]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        return not all(list(pool.map(lambda source: run(source, options.check), sources)))


if __name__ == "__main__":
    sys.exit(main())
