"""The README's Python does what the README says."""

import pathlib
import re
import subprocess
import sys

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_example_prints_what_the_readme_shows():
    example, (shown,) = blocks("python")[0], blocks("text")
    assert len([line for line in example.splitlines() if line.strip()]) <= 20
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == shown


def test_the_other_examples_run():
    imports = "".join(line + "\n" for line in blocks("python")[0].splitlines() if line.startswith("import "))
    for example in blocks("python")[1:]:
        done = subprocess.run([sys.executable, "-c", imports + example], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "engine split" in done.stdout


def test_the_two_commands_are_one_line_each():
    run, test = blocks("sh")[:2]
    assert run.count("\n") == test.count("\n") == 1
    assert run.startswith("python3 -m venv .venv && ")
    assert run.endswith(" -m seqjax charlm\n")
    assert "'.[test]' && " in test
    assert " -m pytest " in test
