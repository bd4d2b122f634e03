"""What a file claims to need is told before it is allocated, and what does not fit in memory is told in words."""

import gzip
import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import tasks
from seqjax.__main__ import main
from seqjax.recipes import charlm, score
from seqjax.recipes.running import checkpoints
from seqjax.recipes.running.run import Run
from seqjax.room import NoRoom
from seqjax.tasks.archives import at_most
from seqjax.tasks.matlab import read_variables


def refused(read, path, match, allowed=20e6):
    """The complaint, and that it came before more than a little was allocated."""
    tracemalloc.start()
    with pytest.raises(ValueError, match=match):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < allowed, f"{peak:,}"


def zipped(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", content)
    return path


def test_archives_that_go_on(tmp_path):
    """More than the limit and than four times the file; `at_most` moves the limit."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a" * 10**7))
    zipped(tmp_path / "a.zip", b"a" * 10**7)
    with at_most(3e6):
        match = r"a\.gz: expected a file of [\d,]+ bytes to unpack to at most 3,000,000, got one that goes on\. If you"
        refused(tasks.read_text, tmp_path / "a.gz", match)
        match = r"a\.zip: expected .* at most 3,000,000, got one that says 10,000,000\. If you trust it, ra"
        refused(tasks.read_text, tmp_path / "a.zip", match, 3e6)
    with at_most(1e7):
        assert len(tasks.read_text(tmp_path / "a.gz")) == len(tasks.read_text(tmp_path / "a.zip")) == 10**7
    rest = np.random.default_rng(0).integers(32, 127, 3000).astype(np.uint8).tobytes()
    (tmp_path / "dense.gz").write_bytes(gzip.compress(rest))
    with at_most(10):
        assert tasks.read_text(tmp_path / "dense.gz").encode() == rest  # less than four times


def test_a_zip_that_lies_about_its_size(tmp_path):
    raw = bytearray(zipped(tmp_path / "a.zip", b"a" * 10**6).read_bytes())
    for at in (22, raw.index(b"PK\1\2") + 24):
        raw[at : at + 4] = struct.pack("<I", 5)
    (tmp_path / "a.zip").write_bytes(raw)
    refused(tasks.read_text, tmp_path / "a.zip", r"a\.zip: expected a whole archive, got one that does not unpack", 5e6)


@pytest.mark.slow
def test_a_gigabyte_is_the_limit(tmp_path):
    with gzip.open(tmp_path / "a.gz", "wb", compresslevel=1) as file:
        for _ in range(1001):
            file.write(bytes(10**6))
    refused(tasks.read_text, tmp_path / "a.gz", r"at most 1,000,000,000, got one that goes on\. If", 2.5e9)


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, *rest, name=b"traindata"):
    parts = [element(6, struct.pack("<II", kind, 0)), element(5, struct.pack(f"<{len(shape)}i", *shape))]
    return element(14, b"".join([*parts, element(1, name), *rest]))


def mat(*elements):
    return b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def packed(content):
    content = zlib.compress(content)
    return struct.pack("<II", 15, len(content)) + content


NUMBERS = element(9, np.eye(2).tobytes())
CLAIMS = {
    "cells": (mat(matrix(1, (1, 10**9))), r"1,000,000,000 cells in 0 bytes"),
    "cells in cells": (mat(matrix(1, (1, 1), matrix(1, (30000, 30000), name=b""))), r"900,000,000 cells in 0 bytes"),
    "numbers": (mat(matrix(6, (50000, 50000), NUMBERS)), r"array of shape \(50000, 50000\) with 4 numbers"),
    "overflow": (mat(matrix(6, (2**31 - 1, 2**31 - 1, 2**31 - 1), NUMBERS)), r"with 4 numbers"),
    "negative": (mat(matrix(1, (-1, 5))), r"an array of shape \(-1, 5\)"),
    "bytes": (mat(struct.pack("<II", 14, 2**32 - 1) + bytes(64)), r"an element of 4,294,967,295 bytes where 64 are"),
    "packed cells": (mat(packed(matrix(1, (1, 10**9)))), r"1,000,000,000 cells in 0 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_headers_of_piano_rolls(name, tmp_path):
    content, match = CLAIMS[name]
    (tmp_path / "a.mat").write_bytes(content)
    match = rf"a\.mat: expected a MATLAB file of piano rolls, got another or a damaged one \(.*{match}.*Fetch it again"
    refused(tasks.read_piano_rolls, tmp_path / "a.mat", match, 1e6)


def test_piano_rolls_that_go_on(tmp_path):
    """A variable of 80 MB of zeros in 80 kB."""
    (tmp_path / "a.mat").write_bytes(mat(packed(matrix(6, (10**7, 1), element(9, bytes(8 * 10**7))))))
    with at_most(1e6):
        match = r"a\.mat: expected a file of [\d,]+ bytes to unpack to at most 1,000,000, got one that goes on\. If you"
        refused(tasks.read_piano_rolls, tmp_path / "a.mat", match, 10e6)


SMALL = element(2, bytes(2 * 10**5))
EXPANDED = {
    "doubles in bytes": (matrix(6, (2, 10**5), SMALL), r"at most 1,000,000, got numbers that take 1,600,000\. If"),
    "no cells": (matrix(9, (2, 10**5), SMALL), r"expected a cell array of rolls in traindata, got numbers\. Check"),
    "bytes": (
        matrix(1, (1, 4), *[matrix(9, (10**3, 88), element(2, bytes(88 * 10**3)), name=b"")] * 4),
        r"at most 1,000,000, got rolls that take 1,408,000\. If",
    ),
}


@pytest.mark.parametrize("name", EXPANDED)
def test_numbers_that_would_grow(name, tmp_path):
    """Stored in a byte each, which MATLAB does with small ones of any type, and eight, or four, when they are read."""
    content, match = EXPANDED[name]
    (tmp_path / "a.mat").write_bytes(mat(packed(content)))
    with at_most(1e6):
        refused(tasks.read_piano_rolls, tmp_path / "a.mat", match, 2e6)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_as_scipy_reads_and_writes_them(compressed, tmp_path):
    """Every type of number, one number, a matrix and a cell within a cell."""
    scipy_io = pytest.importorskip("scipy.io")
    rng = np.random.default_rng(0)
    cells = np.empty((2, 2), object)
    cells[0, 0], cells[1, 0] = rng.random((3, 2)), np.eye(2, dtype=bool)
    cells[0, 1], cells[1, 1] = "text", np.zeros((0, 3))
    names = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
    tree = {name: (rng.random((2, 3)) * 100).astype(name) for name in names}
    scipy_io.savemat(tmp_path / "a.mat", tree | {"cells": cells, "one": 3.5}, do_compression=compressed)
    found = read_variables("a", (tmp_path / "a.mat").read_bytes())
    assert set(found) == {*tree, "cells", "one"}
    for name, expected in tree.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)
    assert found["one"].tolist() == [[3.5]]
    assert found["cells"].shape == (2, 2)
    np.testing.assert_array_equal(found["cells"][0, 0], cells[0, 0])
    np.testing.assert_array_equal(found["cells"][1, 0], cells[1, 0])
    assert found["cells"][0, 1].dtype == object
    assert found["cells"][1, 1].shape == (0, 3)


def test_headers_of_pictures(tmp_path):
    """IDX: 16 bytes that claim gigabytes, plain and packed."""
    content = b"\0\0\x08\x03" + struct.pack(">3I", 60000, 2**16, 2**16)
    match = r"expected 257698037760000 bytes for shape \(60000, 65536, 65536\), got 0\. Fetch it again"
    for name, data in (("a.idx", content), ("a.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        refused(tasks.read_idx, tmp_path / name, match, 5e6)


def test_sizes_are_told_in_bytes():
    """As many as the shapes say, before a number is drawn; where it fits nothing is said."""
    n = 10**9
    for module, count in (
        (sj.lstm(n, n), 8 * n * n + 4 * n),
        (sj.serial(sj.embedding(65, 4), sj.recurrent(sj.gru(4, n))), 3 * n * n + 12 * n + 4 * n),
        (sj.dense(10**7, 10**7), 10**14 + 10**7),
    ):
        with pytest.raises(
            NoRoom, match=rf": expected parameters that fit in [\d,]+ bytes of memory, got {8 * count:,}"
        ):
            module.init(jax.random.key(0))
        with pytest.raises(NoRoom, match=r"Make the sizes smaller\."):
            jax.jit(module.init)(jax.random.key(0))
    assert sj.dense(2**15, 2).init(jax.random.key(0)).w.shape == (2**15, 2)
    shapes = jax.eval_shape(sj.models.tagger(2**15, 3).init, jax.random.key(0))
    assert shapes[0].w.shape[0] == 2**15


def test_commands_tell_sizes_in_bytes(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("some text. " * 100)
    options = ["--text", f"{tmp_path}/a.txt", "--batch-size", "2", "--window", "8", "--run-dir", f"{tmp_path}/run"]
    assert main(["charlm", *options, "--hidden-size", "1000000000"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("charlm: lstm: expected parameters that fit in ")
    assert "bytes of memory, got 32,000,0" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("allocate", "said"),
    [
        (lambda: np.empty(2**55), "data that fit in memory, got Unable to allocate 256. PiB for an array"),
        (lambda: jnp.zeros(2**55), "arrays that fit in memory, got RESOURCE_EXHAUSTED: Out of memory allocating"),
        (lambda: bytes(2**60), "data that fit in memory, got more."),
    ],
)
def test_out_of_memory_is_told_in_words(allocate, said, monkeypatch, capsys):
    monkeypatch.setattr(score, "main", lambda options: allocate())
    assert main(["score", "run", "--text", "a.txt"]) == 2
    found = capsys.readouterr().err
    assert found.startswith(f"score: expected {said}")
    assert found.endswith(" Make the sizes smaller, or give less data.\n")
    assert found.count("\n") == 1


def test_largest_raises_the_limit(tmp_path, monkeypatch, capsys):
    """Of a command: the limit holds while it runs."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a b c. " * 10**6))
    options = ["--text", f"{tmp_path}/a.gz", "--run-dir", f"{tmp_path}/run"]
    found = []
    monkeypatch.setattr(charlm, "main", lambda options: found.append(len(tasks.open_text(options.text))))
    with pytest.raises(ValueError, match="at most 1,000,000, got one that goes on"):
        main(["charlm", *options, "--largest", "0.001"])
    assert main(["charlm", *options]) == 0
    assert found == [7 * 10**6]
    assert main(["charlm", *options, "--largest", "0"]) == 2
    assert capsys.readouterr().err == "charlm: expected --largest above 0 and finite, got 0.0. Set --largest.\n"


NESTED = "[" * 200_000


def test_nested_json_is_refused(tmp_path, capsys):
    """In every file that is read: run, metrics, checkpoint, settings, a model's record."""
    (tmp_path / "config.json").write_text(NESTED)
    assert main(["sample", str(tmp_path)]) == 2
    assert "got a config.json that is not JSON" in capsys.readouterr().err
    (tmp_path / "1").mkdir()
    (tmp_path / "1.json").write_text(NESTED)
    with pytest.raises(ValueError, match=r"as it was written, got a damaged one"):
        checkpoints.check(tmp_path, 1)
    with pytest.raises(ValueError, match=r"^tuned: expected"), sj.tuned(tmp_path / "config.json"):
        pass
    with pytest.raises(ValueError, match=r"^from_pretrained: expected JSON"):
        sj.interop.from_pretrained(tmp_path)
    record = {"maker": "cells.lstm", "input_size": 3, "hidden_size": 4}
    for _ in range(5000):
        record = {"maker": "layers.residual", "module": record}
    with pytest.raises(ValueError, match=r"^from_config: expected"):
        sj.interop.from_config({"version": 1, "module": record})
    run = {"recipe": "charlm", "options": {}, "facts": {}}
    (tmp_path / "config.json").write_text(json.dumps(run))
    (tmp_path / "metrics.jsonl").write_text(f"{NESTED}\n{{}}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl to hold one JSON object with a step a line, got another"):
        Run.open("charlm", tmp_path).metrics()


@pytest.mark.slow
def test_files_that_claim_gigabytes_are_read_in_megabytes(tmp_path):
    """As one process sees it: headers and archives of a few kilobytes, 300 MB at most in all, the imports included."""
    for name, (content, _) in CLAIMS.items():
        (tmp_path / f"{name}.mat").write_bytes(content)
    (tmp_path / "a.idx").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 60000, 2**16, 2**16))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file, file.open("a.txt", "w", force_zip64=True) as inside:
        for _ in range(1100):
            inside.write(bytes(10**6))
    (tmp_path / "a.zip").write_bytes(out.getvalue())
    script = f"""
import pathlib, re
from seqjax.tasks import read_idx, read_piano_rolls, read_text
readers = {{".mat": read_piano_rolls, ".idx": read_idx, ".zip": read_text}}
refused = 0
for path in pathlib.Path({str(tmp_path)!r}).iterdir():
    try:
        readers[path.suffix](path)
    except ValueError:
        refused += 1
print(refused, re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, peak = map(int, done.stdout.split())
    assert count == len(CLAIMS) + 2
    assert peak < 3e5, f"{peak:,} kB"
