"""Questions to a trained run: each line is one, and what the model does not know of it is said.

Every recipe says beside its ``main`` what its runs can be asked; language models go on with a beginning as `sample`
does, and rank sentences as `score` does.
"""

import dataclasses
import functools
import importlib
import json
import sys
from collections.abc import Iterator

import numpy as np
import tyro

from seqjax.recipes import sample, score
from seqjax.recipes.language import characters
from seqjax.recipes.language.speaker import language_model, ranked
from seqjax.recipes.running import config
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply, Several, encode, unknown
from seqjax.recipes.running.options import (
    BadInput,
    FileOrNone,
    Folder,
    ReadingOptions,
    bad_input,
    check_left_out,
    check_not_negative,
    check_sizes,
    told_by,
)
from seqjax.recipes.running.run import Run
from seqjax.tasks.texts import read_text

# Where a recipe's ``to_ask(run) -> Asked`` is; imported when a run of it is asked.
PLACES = {
    "translate": "seqjax.recipes.translate",
    "tag": "seqjax.recipes.tag",
    "execute": "seqjax.recipes.execute",
    "addition": "seqjax.recipes.addition",
    "classify": "seqjax.recipes.classify.asking",
    "charlm": "seqjax.recipes.ask",
    "wordlm": "seqjax.recipes.wordlm",
    "ngramlm": "seqjax.recipes.ngramlm",
    "agreement": "seqjax.recipes.agreement",
    "caption": "seqjax.recipes.caption",
    "speech": "seqjax.recipes.speech",
    "memory": "seqjax.recipes.memory.asking",
    "music": "seqjax.recipes.music",
    "forecast": "seqjax.recipes.forecast",
    "hmm-learn": "seqjax.recipes.hmm_learn",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ReadingOptions):
    """Asks a trained run: to translate, tag, execute, add, classify, go on, rank; a question a line."""

    run: tyro.conf.Positional[Folder]
    """The folder of a run."""
    questions: tyro.conf.Positional[tuple[str, ...]] = ()
    """Each is asked; those of --file, or the lines of standard input, if there are none."""
    file: FileOrNone = None
    """A UTF-8 text of questions, one a line; a program ends with the line that prints."""
    json: bool = False
    """Print a line of JSON for each: question, answer, unknown, note."""
    n_best: int = 1
    """So many different translations, best first, a line each behind the score that ranks them."""
    groups: int = 1
    """Groups of the search, each of which avoids the words that those before it write at the same place: answers that
    differ from their beginning on."""
    diversity: float = 0.5
    """What such a word costs, in nats."""

    def check(self, who: str) -> None:
        """Refuses questions from two places, and numbers out of range."""
        super().check(who)
        check_sizes(who, self, "n_best", "groups")
        check_not_negative(who, self, "diversity")
        if self.groups > self.n_best:
            raise ValueError(
                f"{who}: expected --n-best of at least the {self.groups} --groups, an answer each, got {self.n_best}. "
                "Raise it."
            )
        if self.groups == 1:
            check_left_out(who, self, "--groups 1", "diversity")
        if self.questions and self.file is not None:
            raise ValueError(f"{who}: expected questions or --file, got both. Leave one of them out.")


def main(options: Options) -> int:
    """``python -m seqjax ask RUN [QUESTION …]``; the status is 2 if nothing that was asked is a question."""
    asked = asked_of(options.run)
    reply_to = asked.reply
    if options.n_best > 1:
        if asked.several is None:
            raise BadInput(
                f"ask: expected a run of translate for --n-best {options.n_best}, got {options.run}. Leave it out."
            )
        how = Several(options.n_best, options.groups, options.diversity)
        reply_to = functools.partial(asked.several, several=how)
    answered, refused = 0, 0
    for question in questions(options, asked):
        try:
            reply = reply_to(question)
        except NoQuestion as error:
            refused += 1
            got = ", ".join(filter(None, (repr(question), str(error))))
            print(f"ask: expected {asked.kind}, got {got}. Ask as in {asked.example!r}.", file=sys.stderr)
        else:
            answered += 1
            print(as_json(question, reply) if options.json else told(reply), flush=True)
    if not answered and not refused:
        raise BadInput(f"ask: expected {asked.kind}, got nothing. Ask as in {asked.example!r}.")
    return 0 if answered else 2


def asked_of(folder: str) -> Asked:
    """What the run in a folder can be asked."""
    recipe = config.recipe_of("ask", folder)
    if recipe not in PLACES:
        raise BadInput(
            f"ask: expected a run that can be asked, got {folder}, of {recipe}. Ask one of {', '.join(PLACES)}."
        )
    with told_by("ask", recipe), bad_input(recipe):
        return importlib.import_module(PLACES[recipe]).to_ask(Run.open(recipe, folder))


def to_ask(run: Run) -> Asked:
    """Of a charlm run: a beginning that `sample` goes on with, or sentences that `score` ranks."""
    model, params, vocabulary = characters.trained("ask", str(run.folder))
    start = characters.encode_prompt("ask", vocabulary, None)

    def reply(sentences: list[str]) -> Reply:
        numbers = [encode(list(sentence), vocabulary, "characters") for sentence in sentences]
        if len(numbers) == 1:
            how = sample.Options(run=str(run.folder))
            return Reply(sample.written(model, params, vocabulary, numbers[0], how))
        scores = [score.log_probability(model, params, np.concatenate([start, one])) for one in numbers]
        return ranked(sentences, scores)

    return language_model(reply, "The " if not unknown("The ", vocabulary) else vocabulary.symbols[-1])


def questions(options: Options, asked: Asked) -> Iterator[str]:
    """Those of the command line, of a file, or of standard input as they are typed."""
    if options.questions:
        yield from options.questions
        return
    if options.file is not None:
        with bad_input("ask"):
            lines: Iterator[str] = iter(read_text(options.file).split("\n"))
    else:
        if sys.stdin.isatty():
            print(f"Ask {asked.kind}, as in {asked.example!r}; Ctrl-D ends.", file=sys.stderr)
        lines = (line.removesuffix("\n") for line in sys.stdin)
    begun = ""
    for line in lines:
        begun = f"{begun}\n{line}" if begun else line
        if begun.strip() and asked.whole(begun):
            yield begun
            begun = ""
        elif not begun.strip():
            begun = ""
    if begun:
        yield begun


def told(reply: Reply) -> str:
    """A reply, with what should be known of it in brackets behind."""
    unknown = f"unknown: {', '.join(reply.unknown)}" if reply.unknown else ""
    remarks = "; ".join(filter(None, (unknown, reply.note)))
    return f"{reply.text}  ({remarks})" if remarks else reply.text


def as_json(question: str, reply: Reply) -> str:
    """A question and its reply as a line of JSON."""
    line = {"question": question, "answer": reply.text, "unknown": reply.unknown, "note": reply.note}
    return json.dumps(line, ensure_ascii=False)
