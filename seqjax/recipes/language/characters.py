"""A character language model as `charlm` trains it: its options, its parts, and how a run of it is read back."""

import dataclasses
import itertools
from collections.abc import Iterable

import jax
import numpy as np

import seqjax as sj
from seqjax import models
from seqjax.base import PyTree
from seqjax.recipes.language.text import log_loss, scorer
from seqjax.recipes.language.words import Words
from seqjax.recipes.running import learning
from seqjax.recipes.running.cells import CELLS, BlockName, CellName, block_of, check_block
from seqjax.recipes.running.options import BadInput, bad_input, check_rates, check_sizes, told_by
from seqjax.recipes.running.run import Run
from seqjax.tasks.texts import Numbers, Text
from seqjax.tasks.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class CharacterOptions(learning.PatientOptions):
    """Those of the options that decide what a checkpoint holds."""

    cell: CellName = "lstm"
    """The recurrence."""
    block: BlockName = "none"
    """What stands around each recurrence: the blocks published with the cells rglru, selective-state-space, mingru,
    mlstm and s5; or windowed attention in its place, the last 128 characters."""
    layers: int = 1
    """Recurrent layers, or blocks."""
    hidden_size: int = 256
    """Units a layer; features between blocks."""
    embedding_size: int = 64
    """Features a character."""
    dropout: float = 0.0
    """Rate between layers, in [0, 1)."""
    batch_size: int = 64
    """Streams side by side."""

    def check(self, who: str) -> None:
        """Refuses sizes and rates out of range."""
        super().check(who)
        check_sizes(who, self, "layers", "hidden_size", "embedding_size")
        check_rates(who, self, "dropout")
        check_block(who, self)


def parts(options: CharacterOptions, symbols: int) -> tuple[list[sj.Cell], sj.Layer]:
    """Recurrences, the first with the embedding it reads through, and logits of the next character."""
    sizes = [options.embedding_size] + [options.hidden_size] * options.layers
    cells = [CELLS[options.cell](below, size) for below, size in itertools.pairwise(sizes)]
    read = sj.embedding(symbols, options.embedding_size)
    embedded = sj.memoryless(lambda params, x: read.apply(params, (), x[None])[1][0], read.init)
    return [sj.stack(embedded, cells[0]), *cells[1:]], sj.dense(options.hidden_size, symbols)


def language_model(options: CharacterOptions, symbols: int) -> sj.Layer:
    """The parts as one model, with dropout behind every recurrence; or embedding, blocks and logits."""
    if options.block != "none":
        size = options.hidden_size
        block = block_of(options.block, options.cell)
        body = models.deep_blocks(size, block=block, layers=options.layers, rate=options.dropout)
        read = sj.serial(sj.embedding(symbols, options.embedding_size), sj.dense(options.embedding_size, size))
        return sj.mixed_precision(sj.serial(read, body, sj.dense(size, symbols)), options.products)
    cells, above = parts(options, symbols)
    layers = [layer for cell in cells for layer in (sj.recurrent(cell), sj.dropout(options.dropout))]
    return sj.mixed_precision(sj.serial(*layers, above), options.products)


def initial(model: sj.Layer, options: CharacterOptions) -> learning.Training:
    """Parameters, optimizer and state before the first update."""
    params = model.init(jax.random.key(options.seed))
    memory = model.initial_state(params, (options.batch_size,))
    return learning.begin(options, params, memory, noise=options.dropout > 0)


def trained(who: str, folder: str) -> tuple[sj.Layer, PyTree, Vocabulary]:
    """The model, parameters and vocabulary of a run, for recipe ``who``."""
    with told_by(who, "charlm"):
        return _trained(Run.open("charlm", folder))


def _trained(made: Run) -> tuple[sj.Layer, PyTree, Vocabulary]:
    options = made.options(CharacterOptions)
    symbols = made.config["facts"].get("vocabulary")
    if not isinstance(symbols, str):
        raise BadInput(
            f"charlm: expected {made.folder / 'config.json'} to hold the vocabulary as one string, got {symbols!r}. "
            "Put back the file, or start a new run."
        )
    with bad_input("charlm"):
        vocabulary = Vocabulary(symbols)
    model = language_model(options, len(vocabulary))
    return model, learning.trained(made, initial(model, options)), vocabulary


def encode_prompt(who: str, vocabulary: Vocabulary, prompt: str | None) -> np.ndarray:
    """The prompt as numbers: at least one character, all of them known."""
    if prompt is None:
        prompt = "\n" if "\n" in vocabulary else vocabulary.symbols[0]
    if not prompt:
        raise BadInput(f"{who}: expected --prompt to hold at least one character, got ''. Leave it out or give one.")
    return encode(f"{who}: expected --prompt", vocabulary, prompt)


def encode(expected: str, vocabulary: Vocabulary, text: str) -> np.ndarray:
    """A text as numbers; bad input at the first character that the training text has not."""
    _check(expected, vocabulary, set(text), [text])
    return vocabulary.encode(text)


def in_place(expected: str, vocabulary: Vocabulary, text: Text) -> Numbers:
    """The same of a text that is read where it is."""
    _check(expected, vocabulary, text.counts.keys(), text.pieces())
    return Numbers(text, vocabulary)


def _check(expected: str, vocabulary: Vocabulary, used: Iterable[str], pieces: Iterable[str]) -> None:
    if all(character in vocabulary for character in used):
        return
    letters = enumerate(itertools.chain.from_iterable(pieces))
    place, found = next((place, letter) for place, letter in letters if letter not in vocabulary)
    raise BadInput(
        f"{expected} in the {len(vocabulary)} characters of the training text, got {found!r} at position {place}. "
        "Leave it out, or train on a text that has it."
    )


def character_row(folder: str, text: Words) -> tuple[float, int, float]:
    """Bits a character on the text held back, ticks and seconds of training of a charlm run on the same text."""
    with told_by("wordlm", "charlm"):
        run = Run.open("charlm", folder)
    found = tuple(run.config["facts"].get(name) for name in ("sha256", "sha256_held_back"))
    if found != (text.parts or (text.sha256, None)):
        raise BadInput(
            f"wordlm: expected --characters to be a charlm run on the text of this run, got {folder}, of another text. "
            f"Train one by python -m seqjax charlm {text.options('RUN')}."
        )
    model, params, vocabulary = trained("wordlm", folder)
    numbers = vocabulary.encode("".join(["\n", *(" ".join(words) + "\n" for words in text.held_back)]))
    nats, count = log_loss(scorer(model), model, params, numbers, columns=32, lead=256)
    seconds = max(record.get("seconds", 0.0) for record in run.metrics())
    return sj.bits_per_character(nats / count), count, seconds
