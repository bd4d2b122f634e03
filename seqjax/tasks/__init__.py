"""Data: generated tasks with known answers, readers of files, vocabularies and batches. NumPy only.

A text becomes numbers, the numbers a batch, and `seqjax.objective` takes that batch:

    >>> from seqjax import tasks
    >>> lines = ["ab", "abba"]
    >>> vocabulary = tasks.Vocabulary.build(lines)
    >>> numbers = [vocabulary.encode(line, bos=True, eos=True) for line in lines]
    >>> batch = tasks.next_step(*tasks.pad(numbers))
    >>> batch.xs.shape, batch.lengths.tolist()
    ((5, 2), [3, 5])

In order of reading:

- `Problem`, `TextProblem`: what a generated task is. (problem) Memory: `adding`, `copy_memory`, `latch`,
  `temporal_order` (memory); `associative_recall`, `selective_copying` (recall). Whole sequences: `parity`,
  `larger_sum`, `halves_are_identical` (classification).
  Programs: `addition`, `execution` (execution); `number_spelling` (spelling); sentences: `agreement` (sentences),
  `homograph_sentences` (homographs); `embedded_reber` (reber); series: `mackey_glass` (series); `digit_strips`
  (digits); `frames`; `applications`.
- `read_text`, `read_pairs`, …: readers of files. (readers, arrays, on archives and matlab) `surnames` brings its own.
  (surnames)
- `Vocabulary`, `words`, `Subwords`: symbols as numbers. (vocabulary, subwords)
- `open_text`: a `Text` that is read in place, `Numbers` of it, and windows of those. (texts, on stored)
- `pad`, `batches`, `streams`, `crops`, `split`: batches. (batches, on buckets)
- `next_step`, `packed`: the next tick as target, sequences side by side or one behind the other. (packing)
- `spans`, `span_f1`: what a tagger found. (spans)
"""

from seqjax.tasks import applications, frames
from seqjax.tasks.arrays import read_idx, read_labelled_images, read_piano_rolls, read_series
from seqjax.tasks.batches import (
    BatchSource,
    Drawn,
    Padded,
    Position,
    batches,
    crops,
    pad,
    split,
    streams,
)
from seqjax.tasks.buckets import Buckets, buckets
from seqjax.tasks.classification import (
    halves_are_identical,
    identical_halves,
    larger_sum,
    parity,
    pixels,
    running_parity,
)
from seqjax.tasks.digits import Strips, digit_strips
from seqjax.tasks.execution import addition, curriculum, execution, program, scramble
from seqjax.tasks.frames import four_voices, music_floor, poses, walk
from seqjax.tasks.homographs import homograph_sentences
from seqjax.tasks.memory import adding, copy_memory, latch, signed_adding, temporal_order
from seqjax.tasks.packing import next_step, packed
from seqjax.tasks.problem import Examples, Pair, Problem, TextProblem
from seqjax.tasks.readers import (
    Sentence,
    read_conllu,
    read_labelled,
    read_lines,
    read_pairs,
    read_parallel,
)
from seqjax.tasks.reber import embedded_reber, reber_legal
from seqjax.tasks.recall import associative_recall, selective_copying
from seqjax.tasks.sentences import agreement, entity_sentences, part_of_speech_sentences
from seqjax.tasks.series import mackey_glass, next_values
from seqjax.tasks.spans import Span, SpanScore, span_f1, spans
from seqjax.tasks.spelling import english, french, number_spelling
from seqjax.tasks.subwords import Subwords
from seqjax.tasks.surnames import surnames
from seqjax.tasks.texts import Numbers, Text, open_text, read_text
from seqjax.tasks.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary, words

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "SPECIALS",
    "UNK",
    "BatchSource",
    "Buckets",
    "Drawn",
    "Examples",
    "Numbers",
    "Padded",
    "Pair",
    "Position",
    "Problem",
    "Sentence",
    "Span",
    "SpanScore",
    "Strips",
    "Subwords",
    "Text",
    "TextProblem",
    "Vocabulary",
    "adding",
    "addition",
    "agreement",
    "applications",
    "associative_recall",
    "batches",
    "buckets",
    "copy_memory",
    "crops",
    "curriculum",
    "digit_strips",
    "embedded_reber",
    "english",
    "entity_sentences",
    "execution",
    "four_voices",
    "frames",
    "french",
    "halves_are_identical",
    "homograph_sentences",
    "identical_halves",
    "larger_sum",
    "latch",
    "mackey_glass",
    "music_floor",
    "next_step",
    "next_values",
    "number_spelling",
    "open_text",
    "packed",
    "pad",
    "parity",
    "part_of_speech_sentences",
    "pixels",
    "poses",
    "program",
    "read_conllu",
    "read_idx",
    "read_labelled",
    "read_labelled_images",
    "read_lines",
    "read_pairs",
    "read_parallel",
    "read_piano_rolls",
    "read_series",
    "read_text",
    "reber_legal",
    "running_parity",
    "scramble",
    "selective_copying",
    "signed_adding",
    "span_f1",
    "spans",
    "split",
    "streams",
    "surnames",
    "temporal_order",
    "walk",
    "words",
]
