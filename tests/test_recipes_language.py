"""The recipes of text and of sequences to tell apart: what they leave, print and draw, resuming, bad input."""

import contextlib
import functools
import io
import itertools
import json
import os
import shutil
import signal
import types
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from marks import quick

import seqjax as sj
from seqjax import tasks
from seqjax.__main__ import main
from seqjax.recipes import classify, tag, translate
from seqjax.recipes.classify import sequences
from seqjax.recipes.language import ngrams, tagging, text, translators, words
from seqjax.recipes.running import beside, learning
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import JsonLines
from seqjax.tasks.vocabulary import EOS, UNK, Vocabulary

TINY = ["--steps", "4", "--batch-size", "4", "--hidden-size", "6", "--embedding-size", "4"]
LINES = [f"The {a} {b} {c} ." for a, b, c in itertools.product(["old", "small"], ["cat", "dog", "hen"], ["ran", "ate"])]
TEXT = "\n".join(LINES * 8) + "\n"
COMMANDS = {
    "tag": (
        [*TINY, "--cell", "elman", "--character-size", "3", "--character-hidden-size", "3", "--buckets", "1"],
        ["both ways: accuracy", "left to right: accuracy", "true"],
        ["f1.png", "confusion.png"],
    ),
    "translate": (
        [*TINY, "--cell", "elman", "--held-back", "12", "--beam", "2", "--buckets", "1"],
        ["translator:", "aligned:", "BLEU (13a)"],
        ["exact.png", "attention.png"],
    ),
    "classify": (
        [*TINY, "--cell", "elman", "--task", "surnames"],
        ["→", "parameters", "chance"],
        ["accuracy.png", "confusion.png"],
    ),
    "wordlm": (
        [*TINY, "--window", "8", "--text", "text.txt", "--rank", "The old cat ran.", "The cat ran old."],
        ["likeliest next words", "by their probability", "sentences of its own", "bigram model"],
        ["perplexity.png", "text.txt"],
    ),
    "ngramlm": (
        [*TINY, "--window", "8", "--text", "text.txt", "--length", "20", "--context", "3"],
        ["fixed window", "recurrent", "4-grams counted"],
        ["loss.png"],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Few examples are enough."""
    patch.setattr(learning, "EVALUATIONS", 2)
    patch.setattr(tag, "SENTENCES", (60, 20))
    patch.setattr(translate, "GENERATED", 150)
    patch.setattr(sequences, "HELD_BACK", 40)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A recipe's name to its run, never stopped, and what it printed; made when first asked for, then to be read."""

    @functools.cache
    def made(name):
        place, out = tmp_path_factory.mktemp(name), io.StringIO()
        (place / "text.txt").write_text(TEXT)
        with contextlib.chdir(place), contextlib.redirect_stdout(out):
            assert main([name, *COMMANDS[name][0], "--run-dir", "run"]) == 0
        return place / "run", out.getvalue()

    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(COMMANDS, "ngramlm", "wordlm"))
def test_a_run_leaves_its_files_and_says_what_it_learned(name, runs):
    _, said, files = COMMANDS[name]
    folder, out = runs(name)
    for words_said in said:
        assert words_said in out
    run = Run.open(name, folder)
    assert run.config["options"]["hidden_size"] == 6
    records = run.metrics()
    assert [record["step"] for record in records] == [1, 2, 2, 4, 4]
    assert all(np.isfinite(value) for record in records for value in record.values())
    assert run.last_step() == 4
    if (
        name == "tag"
    ):  # two taggers beside each other: what is shown is the loss of one, in the beginning that of a guess
        assert records[0]["loss"] == pytest.approx(np.log(7), abs=0.6)
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 4
    assert result["figures"]
    assert result["floors"]
    for file in files:
        assert (folder / file).stat().st_size > 500


# Going on


def numbers(run):
    """Losses and evaluations of a run by step, without its times."""
    kept = ("loss", "gradient_norm", "nats", "accuracy", "f1")
    return [{k: v for k, v in r.items() if k == "step" or k.startswith(kept)} for r in Run.open(*run).metrics()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tag", "ngramlm"])
def test_stopped_and_resumed_equals_never_stopped(name, runs, folder, monkeypatch, capsys):
    arguments, log = COMMANDS[name][0], JsonLines.log

    def log_and_interrupt(self, step, numbers):
        log(self, step, numbers)
        if step == 2 and "loss" in numbers:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "log", log_and_interrupt)
        assert main([name, *arguments, "--run-dir", "two"]) == 130
    assert f"Go on with: python -m seqjax {name} --resume two" in capsys.readouterr().err
    assert Run.open(name, "two").last_step() == 3
    assert main([name, "--resume", "two"]) == 0
    whole, two = numbers((name, runs(name)[0])), numbers((name, "two"))
    assert whole[-1] == two[-1]
    assert len(whole[-1]) > 2


@pytest.mark.slow
def test_a_preset_trains_as_published(folder, capsys):
    """Loss summed over 20 words and averaged over 20 streams; the state goes on; plain descent at rate 1."""
    assert main(["wordlm", "--preset", "small", "--steps", "2", "--text", "text.txt", "--run-dir", "run"]) == 0
    assert "small: 1 updates an epoch; the paper trains 13 epochs" in capsys.readouterr().out
    first, *_ = Run.open("wordlm", "run").metrics()
    kinds = len(set(TEXT.split())) + 2
    assert first["loss"] == pytest.approx(20 * np.log(kinds), rel=0.01)  # all words alike in the beginning
    assert first["perplexity"] == pytest.approx(kinds, rel=0.2)


def test_help_lists_the_recipes(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


# What the recipes share


@pytest.mark.slow
def test_side_by_side_is_each_alone():
    """Two models of different sizes, one of them with large gradients that are clipped."""
    rng = np.random.default_rng(0)
    xs, targets = rng.integers(0, 5, (4, 6, 3)), rng.integers(0, 5, (4, 6, 3))
    layers = {name: sj.models.language_model(5, size) for name, size in (("small", 3), ("large", 7))}
    losses = {
        "small": lambda ys, t, m: jax.tree.map(
            lambda a: a * 50 if a.dtype.kind == "f" else a, sj.cross_entropy(ys, t, m)
        ),
        "large": sj.cross_entropy,
    }
    objectives = {name: sj.objective(layer, losses[name]) for name, layer in layers.items()}
    params = beside.parameters({name: layer.init for name, layer in layers.items()}, jax.random.key(0))
    optimizer = optax.adam(0.1)

    def train(objective, params, clip, memory):
        step = sj.train_step(objective, optimizer, clip=clip)
        state = sj.train_state(params, optimizer)
        for x, t in zip(xs, targets):
            state, _, metrics = step(state, memory, sj.Batch(x, t))
        return state.params, metrics.clipped

    memory = {name: layer.initial_state(params[name], (3,)) for name, layer in layers.items()}
    both, _ = train(beside.together(objectives), params, beside.clip_each(0.5), memory)
    clipped = {}
    for name, objective in objectives.items():
        alone, clipped[name] = train(objective, params[name], sj.clip_by_global_norm(0.5), memory[name])
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(both[name])):
            np.testing.assert_allclose(a, b, rtol=1e-9)
    assert clipped["small"]


def test_batches_by_number_are_those_in_order():
    sequences = [np.arange(n) for n in (1, 2, 3, 4, 5, 6, 7)]
    plan = tasks.buckets(np.array([len(s) for s in sequences]), 2)
    expected = list(itertools.islice(tasks.batches([sequences], plan, 2, seed=3, epochs=4), 14))
    batch = learning.numbered([sequences], plan, 2, seed=3)
    for step in (0, 1, 2, 9, 10, 4, 13):
        found = batch(step)
        np.testing.assert_array_equal(found.fields[0].values, expected[step].fields[0].values)
        np.testing.assert_array_equal(found.examples, expected[step].examples)


# Words


def test_a_text_as_sentences_of_words(folder):
    read = words.read("wordlm", "text.txt", at="marks", lower=True)
    (folder / "copy").mkdir()
    read.copy(folder / "copy")
    text = (folder / "copy" / "text.txt").read_text()
    assert text == TEXT.lower()
    whole = [*read.train(), *read.held_back]
    assert whole == [line.lower().split() for line in TEXT.splitlines()]
    held_back = "".join(" ".join(sentence) + "\n" for sentence in read.held_back)
    assert words.characters(read.held_back) == len(held_back)
    assert text.endswith(held_back)
    share = len(held_back) / len(text)
    assert 0.05 < share <= 0.1
    vocabulary = words.vocabulary_of(read, 6)
    assert vocabulary.symbols[:4] == (UNK, EOS, ".", "the")
    stream = words.number(vocabulary, read.held_back[:2])[:]
    assert (stream == vocabulary.eos).sum() == 2
    assert words.told(["a", "(", "b", ")", ",", "c", "."]) == "a (b), c."


def test_unknown_words_cost_what_their_letters_cost():
    train = [["a", "a", "bb", "bc"], ["a", "cb"]]
    counts = Counter(itertools.chain(*train))
    read = types.SimpleNamespace(train=lambda: train, counts=counts, held_back=[["a", "cc"], ["ab", "a"]])
    vocabulary = words.vocabulary_of(read, 10)
    assert vocabulary.symbols == (UNK, EOS, "a")
    letters = Vocabulary(sorted(" abc"))
    expected = 6 * ngrams.ngram_nats(letters.encode(" bb bc cb "), letters.encode(" cc ab "), 4, 3)[-1]
    assert words.unknown_nats(vocabulary, read) == pytest.approx(expected)
    assert words.unknown_nats(Vocabulary([UNK, EOS, "a", "cc", "ab"]), read) == 0


@pytest.mark.slow
def test_sentences_are_scored_each_from_nothing():
    """With an end symbol, the log loss of a text is the sum over its sentences, each by itself."""
    model = sj.models.language_model(4, 5)
    params = jax.tree.map(lambda p: 3 * p, model.init(jax.random.key(0)))
    sentences = [[0, 2, 3], [2, 3], [0, 0, 2, 2, 3], [3], [2, 0, 3]]
    stream = np.concatenate([[3], *sentences]).astype(np.int32)
    nats, count = text.log_loss(text.scorer(model), model, params, stream, columns=2, lead=8, end=3)
    scores = [sj.models.log_probability(model, params, np.array(s), first=sj.models.NOTHING) for s in sentences]
    assert count == len(stream) - 1
    assert nats == pytest.approx(-float(sum(scores)), rel=1e-9)


@pytest.mark.slow
def test_documentation_is_english(tmp_path):
    source = (
        b'"""Say it. See below: it is the first of many lines.\n\n>>> f(1)\n"""\n'
        b'def f():\n    """Returns what it was given (all of it)."""\n'
    )
    assert text.documented(source) == [
        "See below: it is the first of many lines.",
        "Returns what it was given (all of it).",
    ]
    assert text.documented(b"def (") == []
    lines = text.documentation(20_000).splitlines()
    assert 20_000 <= sum(map(len, lines)) + len(lines) < 120_000
    assert len(set(lines)) == len(lines)


@pytest.mark.slow
def test_words_beside_characters(runs, folder, capsys):
    """As the run says itself: characters on the text that it leaves, then both in one table."""
    made, out = runs("wordlm")
    shutil.copytree(made, folder / "run")
    assert "python -m seqjax charlm --text run/text.txt" in out
    assert "python -m seqjax wordlm --resume run --characters CHARLM_RUN" in out
    tiny = ["--steps", "2", "--batch-size", "4", "--window", "8", "--hidden-size", "6", "--embedding-size", "4"]
    assert main(["charlm", "--text", "run/text.txt", *tiny, "--length", "5", "--run-dir", "characters"]) == 0
    capsys.readouterr()
    assert main(["wordlm", "--resume", "run", "--characters", "characters"]) == 0
    out = capsys.readouterr().out
    held_back = words.read("wordlm", "text.txt", at="marks", lower=False).held_back
    rows = dict(line.split(":", 1) for line in out.splitlines() if "bits a character in" in line)
    assert f"in {sum(len(s) + 1 for s in held_back):,} ticks" in rows["words"]
    assert f"in {words.characters(held_back):,} ticks" in rows["characters"]
    assert {"bits_words", "bits_characters"} <= json.loads(Path("run/result.json").read_text())["figures"].keys()


@pytest.mark.slow
def test_words_beside_characters_of_texts_that_are_split_already(folder, capsys):
    """On copies of them as words, which are the files themselves if these are such; others are refused."""
    (folder / "train.txt").write_text("\n".join(LINES[2:] * 4) + "\n\n")
    (folder / "held.txt").write_text("".join(f" {line}\n" for line in LINES[:6]))
    tiny = ["--steps", "2", "--batch-size", "4", "--window", "8", "--hidden-size", "6", "--embedding-size", "4"]
    files = ["--train", "train.txt", "--held-back", "held.txt"]
    assert main(["wordlm", *tiny, *files, "--run-dir", "run"]) == 0
    copies = "--train run/train.txt --held-back run/held_back.txt"
    assert f"To compare with characters: python -m seqjax charlm {copies}, then" in capsys.readouterr().out
    more = ["--length", "5", "--run-dir"]
    assert main(["charlm", *copies.split(), *tiny, *more, "characters"]) == 0
    validated = json.loads(Path("characters/result.json").read_text())["figures"]["validation_bits"]
    assert main(["charlm", *files, *tiny, *more, "raw"]) == 0
    assert main(["charlm", "--train", "run/train.txt", "--held-back", "run/train.txt", *tiny, *more, "others"]) == 0
    assert main(["charlm", "--text", "run/train.txt", *tiny, *more, "by-rule"]) == 0
    capsys.readouterr()
    for other in ("raw", "others", "by-rule"):
        assert main(["wordlm", "--resume", "run", "--characters", other]) == 2
        remedy = "Train one by python -m seqjax charlm --train RUN/train.txt --held-back RUN/held_back.txt."
        assert f"got {other}, of another text. {remedy}" in capsys.readouterr().err
    assert main(["wordlm", "--resume", "run", "--characters", "characters"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("characters:")]
    bits, ticks = float(row.split()[1]), int(row.split()[6])
    assert ticks == sum(len(line) + 1 for line in LINES[:6])
    assert bits == pytest.approx(validated, rel=0.01)  # of which the first character is no part
    (folder / "as_words.txt").write_text("".join(f"{line}\n" for line in LINES[:6]))
    files = ["--train", "run/train.txt", "--held-back", "as_words.txt"]
    assert main(["wordlm", *tiny, *files, "--characters", "characters", "--run-dir", "beside"]) == 0
    assert row in capsys.readouterr().out.splitlines()


# Tags


def test_the_commonest_tag_of_each_word():
    train = [tasks.Sentence(("a", "b", "a"), ("X", "Y", "X")), tasks.Sentence(("a", "c"), ("Z", "X"))]
    held_back = [tasks.Sentence(("b", "d", "a"), ("Y", "Y", "Z")), tasks.Sentence(("c",), ("X",))]
    assert tagging.commonest(train, held_back) == [("Y", "X", "X"), ("X",)]
    assert tagging.scores(tagging.commonest(train, held_back), held_back) == {"accuracy": 0.5}


def test_long_words_keep_their_beginning_and_their_end():
    sentence = tasks.Sentence(("abcdefghij", "Abc"), ("X", "Y"))
    code = tagging.Code.of([sentence], 6)
    row = code.encode(sentence)
    assert row.shape == (2, 8)
    spelled = ["".join(code.characters.symbols[i] for i in word if i) for word in row[:, 2:]]
    assert spelled == ["abghij", "Abc"]
    assert [code.words.symbols[i] for i in row[:, 1]] == ["abcdefghij", "abc"]
    assert [code.tags.symbols[i] for i in row[:, 0]] == ["X", "Y"]
    other = code.encode(tasks.Sentence(("zzz",), ("Q",)))
    assert other[0, 0] == -1
    assert other[0, 1] == code.words.unk


@pytest.mark.slow
def test_tags_found_are_those_of_each_sentence_by_itself():
    small = dict.fromkeys(("hidden_size", "embedding_size", "character_size", "character_hidden_size"), 3)
    options = tag.Options(**small, cell="elman", dropout=0)
    sentences, *_ = tag.sentences(options)
    assert len(sentences[0].words) != len(sentences[1].words)  # one of them is padded
    code = tagging.Code.of(sentences, 12)
    tagger = tag.tagger(options, code, both_ways=True)
    params = jax.tree.map(lambda p: 2 * p, tagger.model.init(jax.random.key(0)))
    found = tagging.tag(tagger.answers, params, code, sentences[:2], buckets=1)
    for sentence, tags in zip(sentences, found):
        row = code.encode(sentence)[:, None]
        words_read = sj.models.Words(row[..., 1], row[..., 2:])
        _, ys = tagger.model.apply(params, tagger.model.initial_state(params, (1,)), words_read)
        assert tags == tuple(code.tags.symbols[int(y)] for y in ys[:, 0].argmax(-1))
    counts = tagging.confusion(found, sentences[:2], code.tags)
    assert counts.sum() == sum(len(s.words) for s in sentences[:2])
    right = sum(f == t for tags, s in zip(found, sentences) for f, t in zip(tags, s.tags))
    assert np.trace(counts) == right
    assert tagging.scores(found, sentences[:2])["accuracy"] == right / counts.sum()


# Translation


def test_no_source_is_on_both_sides(folder):
    lines = [f"one {w} {v}\tun {w}" for w in "abcdefgh" for v in ("x", "y")] * 2 + ["one a x\tun autre a"]
    (folder / "pairs.tsv").write_text("\n".join(lines))
    options = translate.Options(data="pairs.tsv", held_back=4, batch_size=4)
    train, held_back, _ = translate.lines(options)
    assert len(held_back) == 4
    assert all(p.text == " ".join(p.target) for p in held_back)
    assert not {p.source for p in train} & {p.source for p in held_back}
    assert len({p.source for p in held_back}) == 4
    assert len(set(train)) == len(train)
    assert {p.source for p in train} | {p.source for p in held_back} == {
        tuple(ln.split("\t")[0].split()) for ln in lines
    }


@pytest.mark.slow
def test_where_the_translator_looks():
    vocabulary = Vocabulary([*tasks.SPECIALS, "a", "b", "c"])
    options = translate.Options(hidden_size=4, embedding_size=3, beam=1, length_penalty=0.0)
    languages = translators.Languages(vocabulary, vocabulary)
    model = translate.encoder_decoder(options, languages)
    params = jax.tree.map(lambda p: 3 * p, model.init(jax.random.key(2)))
    weights, said = translators.looked_at(model, languages, params, ("a", "b", "c", "a"), 6)
    assert weights.shape == (len(said), 4)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-9)
    sources = tasks.pad([vocabulary.encode("abca"), vocabulary.encode("ab")])
    written = [
        translators.searching(model, languages, 3, 0.0, coverage).translate(params, sources, 5)
        for coverage in (0.0, 9.0)
    ]
    assert written[0] != written[1]
    batch = translators.batch(
        sources, tasks.pad([vocabulary.encode("ba", eos=True), vocabulary.encode("c", eos=True)]), languages
    )
    assert batch.xs[1].T.tolist() == [[2, 5, 4], [2, 6, 3]]
    assert batch.mask.T.tolist() == [[True] * 3, [True, True, False]]
    assert batch.xs[2].T.tolist() == [[4, 5, 6], [4, 5, 0]]
    assert translate.bleu([("un", "deux", "trois", "quatre", ".")], ["un deux trois quatre."]) == pytest.approx(100)


# Classes


@pytest.mark.parametrize("task", ["halves", "parity", "larger_sum", "dna", "action", "sentiment"])
def test_tasks_draw_what_they_say(task):
    made = getattr(sequences, task)()
    examples = made.draw(np.random.default_rng(0), 12)
    assert len(examples.targets) == 12
    assert examples.targets.max() < len(made.classes)
    assert bool(made.symbols) != bool(made.features)
    assert examples.xs.ndim == (2 if made.symbols else 3)
    assert isinstance(made.tell(examples.xs[examples.mask[:, 0], 0]), str)
    for length in made.lengths[:3]:
        longer = made.at(np.random.default_rng(1), length)
        assert longer.mask.all()
        assert len(longer.xs) == length
        assert 0.3 < longer.targets.mean() < 0.7


def test_parity_beyond_training_is_asked_of_all_lengths():
    label, draw = sequences.parity().beyond
    examples = draw(np.random.default_rng(0))
    lengths = examples.mask.sum(0)
    assert label == "41 to 500"
    assert (lengths.min(), lengths.max()) == pytest.approx((41, 500), rel=0.3)
    assert lengths.min() > 40
    assert (examples.targets == (examples.xs * examples.mask).sum(0) % 2).all()


@pytest.mark.slow
def test_a_run_says_how_far_beyond_training_it_holds(folder, capsys, monkeypatch):
    monkeypatch.setattr(sequences, "HELD_BACK", 8)
    short = tasks.parity(1, 12)  # one block of convolutions sees all of it
    made = sequences.parity()._replace(lengths=(2,), draw=short.draw, held_back=lambda rng: short.draw(rng, 8))
    monkeypatch.setattr(sequences, "parity", lambda: made)
    command = ["classify", "--task", "parity", "--cell", "tcn", "--hidden-size", "2", "--embedding-size", "2"]
    assert main([*command, "--steps", "1", "--batch-size", "4", "--run-dir", "run"]) == 0
    assert "T=41 to 500" in capsys.readouterr().out
    result = json.loads(Path("run/result.json").read_text())
    assert result["floors"] == {"chance": 0.5}
    names = ("tcn", "feed-forward")
    assert set(result["figures"]) == {*names, *(f"{n}, T={t}" for n in names for t in ("2", "41 to 500"))}


def test_the_control_sees_a_few_bits_only():
    task = sequences.parity()
    control = classify.feed_forward(classify.Options(task="parity", hidden_size=3, embedding_size=2), task)
    params = control.init(jax.random.key(0))
    bits = np.random.default_rng(0).integers(0, 2, (12, 4)).astype(np.int32)
    every = np.ones((12, 4), bool)
    examples = tasks.Examples(bits, bits[0], every, every[0])
    before, within = bits.copy(), bits.copy()
    before[: 12 - classify.WINDOW] ^= 1
    within[12 - classify.WINDOW] ^= 1
    found = [classify.answers(control, params, examples._replace(xs=xs)) for xs in (bits, before, within)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert (np.abs(found[0] - found[2]) > 1e-4).all()


def test_files_of_digits_and_of_names(tmp_path):
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (60, 4, 3)).astype(np.uint8), (np.arange(60) % 10).astype(np.uint8)
    for name, array in (("images", pictures), ("labels", labels)):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / name).write_bytes(head + array.tobytes())
    files = str(tmp_path / "images"), str(tmp_path / "labels")
    task = sequences.digits(classify.Options(data=files[0]), files[1], permuted=True, seed=0)
    held_back = task.held_back(rng)
    assert held_back.xs.shape == (12, 10, 1)
    label_of = {tuple(sorted(picture.ravel())): label for picture, label in zip(pictures, labels)}
    for examples in (task.draw(rng, 30), held_back):
        for xs, label in zip(np.moveaxis(examples.xs, 1, 0), examples.targets):
            assert label_of[tuple(sorted(np.round(255 * xs[:, 0]).astype(int)))] == label
    with pytest.raises(ValueError, match=r"expected pictures \[n, height, width\] and as many labels 0 to 9"):
        sequences.digits(classify.Options(data=files[1]), files[0], permuted=False, seed=0)

    (tmp_path / "Irish.txt").write_text("\n".join(f"O'{c}" for c in "abcdefghij") + "\n")
    (tmp_path / "Greek.txt").write_text("\n".join(f"{c}is" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcd") + "\n")
    names = sequences.surnames_of(classify.Options(data=str(tmp_path)), 0)
    assert names.classes == ("Greek", "Irish")
    examples, held_back = names.draw(rng, 50), names.held_back(rng)
    assert held_back.xs.shape[1] == 8
    assert names.chance == max(held_back.targets.mean(), 1 - held_back.targets.mean())
    for xs, mask, label in zip(examples.xs.T, examples.mask.T, examples.targets):
        assert names.classes[label] == ("Irish" if names.tell(xs[mask]).startswith("O'") else "Greek")


def test_answers_told_in_words():
    dna = sequences.dna()
    assert dna.tell(np.array([0, 3, 0, 3, 0, 0, 3, 2])) == "aTATAATg"
    action = sequences.action()
    frames = np.zeros((2, 8, 8))
    frames[0, 2:4, 3:5] = frames[1, 2:4, 4:6] = 1
    assert action.tell(frames.reshape(2, 64)) == "spot at (row, column) (2,3) (2,4)"
    halves = sequences.halves()
    assert [int(tasks.halves_are_identical(xs)) for xs, _ in halves.shown] == [label for _, label in halves.shown]


# Bad input

BAD = {
    "cell twice": (
        ["classify", "--compare", "--cell", "lstm"],
        "classify: expected no --cell with --compare, got both.",
    ),
    "convolutions": (
        ["classify", "--cell", "tcn", "--layers", "2"],
        "classify: expected no --layers with --cell tcn, got both.",
    ),
    "preset": (
        ["wordlm", "--preset", "small", "--clip", "2"],
        "wordlm: expected no --clip with --preset small, got both.",
    ),
    "order": (["classify", "--permuted"], "classify: expected no --permuted with --task halves, got both."),
    "no sentences": (["tag", "--held-back", "x"], "tag: expected --train with --held-back, got none."),
    "no treebank": (["tag", "--train", "none"], "tag: none: expected a file, got none."),
    "not conllu": (
        ["tag", "--train", "text.txt"],
        "tag: text.txt, line 1: expected 10 columns separated by tabs, got 1.",
    ),
    "word dropout": (["tag", "--word-dropout", "-1"], "tag: expected --word-dropout of at least 0 and finite"),
    "no pairs": (
        ["translate", "--data", "text.txt"],
        "translate: text.txt, line 1: expected two texts separated by a tab",
    ),
    "few pairs": (
        ["translate", "--data", "pairs.tsv"],
        "translate: expected at least 564 different sentences of at most 20",
    ),
    "no words": (["translate", "--vocabulary", "4"], "translate: expected --vocabulary above 4"),
    "beam": (["translate", "--beam", "0"], "translate: expected --beam to be a whole number of at least 1"),
    "wide beam": (
        ["translate", *TINY, "--held-back", "12", "--beam", "1000"],
        "translate: expected --beam of at most the ",
    ),
    "both orders": (
        ["translate", "--reverse", "--both-ways"],
        "translate: expected --reverse or --both-ways, got both.",
    ),
    "data of halves": (
        ["classify", "--data", "x"],
        "classify: expected --task surnames or digits with --data, got halves",
    ),
    "no labels": (["classify", "--task", "digits", "--data", "x"], "classify: expected --task digits with both --data"),
    "no folder": (
        ["classify", "--task", "surnames", "--data", "none"],
        "classify: none: expected a folder of at least two",
    ),
    "short text": (
        ["wordlm", "--text", "short.txt"],
        "wordlm: expected a text of at least ten lines that can be parted at nine tenths of its length, got 1.",
    ),
    "few words": (
        ["wordlm", "--text", "text.txt"],
        "wordlm: expected a text of which nine tenths are at least 1,056 symbols",
    ),
    "no run": (["wordlm", "--characters", "none", *COMMANDS["wordlm"][0]], "wordlm: expected none to be the folder"),
    "context": (["ngramlm", "--context", "0"], "ngramlm: expected --context to be a whole number of at least 1, got 0"),
    "few characters": (
        ["ngramlm", "--text", "short.txt"],
        "ngramlm: expected a text of which nine tenths are at least",
    ),
    "empty": (["ngramlm", "--text", "empty.txt"], "ngramlm: empty.txt: expected some content, got an empty file."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, folder, capsys):
    (folder / "short.txt").write_text("one line\n")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "pairs.tsv").write_text("a\tb\n")
    arguments, message = BAD[case]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (folder / "runs").exists()
