"""Readers of files of text: lines, pairs, CoNLL-U, labels. Every complaint names the file and the line."""

import re
from pathlib import Path
from typing import NamedTuple

from seqjax.tasks.problem import Pair
from seqjax.tasks.texts import read_text


class Sentence(NamedTuple):
    """Words and one tag a word."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text; an empty one is an error, except at the very end."""
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise ValueError(f"{path}, line {number}: expected text, got an empty line. Remove it.")
    return lines


def read_pairs(path: str | Path) -> list[Pair]:
    """Pairs of texts, one a line, separated by a tab; further columns (a licence note) are left out.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a line without two columns of text.
    """
    pairs = []
    for number, line in enumerate(_lines(path), 1):
        columns = line.split("\t")
        if len(columns) < 2 or not columns[0].strip() or not columns[1].strip():
            raise ValueError(
                f"{path}, line {number}: expected two texts separated by a tab, got {line[:60]!r}. "
                "Repair or remove the line."
            )
        pairs.append(Pair(columns[0].strip(), columns[1].strip()))
    return pairs


def read_parallel(source: str | Path, target: str | Path) -> list[Pair]:
    """Pairs of texts from two files with as many lines each.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: an empty line, or files of unequal length.
    """
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise ValueError(
            f"read_parallel: expected as many lines in both files, got {len(sources)} in {source} and "
            f"{len(targets)} in {target}. Line n of one must translate line n of the other."
        )
    return [Pair(*pair) for pair in zip(sources, targets)]


def read_conllu(path: str | Path, *, column: str = "upos") -> list[Sentence]:
    """Sentences with one tag a word from a CoNLL-U file.

    Multiword tokens (ids like ``1-2``) and empty nodes (``8.1``) are skipped: they are not words of the
    sentence.

    Args:
      path: the file.
      column: ``"upos"`` (universal tags) or ``"xpos"`` (the treebank's own).

    Returns:
      The sentences.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a malformed line, a multiword token without its words, an unknown column, or no sentence at all.

    References:
      Universal Dependencies, CoNLL-U format. https://universaldependencies.org/format.html
    """
    columns = {"upos": 3, "xpos": 4}
    if column not in columns:
        raise ValueError(f"read_conllu: expected column to be one of {list(columns)}, got {column!r}. Choose one.")

    def complain(number: int, expected: str, got: str) -> ValueError:
        return ValueError(f"{path}, line {number}: expected {expected}, got {got}. Repair the CoNLL-U file.")

    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    asked, last = 0, 0  # the line that asks for more words, and the number of the last one it asks for
    for number, line in enumerate([*_lines(path), ""], 1):
        if not line.strip():
            if len(words) < last:
                raise complain(asked, f"a sentence of at least {last} words", f"{len(words)}")
            if words:
                sentences.append(Sentence(tuple(words), tuple(tags)))
            words, tags, last = [], [], 0
            continue
        if line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 10:
            raise complain(number, "10 columns separated by tabs", f"{len(fields)}")
        token = re.fullmatch(r"(\d+)-(\d+)", fields[0])
        if token:
            start, stop = map(int, token.groups())
            if not last < start == len(words) + 1 <= stop:
                raise complain(number, f"a token of words from {max(last, len(words)) + 1} on", repr(fields[0]))
            asked, last = number, stop
            continue
        if re.fullmatch(r"\d+\.\d+", fields[0]):
            continue
        if fields[0] != str(len(words) + 1):
            raise complain(number, f"word number {len(words) + 1}", repr(fields[0]))
        word, tag = fields[1], fields[columns[column]]
        if not word or not tag or tag == "_":
            raise complain(number, f"a word and its {column}", repr((word, tag)))
        words.append(word)
        tags.append(tag)
    if not sentences:
        raise ValueError(f"{path}: expected sentences in CoNLL-U, got none. Check the file.")
    return sentences


def read_labelled(folder: str | Path) -> list[Pair]:
    """Labelled lines from a folder of ``<label>.txt`` files, such as surnames by language.

    Returns:
      Pairs of a line and its label, files in alphabetical order.

    Raises:
      FileNotFoundError: there is no such folder, or it holds fewer than two such files.
      ValueError: an empty line.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if len(files) < 2:
        raise FileNotFoundError(
            f"{folder}: expected a folder of at least two <label>.txt files, got {len(files)}. Check the path."
        )
    return [Pair(line.strip(), file.stem) for file in files for line in read_lines(file)]


def _lines(path: str | Path) -> list[str]:
    return read_text(path).rstrip("\n").split("\n")
