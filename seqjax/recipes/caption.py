"""Pictures to words: a convolutional network reads a strip of digits, a recurrent one writes what it says.

    m = columns of maxpool(relu(conv(picture)))      p(y_t | y_1 … y_{t-1}, picture) = softmax([h_t, c_t] W + b)_{y_t}

c_t is where the writer looks: an average of the columns, weighted by attention. How many digits there are, and where,
it has to find out from captions alone. Or it sees the whole picture once, before it writes (--context state, first).
Strips are put together anew for every update, of digits in a bitmap font or of handwritten ones.

References:
  Vinyals et al. (2015), Show and tell: a neural image caption generator. https://arxiv.org/abs/1411.4555
  Xu et al. (2015), Show, attend and tell. https://arxiv.org/abs/1502.03044
"""

import dataclasses
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import tasks
from seqjax.base import Array, PyTree
from seqjax.models import Conditional, captioner, conditional_objective
from seqjax.recipes.language.pairs import answerer, some, written_from
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import drawing, learning, splits
from seqjax.recipes.running.asking import Asked, Reply, of_size
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import FolderOrNone, bad_input, check_not_negative, check_sizes
from seqjax.recipes.running.run import Run, digest, vocabularies
from seqjax.tasks.digits import INKS, NAMES

HELD_BACK, SHOWN = 1000, 8
WORDS = tasks.Vocabulary([tasks.PAD, tasks.BOS, tasks.EOS, *NAMES])
COLOURED = tasks.Vocabulary([*WORDS.symbols, *INKS])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions, splits.SplitOptions):
    """Trains a network to caption strips of digits, and draws strips with its captions."""

    data: FolderOrNone = None
    """Folder of the MNIST digits (train-images-idx3-ubyte and train-labels-idx1-ubyte, .gz or not), the last sixth held
    back; a font if none. --train, --held-back and --test are files of images, with their labels beside them."""
    shortest: int = 3
    """Digits on a strip, at least."""
    longest: int = 5
    """Digits on a strip, at most."""
    noise: float = 0.1
    """Standard deviation of the noise on every pixel."""
    colour: bool = False
    """Digits in red, green and blue, and captions that name their colours."""
    context: Literal["attention", "every-tick", "state", "first"] = "attention"
    """Whether the writer looks at single columns, sees their mean at every tick, or sees all of them once: as the state
    it starts from, or as what it reads first."""
    cell: CellName = "lstm"
    """The recurrence of the writer."""
    hidden_size: int = 128
    """Units of the writer, and features of a column."""
    channels: tuple[int, ...] = (16, 32)
    """Of each convolution; each halves height and width."""
    learning_rate: float = 2e-3
    steps: int = 2500

    def check(self, who: str) -> None:
        """Refuses numbers out of range."""
        super().check(who)
        check_sizes(who, self, "shortest", "longest", "hidden_size")
        check_not_negative(who, self, "noise")
        if not self.channels or min(self.channels) < 1:
            raise ValueError(
                f"{who}: expected --channels of positive sizes, got {self.channels}. Give some, as in 16 32."
            )
        if self.shortest > self.longest:
            raise ValueError(
                f"{who}: expected --shortest of at most --longest, got {self.shortest} and {self.longest}. Swap them."
            )


@trains
def main(options: Options) -> Course:
    """``python -m seqjax caption``."""
    # Data: strips put together from digits; those held back are of digits that no strip in training has.
    with bad_input("caption"):
        train, others, tested = digits_of(options)
        asked = strips(learning.generator(options), HELD_BACK, others, options)
        strips(learning.generator(options), 1, train, options)  # complains now of digits that are missing
        height, width = asked.images.shape[1:3]
        model = model_of(options, height, width)
    words, longest = words_of(options), longest_caption(options)

    def batch(drawn: tasks.Strips) -> sj.Batch:
        captions = [words.encode(caption, bos=True, eos=True) for caption in drawn.captions]
        columns = np.ascontiguousarray(np.moveaxis(drawn.images, 2, 0))
        return written_from(columns, tasks.pad(captions, length=longest + 2))

    # Training
    params = model.init(jax.random.key(options.seed))
    answer, held_back = answerer(model, words), batch(asked)
    test = None if tested is None else batch(strips(learning.generator(options), HELD_BACK, tested, options))
    kinds = len(NAMES) * (len(INKS) if options.colour else 1)
    chance = float(kinds) ** -options.shortest / (options.longest - options.shortest + 1)
    facts = {"sha256": digest(asked.images), **splits.facts(options)}
    folder = Run.start("caption", options, facts | vocabularies(words=words))
    print(
        f"strips of {options.shortest} to {options.longest} digits, {height} × {width} pixels; a guess is right for "
        f"{chance:.3%}\nmodel: {options.cell}, {learning.parameter_count(params):,} parameters"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        learning.begin(options, params),
        conditional_objective(model, sj.cross_entropy),
        lambda step: batch(strips(learning.generator(options, step), options.batch_size, train, options)),
        work=options.batch_size,
        unit="strips",
        evaluate=lambda params: answer(params, held_back).numbers,
        show_evaluation="held back: {exact:.1%} of captions, {symbols:.1%} of words right",
        best=learning.highest("exact"),
        test=None if test is None else lambda params: answer(params, test).numbers,
    )

    # What came out
    symbols, right, _ = answer(outcome.params, held_back)
    written = [words.decode(column) for column in symbols.T]
    shown = some(right, SHOWN)
    drawn = at_random(model, outcome.params, held_back.xs[0][:, shown], words, options)
    print(f"\n{'likeliest word by word':32} {'drawn at random':32}")
    for b, other in zip(shown, drawn):
        verdict = "right" if right[b] else f"wrong, it shows {' '.join(asked.captions[b])}"
        print(f"{' '.join(written[b]):32} {' '.join(other):32} {verdict}")
    said = [" ".join(written[b]) for b in shown]
    path = drawing.save(
        folder, "captions", "captions", images=[asked.images[b] for b in shown], said=said, right=right[shown]
    )
    picture = curves.draw(
        folder,
        {"whole captions": "exact", "single words, those before given": "symbols"},
        levels={"chance, whole captions": chance},
        x_scale=options.batch_size / 1000,
        x_label="strips seen (thousands)",
        y_label="share right of those held back",
        name="accuracy",
    )
    print(
        f"\nheld back: {outcome.numbers['exact']:.2%} of captions right (chance {chance:.3%}), "
        f"{outcome.numbers['symbols']:.2%} of words; {outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    figures = {name: outcome.numbers[name] for name in ("exact", "symbols")}
    learning.conclude(folder, "share right", figures, {"chance": chance}, outcome.test)
    print(f"run folder {folder.folder}, captions {path}, learning curve {picture}")


def words_of(options: Options) -> tasks.Vocabulary:
    """What captions are made of."""
    return COLOURED if options.colour else WORDS


def longest_caption(options: Options) -> int:
    """Words of the longest caption."""
    return options.longest * (2 if options.colour else 1)


def model_of(options: Options, height: int, width: int) -> Conditional:
    """A network that looks at strips of that size, and writes."""
    looking = captioner(
        height,
        width,
        len(words_of(options)),
        options.hidden_size,
        channels=options.channels,
        colours=len(INKS) if options.colour else None,
        context="every_tick" if options.context == "every-tick" else options.context,
        cell=CELLS[options.cell],
    )
    return columns_first(sj.mixed_precision(looking, options.products))


def to_ask(run: Run) -> Asked:
    """Pictures to caption."""
    options = run.options(Options)
    digits = digits_of(options)[0]
    height, width = strips(learning.generator(options), 1, digits, options).images.shape[1:3]
    model = model_of(options, height, width)
    params = learning.trained(run, learning.begin(options, model.init(jax.random.key(options.seed))))
    words, longest = words_of(options), longest_caption(options)
    bos = jnp.asarray(words.bos)

    def reply(question: str) -> Reply:
        picture = of_size(question.strip(), height, width, coloured=options.colour)
        decoder, state = model.encode(params, jnp.asarray(np.moveaxis(picture, 1, 0)[:, None]))
        found = sj.sample(model.decoder, decoder, state, bos, length=longest + 1, eos=words.eos)
        return Reply(" ".join(words.decode(np.asarray(found.symbols)[:, 0])))

    return Asked(f"a file with a picture of {height} × {width} pixels, bright on dark", "strip.png", reply)


class Digits(NamedTuple):
    """Pictures ``[n, height, width]`` and what they show ``[n]``, or None for the built-in font."""

    pictures: np.ndarray | None
    labels: np.ndarray | None


PRINTED = Digits(None, None)


def digits_of(options: Options) -> tuple[Digits, Digits, Digits | None]:
    """To learn from, held back, and of the test if there is one."""
    files = splits.files(options)
    if not files:
        return (*((PRINTED, PRINTED) if options.data is None else handwritten(options.data)), None)
    read = {name: tasks.read_labelled_images(path) for name, path in files.items()}
    parts = {name: Digits(*found) for name, found in read.items()}
    if "held_back" not in parts:
        parts["train"], parts["held_back"] = in_two(*read["train"])
    return parts["train"], parts["held_back"], parts.get("test")


def in_two(images: np.ndarray, labels: np.ndarray) -> tuple[Digits, Digits]:
    """The first five sixths to learn from, the rest to measure on."""
    cut = len(images) * 5 // 6
    return Digits(images[:cut], labels[:cut]), Digits(images[cut:], labels[cut:])


def strips(rng: np.random.Generator, count: int, digits: Digits, options: Options) -> tasks.Strips:
    """Digits side by side, as many as the options say."""
    return tasks.digit_strips(
        rng,
        count,
        pictures=digits.pictures,
        labels=digits.labels,
        shortest=options.shortest,
        longest=options.longest,
        noise=options.noise,
        coloured=options.colour,
    )


def handwritten(folder: str) -> tuple[Digits, Digits]:
    """The MNIST digits and their labels, in two parts."""
    paths = [Path(folder) / name for name in ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz")]
    return in_two(*tasks.read_labelled_images(next((path for path in paths if path.is_file()), paths[0])))


def columns_first(model: Conditional) -> Conditional:
    """The model reading pictures as ``[width, B, height, …]``: columns lead, as ticks do, and the batch comes second.

    A ramp from left to right is laid over them: attention finds columns by what they hold, and two equal digits would
    look alike wherever they stand.
    """

    def encode(params: PyTree, columns: Array, *, key: Array | None = None) -> tuple[PyTree, PyTree]:
        ramp = jnp.linspace(0, 1, columns.shape[0], dtype=columns.dtype)
        across = ramp if columns.ndim == 3 else ramp[:, None]  # the same for each colour
        return model.encode(params, jnp.moveaxis(columns, 0, 2) + across, key=key)

    return model._replace(encode=encode)


def at_random(
    model: Conditional, params: PyTree, columns: np.ndarray, words: tasks.Vocabulary, options: Options
) -> list[list[str]]:
    """A caption for each picture, every word drawn with the model's own probability."""
    decoder, state = model.encode(params, jnp.asarray(columns))
    first, key = jnp.asarray(words.bos), jax.random.fold_in(jax.random.key(options.seed), 2)
    found = sj.sample(model.decoder, decoder, state, first, length=longest_caption(options) + 1, eos=words.eos, key=key)
    return [words.decode(column) for column in np.asarray(found.symbols).T]
