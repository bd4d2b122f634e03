"""A large vocabulary four ways: the softmax in full, in clusters, trained on samples; and pieces in place of words.

python -m benchmarks.vocabularies --data FOLDER                # what is not recorded yet, then the table: 15 minutes
python -m benchmarks.vocabularies --data FOLDER --seeds 0      # of one seed
python -m benchmarks.vocabularies --table                      # the table of all that is recorded; trains nothing

Sentences in English and French (tatoeba_en_fr/fra-eng.zip of FOLDER), each once, in one order; the last are held back.
Models are those of `python -m seqjax wordlm --softmax full|adaptive|sampled` and `--split subwords`, of equal sizes,
after as many updates of as many symbols each: pieces, which are shorter, have read less of the text than words. Bits a
character are exact and of the same characters, unknown words spelled; perplexity is that of words where all know the
same ones. An update is timed in turns with one of the full softmax over words, in one process.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import seqjax as sj
from benchmarks import record, timing
from seqjax import tasks
from seqjax.recipes import wordlm
from seqjax.recipes.language import words
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.text import log_loss, scorer, windows_of
from seqjax.recipes.language.word_model import begin, set_up, symbols_of
from seqjax.recipes.running import learning

RESULTS = record.ROOT / "benchmarks" / "results" / "vocabularies.jsonl"
FULL = "words, full softmax"
MODELS: dict[str, dict[str, Any]] = {
    FULL: {},
    "words, adaptive softmax": {"softmax": "adaptive"},
    "words, sampled softmax": {"softmax": "sampled"},
    "8,000 pieces, full softmax": {"split": "subwords", "vocabulary": 8000},
    "2,000 pieces, full softmax": {"split": "subwords", "vocabulary": 2000},
}
PROTOCOL = {"vocabulary": 30_000, "steps": 300, "batch_size": 16, "hidden_size": 128, "dropout": 0.1}
HELD_BACK, ROUNDS = 3000, 7  # sentences; turns in which updates are timed


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and tells."""
    chosen = parse(argv)
    known = record.read(chosen.results) if chosen.results.exists() else []
    if not chosen.table:
        measure(chosen, known)
    print("\n".join(table(known)))
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of public files (SEQJAX_DATA)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="(0 1 2)")
    parser.add_argument("--models", default="", metavar="TEXT", help="only models whose name holds this")
    parser.add_argument("--updates", type=int, default=PROTOCOL["steps"], metavar="N", help="(%(default)s)")
    parser.add_argument("--table", action="store_true", help="print the table of what is recorded and end")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    chosen = parser.parse_args(argv)
    chosen.data = chosen.data or (Path(os.environ["SEQJAX_DATA"]) if "SEQJAX_DATA" in os.environ else None)
    if chosen.data is None and not chosen.table:
        parser.error("expected --data FOLDER, or SEQJAX_DATA, got neither.")
    return chosen


def measure(chosen: argparse.Namespace, known: list[dict[str, Any]]) -> None:
    """Trains what is not recorded yet, and adds it to the file."""
    records, protocol = record.Records(chosen.results), PROTOCOL | {"steps": chosen.updates}
    text = read(chosen.data / "tatoeba_en_fr" / "fra-eng.zip")
    for seed in chosen.seeds:
        for name, more in MODELS.items():
            about = {"model": name, "seed": seed, "sha256": text.sha256, "protocol": protocol | more}
            if chosen.models not in name or any(about.items() <= row.items() for row in known):
                continue
            training = Training(text, options(protocol | more, seed))
            row = about | training.fit()
            if name != FULL:
                row |= beside(training, Training(text, options(protocol, seed)))
            records.write(row)
            known.append(records.rows[-1])
            print(f"{name}, seed {seed}: {row['bits']:.4f} bits a character, {row['seconds']} s", flush=True)


def read(path: Path) -> words.Words:
    """Both sides of all pairs as one text, each sentence once, in one order."""
    lines = list(dict.fromkeys(side for pair in tasks.read_pairs(path) for side in map(str, pair)))
    split = [words.split(lines[i], at="marks", lower=False) for i in np.random.default_rng(0).permutation(len(lines))]
    return words.Words("vocabularies", split[:-HELD_BACK], split[-HELD_BACK:])


def options(chosen: dict[str, Any], seed: int) -> wordlm.Options:
    """Of the command."""
    return wordlm.Options(**chosen, seed=seed)


class Training:
    """A model while it trains."""

    def __init__(self, text: words.Words, options: wordlm.Options) -> None:
        """Before the first update."""
        self.symbols, self.train, self.asked = numbered(text, options.split, options.vocabulary)
        self.options, self.method = set_up(options, self.symbols, len(self.train))
        self.windows = windows_of("vocabularies", self.train, options.batch_size, options.window, self.symbols.eos)
        self.state, self.memory = begin(self.options, self.method)
        self.empty, self.made = self.memory, 0
        optimizer, clip = learning.optimizer_of(options), sj.clip_by_global_norm(options.clip)
        self.step = sj.train_step(self.method.objective, optimizer, clip=clip)

    def update(self) -> None:
        """One, that has ended."""
        place = self.made % len(self.windows)
        memory = self.memory if place else self.empty
        self.state, self.memory, _ = jax.block_until_ready(self.step(self.state, memory, self.windows[place]))
        self.made += 1

    def fit(self) -> dict[str, Any]:
        """All updates, and what is held back."""
        began = time.perf_counter()
        for _ in range(self.options.steps):
            self.update()
        seconds, (numbers, spelling, characters) = time.perf_counter() - began, self.asked
        model, end = self.method.model, self.symbols.eos
        nats, count = log_loss(scorer(model), model, self.state.params, numbers, columns=16, lead=64, end=end)
        read = self.options.steps * self.options.batch_size * self.options.window
        [unigram] = ngram_nats(self.train, numbers, len(self.symbols), 1)
        bits = lambda nats: float(sj.bits_per_character(nats + spelling, characters))
        return {
            "vocabulary": len(self.symbols),
            "parameters": learning.parameter_count(self.state.params),
            "bits": bits(nats),
            "perplexity": float(np.exp(nats / count)),
            "unigram_bits": bits(unigram * count),
            "unigram_perplexity": float(np.exp(unigram)),
            "spelling_bits": bits(0.0),
            "characters_read": round(read * characters / len(numbers)),  # as many a symbol as in what is held back
            "seconds": round(seconds, 1),
        }


def beside(training: Training, full: Training) -> dict[str, Any]:
    """The times of an update, in turns with one of the full softmax over words."""
    full.update()
    calls: dict[str, Callable[[], None]] = {"own": training.update, "full": full.update}
    taken = timing.interleave(calls, rounds=ROUNDS, seconds=60)
    ratio = statistics.median(a / b for a, b in zip(taken["own"].seconds, taken["full"].seconds))
    return {"median_s": taken["own"].median, "of_full": ratio}


@functools.cache
def numbered(text: words.Words, split: str, limit: int) -> tuple:
    """Symbols of a text, those to learn from, and what is held back."""
    symbols = symbols_of(wordlm.Options(split=split, vocabulary=limit), text)
    return symbols, words.number(symbols, text.train()), words.asked(symbols, text, text.held_back)


def table(known: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: a line a model that is recorded, as it is trained now."""
    head = ["model", "vocabulary", "parameters", "bits a character, held back", "of these to spell unknown words"]
    head += ["unigrams", "perplexity of words", "unigrams", "time of an update, first = 1"]
    head += ["characters read, thousands", "seeds"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, more in MODELS.items():
        found = [row for row in known if (row["model"], row["protocol"]) == (name, PROTOCOL | more)]
        if not found:
            continue
        told = lambda figure, show: spread([row[figure] for row in found], show)  # noqa: B023
        of_words = "split" not in more
        cells = [
            name,
            f"{found[0]['vocabulary']:,}",
            f"{found[0]['parameters']:,}",
            told("bits", "{:.3f}"),
            f"{found[0]['spelling_bits']:.3f}",
            f"{found[0]['unigram_bits']:.3f}",
            told("perplexity", "{:.1f}") if of_words else "",
            f"{found[0]['unigram_perplexity']:.1f}" if of_words else "",
            told("of_full", "{:.2f}") if name != FULL else "1",
            f"{found[0]['characters_read'] / 1000:.0f}",
            str(len(found)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def spread(values: Sequence[float], show: str) -> str:
    """The median, and the lowest and highest of several."""
    band = f" ({show.format(min(values))} to {show.format(max(values))})" if len(values) > 1 else ""
    return show.format(statistics.median(values)) + band


if __name__ == "__main__":
    sys.exit(main())
