"""Files of a run: written so that a full disk or a kill in the middle leaves the old ones, read with their ends torn.

What is torn is the end of a log: a process was killed in the middle of a line, or the machine lost its power and what
was promised to the file came back as zeros. That line is left out; any other line that is not as it was written is not
ours to judge.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from seqjax.recipes.running import processes
from seqjax.recipes.running.options import BadInput


def tell(sentence: str) -> None:
    """A word about a run that goes on all the same, beside what it prints."""
    if processes.first():
        print(sentence, file=sys.stderr)


def replace(path: Path, text: str) -> None:
    """Writes a file anew, all of it or nothing."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def append(path: Path, line: str) -> None:
    """Adds a line at the end, all of it or nothing."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        data = (line + "\n").encode("utf-8")
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(before)
            raise


def records(who: str, path: Path, *, say: bool = True) -> list[dict[str, Any]]:
    """Every line of a file of JSON lines, each of a step; none where there is no file.

    A last line that is torn, empty or of zeros is left out, and that is told if ``say``.

    Raises:
      BadInput: another line that is not one of a run's.
    """
    data = path.read_bytes() if path.exists() else b""
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    found = [_record(line) for line in lines]
    whole = len(lines)
    while whole and not lines[whole - 1].strip(b"\0 \r"):
        whole -= 1
    if whole and found[whole - 1] is None:
        whole -= 1
    for i in range(whole):
        if lines[i] and found[i] is None:
            raise BadInput(
                f"{who}: expected {path} to hold one JSON object with a step a line, got another line {i + 1}. Remove "
                "or mend it."
            )
    if say and whole < len(lines):
        tell(f"{who}: the last line of {path} is torn, and is left out.")
    return [record for record in found[:whole] if record is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
