"""Compiled programs of commands: found by the next start, and no harm whatever happens to them."""

import json
import os
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import jaxlib
import pytest

from seqjax.recipes.running import cache

COUNTED = """
import collections, json, sys, jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.rpartition("/")[-1]]))
"""
SMALL = (
    COUNTED
    + """
from seqjax.recipes.running import cache
cache.use()
print(float(jax.jit(lambda x: x @ x)(jax.numpy.ones(3))))
print(json.dumps(counts))
"""
)
COMMAND = (
    COUNTED
    + """
from seqjax.__main__ import main
status = main()
print(json.dumps(counts))
sys.exit(status)
"""
)


def started(program, home, *words, **settings):
    """What a fresh process with that cache folder counts of hits and misses, and what it says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    path = os.pathsep.join(map(os.path.abspath, ["", *sys.path]))
    environment = clean | {"XDG_CACHE_HOME": str(home), "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"} | settings
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    counts = json.loads(last)
    return counts.get("cache_hits", 0), counts.get("cache_misses", 0), said, done.stderr


def folder(home):
    return home / "seqjax" / f"programs-{cache.machine()}"


def programs(home):
    return sorted(folder(home).glob("*-cache"))


@pytest.mark.parametrize("starts", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_another_start_finds_programs_and_mends_what_is_torn(tmp_path, starts):
    """Half a program, as a full disk leaves it, would be warned about by every start and never be replaced."""
    hits, misses, said, error = started(SMALL, tmp_path)
    found = programs(tmp_path)
    assert (hits, misses, said, error) == (0, len(found), ["3.0"], "")
    assert folder(tmp_path).stat().st_mode & 0o777 == 0o700
    (torn,) = (path for path in found if path.name.startswith("jit__lambda"))
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    assert started(SMALL, tmp_path) == (len(found) - 1, 1, said, "")
    if starts > 2:
        assert started(SMALL, tmp_path) == (len(found), 0, said, "")


@pytest.mark.slow
def test_what_xla_refuses_ends_the_cache_of_this_version(tmp_path):
    started(SMALL, tmp_path)
    for path in programs(tmp_path):
        path.write_bytes(zlib.compress(b"0000 no program"))
    _, _, said, error = started(SMALL, tmp_path)
    assert said == ["3.0"]
    assert "Warning" not in error
    assert (folder(tmp_path) / cache.REFUSED).read_text() == jaxlib.__version__
    assert started(SMALL, tmp_path) == (0, 0, said, "")
    (folder(tmp_path) / cache.REFUSED).write_text("0.1")
    assert started(SMALL, tmp_path)[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"XDG_CACHE_HOME": "/proc/none"}, {"JAX_ENABLE_COMPILATION_CACHE": "false"}])
def test_no_folder_no_cache(tmp_path, settings):
    assert started(SMALL, tmp_path, **settings) == (0, 0, ["3.0"], "")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_that_jax_is_told_of_is_used_instead(tmp_path):
    own = tmp_path / "own"
    assert started(SMALL, tmp_path, JAX_COMPILATION_CACHE_DIR=str(own))[1] == len(list(own.glob("*-cache"))) > 0
    assert list(tmp_path.iterdir()) == [own]


@pytest.mark.slow
def test_a_command_started_again_compiles_nothing_and_computes_the_same(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be\n" * 60, "utf-8")
    sizes = ["--steps=3", "--batch-size=2", "--window=8", "--hidden-size=4", "--length=9"]
    words = ["charlm", "--text=text.txt", *sizes]
    found = {name: started(COMMAND, tmp_path, *words, f"--run-dir={name}") for name in ("first", "second")}
    (hits, misses, _, _), (again, missed, _, error) = found["first"], found["second"]
    assert hits == 0
    assert misses > 20
    assert (again, missed) == (misses, 0)
    assert "Warning" not in error
    clock = {"seconds", "characters_per_second"}
    lines = {
        name: [
            {key: value for key, value in json.loads(line).items() if key not in clock}
            for line in (tmp_path / name / "metrics.jsonl").read_text("utf-8").splitlines()
        ]
        for name in found
    }
    assert lines["first"] == lines["second"]
    assert sum("loss" in line for line in lines["first"]) == 3


def test_the_oldest_programs_are_removed(tmp_path):
    now = time.time()
    for age, name in enumerate("abcd"):
        (tmp_path / f"{name}-cache").write_bytes(bytes(10))
        os.utime(tmp_path / f"{name}-cache", (now - age, now - age))
    (tmp_path / "refused").write_bytes(bytes(99))
    cache.trim(tmp_path, limit=25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-cache", "b-cache", "refused"]


def test_other_warnings_are_shown(tmp_path):
    with warnings.catch_warnings():
        said = []
        warnings.showwarning = lambda message, *rest, **more: said.append(str(message))
        (tmp_path / "jit_f-1a-cache").write_bytes(b"")
        (tmp_path / "jit_g-1a-cache").write_bytes(b"")
        warnings.simplefilter("always")
        cache.listen(tmp_path)
        warnings.warn("something else", stacklevel=1)
        entry = (
            "Error writing persistent compilation cache entry for 'jit_f': OSError: [Errno 28] No space left on device"
        )
        warnings.warn(entry, stacklevel=1)
    assert said == ["something else"]
    assert [path.name for path in tmp_path.iterdir()] == ["jit_g-1a-cache"]


def test_each_system_has_its_place(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    places = {
        ("linux", ""): "/home/ann/.cache/seqjax",
        ("linux", "relative"): "/home/ann/.cache/seqjax",
        ("linux", "/scratch"): "/scratch/seqjax",
        ("darwin", ""): "/home/ann/Library/Caches/seqjax",
    }
    for (system, chosen), place in places.items():
        assert cache.folder_of({"XDG_CACHE_HOME": chosen}, system).as_posix() == place
    assert cache.folder_of({"LOCALAPPDATA": "/local"}, "win32").as_posix() == "/local/seqjax"


def test_processors_with_other_instructions_have_other_folders(monkeypatch):
    told = "processor : 0\nmodel name : A\nflags : sse avx\n\nprocessor : 1\nmodel name : A\nflags : sse avx\n"
    names = []
    for text in (told, told.replace("avx", "avx512f"), told.replace("processor : 1", "cpu MHz : 9")):
        monkeypatch.setattr(Path, "read_text", lambda path, encoding, text=text: text)
        names.append(cache.machine())
    assert names[0] != names[1]
    assert names[0] == names[2]
