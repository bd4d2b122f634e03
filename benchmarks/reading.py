"""Reading a text and cutting it into batches of characters: ours, plain NumPy, torch's DataLoader.

From a UTF-8 file to every window of one epoch of truncated backpropagation: characters are numbered from the most to
the least frequent, streams lie side by side, targets are the next characters. Every batch of every contender is what
the text's definition says before anything is timed; memory is by how much the process grew at its highest.
`python -m benchmarks.reading --help`

    limit: the file's bytes read · each looked up in a table · streams laid side by side
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import paths
from benchmarks.paths import Contender
from seqjax import tasks
from seqjax.tasks.texts import window


class Row(NamedTuple):
    """A text of so many characters; B streams, windows of T."""

    characters: int
    batch: int
    ticks: int


Batches = Iterator[tuple[Any, Any]]  # symbols [T, B] and their successors


ROWS = (Row(1_000_000, 64, 128), Row(10_000_000, 64, 128))


def write(row: Row, path: Path) -> None:
    """A text of 95 characters, some frequent and some rare, all of one byte."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 96)
    path.write_bytes(rng.choice(np.arange(32, 127, dtype=np.uint8), row.characters, p=shares / shares.sum()).tobytes())


def ours(row: Row, path: Path) -> Batches:
    """As the recipe of the character model does it."""
    text = tasks.open_text(path)
    numbers = tasks.Numbers(text, tasks.Vocabulary.counted(text.counts, specials=()))
    for number in range((len(text) // row.batch - 1) // row.ticks):
        ticks = window(numbers, len(text), row.batch, row.ticks, number)
        yield ticks[:-1], ticks[1:]


def plain(row: Row, path: Path) -> Batches:
    """A table of code points."""
    codes = np.frombuffer(path.read_text("utf-8").encode("utf-32-le"), np.uint32)
    counts = np.bincount(codes)
    kinds = np.flatnonzero(counts)
    table = np.zeros(len(counts), np.int32)
    table[kinds[np.argsort(-counts[kinds], kind="stable")]] = np.arange(len(kinds))
    numbers = table[codes]
    rows = len(numbers) // row.batch
    columns = np.ascontiguousarray(numbers[: rows * row.batch].reshape(row.batch, rows).T)
    for begin in range(0, rows - row.ticks, row.ticks):
        yield columns[begin : begin + row.ticks], columns[begin + 1 : begin + 1 + row.ticks]


def torch_loader(row: Row, path: Path) -> Batches:
    """A dictionary of characters, a data set of windows, a loader that stacks them."""
    import torch

    text = path.read_text("utf-8")
    counts = Counter(text)
    number = {c: i for i, c in enumerate(sorted(counts, key=lambda c: (-counts[c], c)))}
    numbers = torch.tensor([number[c] for c in text], dtype=torch.int32)
    rows = len(numbers) // row.batch

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return row.batch * ((rows - 1) // row.ticks)

        def __getitem__(self, index: int) -> tuple:
            window, stream = divmod(index, row.batch)
            begin = stream * rows + window * row.ticks
            return numbers[begin : begin + row.ticks], numbers[begin + 1 : begin + 1 + row.ticks]

    for xs, targets in torch.utils.data.DataLoader(Windows(), batch_size=row.batch):
        yield xs.T, targets.T


CONTENDERS: dict[str, Callable[[Row, Path], Batches]] = {"ours": ours, "numpy": plain, "torch": torch_loader}


def contender(row: Row, path: Path, batches: Callable[[Row, Path], Batches]) -> Contender:
    """Goes through all batches; what is compared are those of another time through."""
    if batches is torch_loader:
        import torch.utils.data  # noqa: F401 - known to be missing before it is timed
    return Contender(
        lambda: sum(xs.shape[0] * xs.shape[1] for xs, _ in batches(row, path)),
        lambda count: (count, [np.stack([np.asarray(part) for part in pair]) for pair in batches(row, path)]),
    )


def expected(row: Row, path: Path) -> list[np.ndarray]:
    """The batches, from the text's definition: character t of stream b is b R + t of the text."""
    data = path.read_bytes()
    ranked = sorted(set(data), key=lambda byte: (-data.count(byte), byte))
    numbers = np.frombuffer(data.translate(bytes(ranked.index(b) if b in ranked else 0 for b in range(256))), np.uint8)
    rows = row.characters // row.batch
    place = np.arange(rows)[:, None] + rows * np.arange(row.batch)
    cuts = range(0, (rows - 1) // row.ticks * row.ticks, row.ticks)
    return [np.stack([numbers[place[k : k + row.ticks]], numbers[place[k + 1 : k + 1 + row.ticks]]]) for k in cuts]


def wrong(found: tuple[int, list[np.ndarray]], batches: list[np.ndarray]) -> float:
    """The share of numbers that are not what they should be; all where there are more or fewer."""
    count, given = found
    if count != sum(b[0].size for b in batches) or [b.shape for b in given] != [b.shape for b in batches]:
        return 1.0
    return float(np.mean([(a != b).mean() for a, b in zip(given, batches)]))


def parts(row: Row, path: Path) -> dict[str, Callable[[], Any]]:
    """What the limit is made of."""
    table = np.arange(256, dtype=np.int32)
    codes = np.frombuffer(path.read_bytes(), np.uint8)
    numbers = table[codes][: row.characters // row.batch * row.batch]
    return {
        "read": path.read_bytes,
        "look-up": lambda: table[codes],
        "streams": lambda: np.ascontiguousarray(numbers.reshape(row.batch, -1).T),
    }


def measure(row: Row, rounds: int, seconds: float) -> dict[str, Any]:
    """One row, from a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        write(row, path)
        batches = expected(row, path)
        makers = {name: lambda of=of: contender(row, path, of) for name, of in CONTENDERS.items()}
        found = paths.measure(
            row, makers, lambda result: wrong(result, batches), 1e-9, parts(row, path), rounds, seconds
        )
    count = sum(b[0].size for b in batches)
    return found | {"tokens_a_second": {name: round(count / s) for name, s in found["seconds"].items()}}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures every row and writes one JSON line each."""
    parser = paths.parser(__doc__, "reading")
    parser.add_argument("--shapes", type=int, nargs=3, action="append", metavar=("N", "B", "T"), help="others")
    options = parser.parse_args(argv)
    rows = [Row(*shape) for shape in options.shapes or ROWS]
    paths.keep(rows, lambda row: measure(row, options.rounds, options.seconds), "reading", options.out)


if __name__ == "__main__":
    main()
