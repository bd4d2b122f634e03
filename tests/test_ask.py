"""What a trained run answers: the stored runs, beside the same parameters asked in another way."""

import io
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

import seqjax as sj
from seqjax import models, tasks
from seqjax.__main__ import COMMANDS, main
from seqjax.recipes import addition, ask, execute, forecast, tag, translate, wordlm
from seqjax.recipes.classify import asking as classify
from seqjax.recipes.classify import sequences
from seqjax.recipes.language import pairs, salads, tagging, translators, words
from seqjax.recipes.running import asking, beside, learning
from seqjax.recipes.running.run import Run, kept, vocabularies
from seqjax.tasks.vocabulary import Vocabulary

RUNS = Path(__file__).with_name("runs")
NAMES = sorted(path.parent.name for path in RUNS.glob("*/config.json"))
LECTURE = (
    "j=8584\nfor x in range(8):j+=920\nb=(1500+j)\nprint((b+7567))",
    "i=8827\nc=(i-5347)\nprint((c+8704) if 2641<8500 else 5308)",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A copy of the runs and their data."""
    return shutil.copytree(RUNS, tmp_path_factory.mktemp("asked"), dirs_exist_ok=True)


@pytest.fixture(scope="module", autouse=True)
def _settings():
    """The runs are of float32."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True)
def _there(runs, monkeypatch):
    """They are the working directory."""
    monkeypatch.chdir(runs)


def opened(name):
    return Run.open(name, name)


def test_every_command_that_trains_can_be_asked():
    assert set(ask.PLACES) == set(COMMANDS) - {
        "ask",
        "compare",
        "sample",
        "score",
        "hmm-tag",
        "automaton",
        "gradients",
        "reservoir",
    }
    assert {name.removesuffix("-2") for name in NAMES} == set(ask.PLACES)


@pytest.mark.parametrize("name", quick(sorted(set(NAMES) - {"caption"}), "charlm-2"))
def test_the_example_of_a_run_is_a_question(name):
    """It is told to who asked something else."""
    asked = ask.asked_of(name)
    reply = asked.reply(asked.example)
    assert reply.text or name in ("translate", "speech")  # three updates may have taught them to say nothing
    assert not reply.unknown


def test_a_charlm_run_goes_on_as_sample_does_and_ranks_as_score_does(capsys):
    assert main(["sample", "charlm", "--prompt", "The cat"]) == 0
    expected = capsys.readouterr().out
    assert main(["ask", "charlm", "The cat"]) == 0
    assert capsys.readouterr().out == expected
    scores = {}
    for sentence in ("The old cat ran .", "The cat old ran ."):
        Path("one.txt").write_text("\n" + sentence)
        assert main(["score", "charlm", "--text", "one.txt"]) == 0
        scores[sentence] = float(capsys.readouterr().out.split("log-probability ")[1].split()[0])
    assert main(["ask", "charlm", " | ".join(scores)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines] == sorted(scores, key=scores.get, reverse=True)
    assert [float(line[0]) for line in lines] == pytest.approx(sorted(scores.values(), reverse=True), abs=0.006)


@pytest.fixture
def sums(monkeypatch):
    """Any run is asked for sums, and knows the digits below 5."""

    def reply(question):
        try:
            numbers = [int(number) for number in question.strip(" =").split("+")]
        except ValueError:
            raise asking.NoQuestion from None
        return asking.Reply(f"é{sum(numbers)}", asking.unknown(question, "01234+= "))

    monkeypatch.setattr(ask, "asked_of", lambda folder: asking.Asked("a sum", "27+81", reply))


@pytest.mark.usefixtures("sums")
def test_questions_come_from_arguments_a_file_or_standard_input(capsys, monkeypatch):
    def answers():
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert main(["ask", "addition", "2+3", "12 + 5 =", "--json"]) == 0
    expected = answers()
    assert expected == [
        {"question": "2+3", "answer": "é5", "unknown": [], "note": ""},
        {"question": "12 + 5 =", "answer": "é17", "unknown": ["5"], "note": ""},
    ]
    assert main(["ask", "addition", "2+3", "12 + 5 ="]) == 0
    assert capsys.readouterr().out == "é5\né17  (unknown: 5)\n"
    Path("sums.txt").write_text("2+3\n\n12 + 5 =\n")
    assert main(["ask", "addition", "--file", "sums.txt", "--json"]) == 0
    assert answers() == expected
    monkeypatch.setattr("sys.stdin", io.StringIO("2+3\n12 + 5 ="))
    assert main(["ask", "addition", "--json"]) == 0
    assert answers() == expected


@pytest.mark.usefixtures("sums")
def test_what_is_no_question_is_told_and_the_rest_goes_on(capsys):
    assert main(["ask", "addition", "2*3", "2+3"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert err == "ask: expected a sum, got '2*3'. Ask as in '27+81'.\n"
    assert main(["ask", "addition", "2*3", ""]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 2)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["nowhere", "2+3"], "ask: expected nowhere to be the folder of a run, got no config.json in it that names"),
        (["automaton", "2+3"], "ask: expected a run that can be asked, got automaton, of automaton. Ask one of trans"),
        (["addition", "2+3", "--file", "sums.txt"], "ask: expected questions or --file, got both."),
        (["addition", "--file", "none.txt"], "ask: "),
        (["addition", "--file", "empty.txt"], "ask: expected a sum of two whole numbers, got nothing."),
    ],
)
def test_what_cannot_be_asked_says_so(command, said, capsys):
    Path("automaton").mkdir(exist_ok=True)
    Path("automaton/config.json").write_text(json.dumps({"recipe": "automaton"}))
    Path("empty.txt").write_text("\n")
    assert main(["ask", *command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert len(err.splitlines()) == 1


def answered(name, recipe, sources, reverse):
    """What the recipe's own measure says that the run writes, with other sources and other padding beside it."""
    run = opened(name)
    options = run.options(recipe.Options)
    problem = tasks.addition(options.digits) if name == "addition" else tasks.execution(1, 1)
    code = pairs.Pairs.of(problem.source_symbols, problem.target_symbols, [tasks.Pair("0" * 77, "0" * 39)])
    model = pairs.network(options, code, reverse=reverse)
    params = learning.trained(run, learning.begin(options, model.init(jax.random.key(0))))
    batch = code.batch([tasks.Pair(source, "1") for source in sources])
    found = pairs.answerer(model, code.target)(params, batch).symbols
    return ["".join(code.target.decode(column)) for column in found.T]


@pytest.fixture
def decided(monkeypatch):
    """Runs whose parameters are five times as large: three updates taught them one answer to everything."""
    read = learning.trained
    monkeypatch.setattr(learning, "trained", lambda run, like: jax.tree.map(lambda x: 5 * x, read(run, like)))


@pytest.mark.usefixtures("decided")
def test_a_sum_is_answered_as_in_the_measure_of_the_recipe():
    asked = ask.asked_of("addition")
    replies = [asked.reply(question) for question in ("27+81", "9+ 30", "1234+5")]
    assert len({reply.text for reply in replies}) == 3
    assert [reply.text for reply in replies] == answered("addition", addition, ["27+81", "9+30", "1234+5"], True)
    assert [bool(reply.note) for reply in replies] == [False, False, True]


@pytest.mark.slow
@pytest.mark.usefixtures("decided")
def test_the_two_programs_of_the_lecture_as_they_stand(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(LECTURE) + "\n\nprint("))
    assert main(["ask", "execute", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert tuple(line["question"] for line in lines[:2]) == LECTURE
    expected = answered("execute", execute, [program + "\n" for program in LECTURE], False)
    assert [line["answer"] for line in lines[:2]] == expected
    assert expected[0] != expected[1]
    assert all("longer than the 38 characters" in line["note"] for line in lines[:2])


def test_a_scrambled_program_is_read_and_answered_in_our_letters():
    rewrite, back = execute.alphabets(scrambled=True)
    pair = tasks.execution(2, 1, scrambled=0).draw(np.random.default_rng(0), 1)[0]
    plain = tasks.execution(2, 1).draw(np.random.default_rng(0), 1)[0]
    assert (rewrite(plain.source), back(pair.target)) == (pair.source, plain.target)


@pytest.mark.slow
@pytest.mark.usefixtures("decided")
def test_a_number_is_translated_as_beside_others():
    run = opened("translate")
    asked = translate.to_ask(run)
    options = run.options(translate.Options)
    code = translate.languages(options, translate.lines(options)[0])
    both, start = translate.begin(options, code, translate.encoder_decoder(options, code))
    sources = [("seventy", "one", "thousand"), ("two",)]
    padded = tasks.pad([code.source.encode(source) for source in sources])
    params = learning.trained(run, start)[translate.MAIN]
    expected = both[translate.MAIN].translate(params, padded, options.longest + 2)
    assert asked.reply("Seventy-one thousand").text == " ".join(expected[0])
    assert asked.reply("two").text == " ".join(expected[1])
    assert asked.reply("two cats").unknown == ("cats",)


@pytest.mark.slow
@pytest.mark.usefixtures("decided")
@pytest.mark.parametrize("many", [3, 5])
def test_several_answers_of_one_group_are_those_of_a_plain_beam(capsys, many):
    """Of as many places as the run's own, or of more; the first is the answer without the option."""
    run = opened("translate")
    options = run.options(translate.Options)
    code = translate.languages(options, translate.lines(options)[0])
    model = translate.encoder_decoder(options, code)
    _, start = translate.begin(options, code, model)
    source = tasks.pad([code.source.encode(["seventy", "one", "thousand"])])
    params, state = model.encode(learning.trained(run, start)[translate.MAIN], translators.condition(source))
    pad, unk, bos, eos = code.specials
    found = sj.beam_search(
        model.decoder,
        params,
        state,
        jnp.array([bos]),
        length=options.longest + 2,
        width=max(options.beam, many),
        eos=eos,
        length_penalty=options.length_penalty,
        forbidden=[pad, unk, bos],
    )
    expected = [" ".join(code.target.decode(column)) for column in found.symbols[:many, :, 0]]
    assert main(["ask", "translate", "seventy-one thousand", "--n-best", str(many)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["".join(line[1:]) for line in lines] == expected
    assert [float(line[0]) for line in lines] == pytest.approx(found.scores[:many, 0].tolist(), abs=0.006)
    assert main(["ask", "translate", "seventy-one thousand"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == expected[0]


def test_groups_give_answers_that_begin_otherwise(monkeypatch):
    """As many as are asked for, each once, the best first; of parameters under which no answer ends."""
    run, read = opened("translate"), learning.trained
    languages = translate.languages(run.options(translate.Options), translators.numbers_spelled(0, 2000))
    monkeypatch.setattr(translate, "kept", lambda *_: languages)
    endless = lambda x: x.at[languages.specials[-1]].add(-50) if x.shape == (len(languages.target),) else 5 * x
    monkeypatch.setattr(learning, "trained", lambda *given: jax.tree.map(endless, read(*given)))
    asked, firsts = ask.asked_of("translate"), {}
    for groups in (1, 2, 4):
        lines = asked.several("seventy-one thousand", asking.Several(4, groups, 50.0)).text.splitlines()
        scores, answers = zip(*(line.split(maxsplit=1) for line in lines))
        assert list(map(float, scores)) == sorted(map(float, scores), reverse=True)
        assert len({*answers}) == 4
        firsts[groups] = len({answer.split()[0] for answer in answers})
    assert firsts[1] < firsts[2] < firsts[4] == 4
    note = asked.several("seventy-one thousand", asking.Several(4, 4, 0.0)).note
    assert note == "only 1 that differ"


def test_what_has_one_answer_or_fewer_than_groups_says_so(capsys):
    refused = {
        ("addition", "--n-best", "2"): "ask: expected a run of translate for --n-best 2, got addition.",
        ("translate", "--n-best", "2", "--groups", "3"): "ask: expected --n-best of at least the 3 --groups, an answer",
        ("translate", "--n-best", "2", "--diversity", "1"): "ask: expected no --diversity with --groups 1, got both.",
        ("translate", "--n-best", "0"): "ask: expected --n-best to be a whole number of at least 1, got 0.",
    }
    for command, said in refused.items():
        assert main(["ask", *command]) == 2
        assert capsys.readouterr().err.startswith(said)


@pytest.mark.slow
def test_a_sentence_is_tagged_as_beside_others():
    run = opened("tag")
    options = run.options(tag.Options)
    train, held_back, _ = tag.sentences(options)
    code = tagging.Code.of(train, options.characters)
    taggers, start = tag.begin(options, code)
    params = learning.trained(run, start)[tag.BOTH]
    expected = tagging.tag(taggers[tag.BOTH].answers, params, code, held_back[:9], buckets=1)
    asked = tag.to_ask(run)
    for sentence, tags in zip(held_back[:2], expected, strict=False):
        text = " ".join(map("/".join, zip(sentence.words, tags, strict=True)))
        assert asked.reply(" ".join(sentence.words)).text == text
    assert asked.reply("Alan Turing, the zorgon").unknown == ("zorgon",)


@pytest.mark.slow
def test_bits_are_classified_without_padding_alike():
    run = opened("classify")
    options = run.options(classify.Options)
    networks = classify.classifiers_of(options, sequences.parity(), 1)
    model, params = networks[options.cell], learning.trained(run, beside.begin(options, networks))[options.cell]
    _, ys = model.apply(params, model.initial_state(params), jnp.array([1, 0, 1, 1]))
    probs = np.exp(ys) / np.exp(ys).sum()
    asked = classify.to_ask(run)
    assert asked.reply("1011").text == f"{('even', 'odd')[probs.argmax()]} ({probs.max():.3f})"
    with pytest.raises(asking.NoQuestion, match="'2'"):
        asked.reply("12")


def test_how_sequences_are_typed():
    """Of every task of classify: what it reads is what the task draws."""
    read = lambda task, text: classify.typed_of(classify.Options(task=task), TASKS[task]()).read(text).tolist()
    assert read("halves", "3 9 9 3") == [3, 9, 9, 3]
    assert read("dna", "gATC") == ["ACGT".index(base) for base in "GATC"]
    assert read("larger-sum", "1 2; 0.5 3") == [[1, 2], [0.5, 3]]
    task = TASKS["surnames"]()
    name = classify.typed_of(classify.Options(task="surnames"), task).example
    assert task.tell(np.array(read("surnames", name))) == name
    assert len(name) > 3
    with pytest.raises(asking.NoQuestion, match="never seen: '7'"):
        read("surnames", "7")
    with pytest.raises(ValueError, match="expected a task whose sequences can be typed, got action"):
        read("action", "1")


TASKS = {
    "halves": sequences.halves,
    "dna": sequences.dna,
    "larger-sum": sequences.larger_sum,
    "surnames": lambda: sequences.surnames_of(classify.Options(), 0),
    "action": sequences.action,
    "digits": lambda: sequences.digits(classify.Options(), None, permuted=False, seed=0),
}


def test_a_picture_is_read_pixel_by_pixel():
    from matplotlib.image import imsave

    options, task = classify.Options(task="digits", permuted=True), TASKS["digits"]()
    height, width = classify.size_of(options)
    bright = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    imsave("digit.png", np.stack([bright] * 3, -1))
    typed = classify.typed_of(options, task)
    np.testing.assert_array_equal(typed.read("digit.png"), tasks.pixels(bright[None], permutation=0)[:, 0])
    imsave("wide.png", np.stack([bright[:, :-1]] * 3, -1))
    with pytest.raises(asking.NoQuestion, match=f"{height} × {width - 1} pixels, not {height} × {width}"):
        typed.read("wide.png")
    with pytest.raises(asking.NoQuestion, match="cannot be read as a picture"):
        typed.read("none.png")


@pytest.mark.slow
def test_a_series_goes_on_in_its_own_units():
    run = opened("forecast")
    options = run.options(forecast.Options)
    values = np.loadtxt("series.txt", ndmin=2)
    if values.shape[0] == 1:
        values = values.T
    cut = len(values) * 4 // 5
    model = forecast.network(options, 1)
    params = learning.trained(run, forecast.begin(options, model))
    xs = forecast.scaled(values, cut)[cut : cut + 30]
    _, ys = model.apply(params, model.initial_state(params), jnp.asarray(xs))
    expected = float(ys[-1, 0]) * values[:cut].std() + values[:cut].mean()
    reply = forecast.to_ask(run).reply(" ".join(str(value) for value in values[cut : cut + 30, 0]))
    ahead = [float(value) for value in reply.text.split("; ")]
    assert len(ahead) == options.horizon
    assert ahead[0] == pytest.approx(expected, rel=2e-3)
    assert not reply.note


@pytest.mark.slow
def test_a_wordlm_run_ranks_by_the_probability_of_sentences_and_says_what_it_does_not_know():
    run = opened("wordlm")
    asked = wordlm.to_ask(run)
    options = run.options(wordlm.Options)
    vocabulary = words.vocabulary_of(words.read("wordlm", "text.txt", at="marks", lower=False), 5000)
    used, method = wordlm.set_up(options, vocabulary, 1000)
    params = learning.trained(run, wordlm.begin(used, method))
    sentences = ["The old cat ran .", "ran The zebra ."]
    scores = [
        float(
            models.log_probability(
                method.model, params, vocabulary.encode(sentence.split(), eos=True), first=models.NOTHING
            )
        )
        for sentence in sentences
    ]
    reply = asked.reply(" | ".join(sentences))
    assert sorted(float(line.split()[0]) for line in reply.text.splitlines()) == pytest.approx(
        sorted(scores), abs=0.006
    )
    assert reply.unknown == ("zebra",)
    assert asked.reply("The old").text.startswith("The old ")


def test_a_run_says_what_its_numbers_mean_without_its_data(tmp_path):
    vocabulary = Vocabulary(["<unk>", "cat"])
    run = Run(tmp_path, {"facts": vocabularies(words=vocabulary)})
    assert kept(run, "words") == [vocabulary]
    assert kept(run, "words", "tags") is None


def test_all_words_of_the_salad_are_known_and_it_was_never_read():
    text = words.read("wordlm", None, at="marks", lower=False, default=salads.salads)
    vocabulary = words.vocabulary_of(text, 5000)
    assert asking.unknown(" ".join(salads.ASKED).split(), vocabulary) == ()
    assert not {"the apple and pear salad", "the apple and pair salad"} & {
        " ".join(s) for s in (*text.train(), *text.held_back)
    }


@pytest.mark.learning
def test_a_pear_belongs_in_a_salad(capsys):
    assert main(["wordlm", "--about", "salads", "--steps", "200", "--run-dir", "salads"]) == 0
    capsys.readouterr()
    assert main(["ask", "salads", " | ".join(reversed(salads.ASKED))]) == 0
    first, second = (line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (first[1], second[1]) == salads.ASKED
    assert float(first[0]) > float(second[0]) + 2
