"""Readers of files against their contents written by hand, real files, and one sentence for every bad one."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from seqjax import tasks


@pytest.fixture
def write(tmp_path):
    def put(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def test_read_text(write, tmp_path):
    assert tasks.read_text(write("a.txt", "﻿zwei\nZeilen é\n")) == "zwei\nZeilen é\n"
    assert tasks.read_text(write("a.txt.gz", gzip.compress("é".encode()))) == "é"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("_about.txt", "no")
        archive.writestr("text.txt", "yes")
    assert tasks.read_text(tmp_path / "a.zip") == "yes"


def test_every_way_to_end_a_line(write):
    assert tasks.read_text(write("a.txt", "a\r\nb\rc\n\r")) == "a\nb\nc\n\n"
    assert tasks.read_lines(write("b.txt", "a\rb\r\nc\r")) == ["a", "b", "c"]
    assert tasks.read_pairs(write("c.tsv", "a\tb\rc\td\r")) == [("a", "b"), ("c", "d")]
    assert tasks.read_conllu(write("d.conllu", CONLLU.replace("\n", "\r"))) == tasks.read_conllu(write("e", CONLLU))
    np.testing.assert_array_equal(tasks.read_series(write("f.txt", "1\r2")), [[1], [2]])


def archive(name, content, compression=zipfile.ZIP_DEFLATED):
    if name.endswith(".gz"):
        return gzip.compress(content)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr("a.txt", content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "compression"),
    [("a.gz", None), ("a.zip", zipfile.ZIP_DEFLATED), ("b.zip", zipfile.ZIP_BZIP2), ("c.zip", zipfile.ZIP_LZMA)],
)
def test_a_damaged_archive_is_complained_about_or_read_as_it_was(write, name, compression):
    content = b"hello world this is text\n" * 200
    whole = archive(name, content, compression)
    complaints = 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 255
        try:
            assert tasks.read_text(write(name, damaged)) == content.decode()
        except ValueError as error:
            assert str(error).startswith(f"{write(name, damaged)}: expected ")  # noqa: PT017
            complaints += 1
    assert complaints > len(whole) / 3


@pytest.mark.parametrize(
    ("at", "flag", "match"),
    [(6, 1, "is encrypted, password required"), (8, 99, "compression method is not supported")],
)
def test_archives_that_do_not_unpack(write, at, flag, match):
    """A zip states its flags and its compression twice: before the file, and in the list at the end."""
    content = bytearray(archive("a.zip", b"text"))
    for start in (at, content.index(b"PK\1\2") + at + 2):
        content[start] = flag
    path = write("a.zip", content)
    with pytest.raises(ValueError, match=f"{path}: expected a whole archive, got one that does not unpack .*{match}"):
        tasks.read_text(path)


def test_read_pairs(write):
    path = write("pairs.tsv", "Go.\tVa !\tCC-BY\nHi.\tSalut.\n")
    assert tasks.read_pairs(path) == [("Go.", "Va !"), ("Hi.", "Salut.")]
    parallel = tasks.read_parallel(write("a.en", "one\ntwo\n"), write("a.fr", "un\ndeux"))
    assert parallel == [("one", "un"), ("two", "deux")]


CONLLU = """# text = don't go
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tghost\t_\tX\tX\t_\t_\t_\t_\t_

# next
1\tStop\tstop\tVERB\tVB\t_\t0\troot\t_\t_
"""


def test_read_conllu(write):
    path = write("a.conllu", CONLLU)
    one = CONLLU.split("\n")[2].replace("1\tdo", "1\tdu").replace("AUX", "ADP")
    token = "1-1\tdu" + "\t_" * 8
    assert tasks.read_conllu(write("b.conllu", f"{token}\n{one}\n")) == [(("du",), ("ADP",))]
    assert tasks.read_conllu(path) == [(("do", "n't", "go"), ("AUX", "PART", "VERB")), (("Stop",), ("VERB",))]
    assert tasks.read_conllu(path, column="xpos")[0].tags == ("VB", "RB", "VB")


def test_read_labelled(write, tmp_path):
    write("B.txt", "x\ny\n")
    write("A.txt", "z\n")
    assert tasks.read_labelled(tmp_path) == [("z", "A"), ("x", "B"), ("y", "B")]


def test_read_series(write):
    np.testing.assert_array_equal(tasks.read_series(write("s.txt", "1 2.5\n3,-4e1\n")), [[1, 2.5], [3, -40]])


def idx(shape, data):
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(data)


def test_read_idx(write):
    images = tasks.read_idx(write("i.gz", gzip.compress(idx((2, 1, 3), range(6)))))
    np.testing.assert_array_equal(images, np.arange(6).reshape(2, 1, 3))
    assert images.dtype == np.uint8


def rolls_file(path, compressed=False, **splits):
    import scipy.io

    cells = {}
    for name, rolls in splits.items():
        cells[name] = np.empty((1, len(rolls)), object)
        cells[name][0] = rolls
    scipy.io.savemat(path, cells, do_compression=compressed)
    return path


def test_read_piano_rolls(tmp_path):
    roll, long = np.eye(4, 88, dtype=np.uint8), np.ones((6, 88), np.uint8)
    path = rolls_file(tmp_path / "a.mat", traindata=[roll, long], validdata=[long, roll], testdata=[roll, roll[:3]])
    splits = tasks.read_piano_rolls(path)
    np.testing.assert_array_equal(splits["train"][0], roll)
    assert [len(r) for r in splits["test"]] == [4, 3]
    assert splits["valid"][0].dtype == np.float32
    bad = rolls_file(tmp_path / "b.mat", traindata=[roll, 2 * long])
    with pytest.raises(ValueError, match=r"roll 1 of traindata to be .* got shape \(6, 88\) with values such as 2\. "):
        tasks.read_piano_rolls(bad)
    narrow = rolls_file(tmp_path / "d.mat", traindata=[roll, long[:, :80]])
    with pytest.raises(ValueError, match=r"as many keys as the first, got shape \(6, 80\)"):
        tasks.read_piano_rolls(narrow)
    empty = rolls_file(tmp_path / "e.mat", traindata=[roll, roll[:0]])
    with pytest.raises(ValueError, match=r"expected roll 1 of traindata .* got shape \(0, "):
        tasks.read_piano_rolls(empty)
    none = rolls_file(tmp_path / "f.mat", traindata=[])
    with pytest.raises(ValueError, match=r"expected rolls in traindata, got none"):
        tasks.read_piano_rolls(none)
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "g.mat", {"traindata": np.eye(3)})
    with pytest.raises(ValueError, match=r"expected a cell array of rolls in traindata, got numbers"):
        tasks.read_piano_rolls(tmp_path / "g.mat")
    nested = np.empty((1, 2), object)
    nested[0, 0], nested[0, 1] = roll, long
    with pytest.raises(
        ValueError, match=r"roll 0 of traindata .* got shape \(1, 2\) with values such as those of type "
    ):
        tasks.read_piano_rolls(rolls_file(tmp_path / "h.mat", traindata=[nested, roll]))
    missing = rolls_file(tmp_path / "c.mat", traindata=[roll, long])
    with pytest.raises(ValueError, match=r"expected the key validdata, got \['traindata'\]"):
        tasks.read_piano_rolls(missing)


def test_damaged_piano_rolls(tmp_path):
    """Whatever byte is flipped, there is one sentence, or a check further on that finds nothing wrong."""
    rolls = [np.eye(4, 88, dtype=np.uint8)] * 2
    path = rolls_file(tmp_path / "a.mat", compressed=True, traindata=rolls, validdata=rolls, testdata=rolls)
    whole = path.read_bytes()
    complaints = 0
    for at in range(128, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 255
        path.write_bytes(damaged)
        try:
            tasks.read_piano_rolls(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: expected ")  # noqa: PT017
            complaints += "Fetch it again." in str(error)
    assert complaints > len(whole) / 2
    for other, error, match in (
        ("none.mat", FileNotFoundError, "expected a file, got none. Check the path."),
        (".", FileNotFoundError, "expected a file, got a folder. Check the path."),
        ("empty.mat", ValueError, "expected some content, got an empty file. Choose another."),
    ):
        (tmp_path / "empty.mat").touch()
        with pytest.raises(error) as caught:
            tasks.read_piano_rolls(tmp_path / other)
        assert str(caught.value) == f"{tmp_path / other}: {match}"


def bad_line(number, replacement):
    lines = CONLLU.split("\n")
    lines[number - 1] = replacement
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "reader", "match"),
    [
        ("", tasks.read_text, "expected some content, got an empty file"),
        (b"ok\n\xff\n", tasks.read_text, "line 2: expected UTF-8, got byte 0xff"),
        (
            "a\tb\nonly one\n",
            tasks.read_pairs,
            "line 2: expected two texts separated by a tab, got 'only one'",
        ),
        ("a\tb\n\nc\td\n", tasks.read_pairs, "line 2: expected two texts separated by a tab, got ''"),
        ("a\t \n", tasks.read_pairs, "line 1: expected two texts"),
        ("a\n\nb\n", tasks.read_lines, "line 2: expected text, got an empty line"),
        (bad_line(3, "1\tdo\tdo"), tasks.read_conllu, "line 3: expected 10 columns separated by tabs, got 3"),
        (bad_line(4, CONLLU.split("\n")[4]), tasks.read_conllu, "line 4: expected word number 2, got '3'"),
        (
            bad_line(2, "1-\tdon't" + "\t_" * 8),
            tasks.read_conllu,
            "line 2: expected word number 1, got '1-'. Repair the CoNLL-U file",
        ),
        (bad_line(6, "x.1" + "\t_" * 9), tasks.read_conllu, "line 6: expected word number 4, got 'x.1'"),
        (
            bad_line(3, "1\tdo\tdo\t_" + "\t_" * 6),
            tasks.read_conllu,
            "line 3: expected a word and its upos, got \\('do', '_'\\)",
        ),
        (
            bad_line(2, "2-1\tx" + "\t_" * 8),
            tasks.read_conllu,
            "line 2: expected a token of words from 1 on, got '2-1'",
        ),
        (
            bad_line(2, "1-0\tx" + "\t_" * 8),
            tasks.read_conllu,
            "line 2: expected a token of words from 1 on, got '1-0'",
        ),
        (
            bad_line(2, "7-9\tx" + "\t_" * 8),
            tasks.read_conllu,
            "line 2: expected a token of words from 1 on, got '7-9'",
        ),
        (
            bad_line(6, "2-4\tx" + "\t_" * 8),
            tasks.read_conllu,
            "line 6: expected a token of words from 4 on, got '2-4'",
        ),
        (
            bad_line(6, "4-5\tx" + "\t_" * 8),
            tasks.read_conllu,
            "line 6: expected a sentence of at least 5 words, got 3",
        ),
        (
            bad_line(9, "1-2\tx" + "\t_" * 8),
            tasks.read_conllu,
            "line 9: expected a sentence of at least 2 words, got 0",
        ),
        ("# nothing\n", tasks.read_conllu, "expected sentences in CoNLL-U, got none"),
        ("1\nx\n", tasks.read_series, "line 2: expected numbers, got 'x'"),
        (",,\n,\n", tasks.read_series, "line 1: expected numbers, got ',,'"),
        ("1\n,\n", tasks.read_series, "line 2: expected numbers, got ','"),
        ("1\n2 3\n", tasks.read_series, "line 2: expected 1 finite numbers, got '2 3'"),
        ("1\nnan\n", tasks.read_series, "line 2: expected 1 finite numbers"),
        (b"PNG!", tasks.read_idx, "expected an IDX file of unsigned bytes, got header 504e4721"),
        (idx((), range(1)), tasks.read_idx, "expected an IDX file of unsigned bytes, got header 00000800"),
        (idx((2, 2), range(3)), tasks.read_idx, "expected 4 bytes for shape \\(2, 2\\), got 3"),
        (idx((2**31, 2**31, 4), range(0)), tasks.read_idx, "expected 18446744073709551616 bytes for shape .* got 0"),
        (idx((0, 28, 28), range(0)), tasks.read_idx, "expected at least one byte, got shape \\(0, 28, 28\\)"),
        (idx((3, 0), range(0)), tasks.read_idx, "expected at least one byte, got shape \\(3, 0\\)"),
        ("a\nbc\n".encode("utf-16-le"), tasks.read_text, "line 1: expected UTF-8, got byte 0x00. Convert the file"),
        (b"a\rb\0", tasks.read_text, "line 2: expected UTF-8, got byte 0x00"),
        ("not matlab" * 20, tasks.read_piano_rolls, "expected a MATLAB file of piano rolls"),
    ],
)
def test_reader_errors(write, content, reader, match):
    path = write("file", content)
    with pytest.raises(ValueError, match=match) as error:
        reader(path)
    assert str(path) in str(error.value)


def test_other_reader_errors(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file, got none"):
        tasks.read_text(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"expected a file, got a folder\. Check the path\."):
        tasks.read_text(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected a folder of at least two <label>.txt files, got 0"):
        tasks.read_labelled(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"expected as many lines in both files, got 2 in .* and 1 in"):
        tasks.read_parallel(write("a", "x\ny\n"), write("b", "x\n"))
    with pytest.raises(ValueError, match=r"expected a whole archive, got one that does not unpack"):
        tasks.read_text(write("bad.gz", b"\x1f\x8b no"))
    with pytest.raises(ValueError, match=r"expected column to be one of"):
        tasks.read_conllu(write("c", CONLLU), column="lemma")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.txt", "a")
        archive.writestr("b.txt", "b")
    with pytest.raises(ValueError, match=r"expected one text in the archive, got \['a.txt', 'b.txt'\]"):
        tasks.read_text(tmp_path / "two.zip")


@pytest.mark.shared_data
def test_real_files(shared_data):
    """Sizes that the files' own pages state."""
    assert len(tasks.read_text(shared_data / "tinyshakespeare" / "input.txt")) == 1_115_394
    dev = tasks.read_conllu(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu.gz")
    assert len(dev) == 2001
    assert len({tag for s in dev for tag in s.tags}) == 17
    rolls = tasks.read_piano_rolls(shared_data / "jsb" / "JSB_Chorales.mat")
    assert [len(rolls[split]) for split in ("train", "valid", "test")] == [229, 76, 77]
    pairs = tasks.read_pairs(shared_data / "tatoeba_en_fr" / "fra-eng.zip")
    assert pairs[0] == ("Go.", "Va !")
    assert len(pairs) > 100_000
    labels = tasks.read_idx(shared_data / "mnist" / "train-labels-idx1-ubyte.gz")
    assert labels.shape == (60000,)
    assert np.bincount(labels).argmax() == 1
    names = tasks.read_labelled(shared_data / "names")
    assert len({label for _, label in names}) == 18
    assert len(names) > 19_000
