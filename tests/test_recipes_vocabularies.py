"""Large vocabularies of `wordlm`: outputs that look at a part of it, and words in pieces."""

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

import seqjax as sj
from seqjax import models
from seqjax.__main__ import main
from seqjax.recipes import wordlm
from seqjax.recipes.comparing import reading, tables
from seqjax.recipes.language import pieces, word_model, words
from seqjax.recipes.language.pieces import Pieces
from seqjax.recipes.language.speaker import Speaker
from seqjax.recipes.running import learning
from seqjax.recipes.running.run import Run
from seqjax.tasks.vocabulary import EOS, UNK, Vocabulary

SENTENCES = [["the", "old", "cats", "sat", "."], ["the", "cat", "sat", "."], ["a", "hat", "sat"], ["zoé"]]
TINY = ["--text", "text.txt", "--steps", "4", "--batch-size", "4", "--window", "8", "--hidden-size", "6"]
TINY += ["--embedding-size", "4"]
OUTPUTS = {
    "adaptive": ["--softmax", "adaptive"],
    "sampled": ["--softmax", "sampled", "--samples", "9"],
    "subwords": ["--split", "subwords", "--vocabulary", "300"],
}


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Two evaluations are enough."""
    patch.setattr(learning, "EVALUATIONS", 2)


@pytest.fixture(scope="module")
def learned():
    return Pieces.learned(lambda: SENTENCES, 270)


def options(**chosen):
    sizes = {"hidden_size": 6, "embedding_size": 4, "window": 5, "batch_size": 2, "dropout": 0.0}
    return wordlm.Options(**sizes | chosen)


# Outputs


def drawn(chosen, symbols=40):
    """A model of so many symbols, its objective, parameters, and a batch."""
    rng = np.random.default_rng(0)
    model, objective = word_model.network(chosen, symbols)
    params = jax.tree.map(lambda p: 2 * p, model.init(jax.random.key(1)))
    xs = rng.integers(0, symbols, (6, 2)).astype(np.int32)
    xs[2, 0] = models.NOTHING
    batch = sj.Batch(xs[:-1], rng.integers(0, symbols, (5, 2)), None, xs[:-1] == models.NOTHING)
    return model, objective, params, batch


@pytest.mark.parametrize("softmax", quick(["full", "adaptive", "sampled"], "adaptive", "sampled"))
def test_what_is_learned_is_the_log_probability_of_the_model(softmax):
    """Of all symbols: those drawn are all there are, so that nothing is an estimate."""
    model, objective, params, batch = drawn(options(softmax=softmax))
    state = model.initial_state(params, (2,))
    _, ys = model.apply(params, state, batch.xs, reset=batch.reset)
    p = np.exp(np.asarray(ys, np.float64))
    p /= p.sum(-1, keepdims=True)
    if softmax != "full":
        np.testing.assert_allclose(np.exp(ys).sum(-1), 1, rtol=1e-9)
    expected = -np.log(np.take_along_axis(p, batch.targets[..., None], -1)).sum()
    after, tally = objective(params, state, batch, jax.random.key(2))
    assert tally.sum == pytest.approx(expected, rel=1e-9)
    assert tally.count == 10
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.slow
def test_few_symbols_learn_in_an_update():
    """Those that come next and those that were drawn; all learn from what is exact."""
    model, objective, params, batch = drawn(options(softmax="sampled", samples=7))
    loss = lambda params, key: objective(params, model.initial_state(params, (2,)), batch, key)[1].mean
    of = lambda key: {*np.flatnonzero(jax.grad(loss)(params, key)[1].b).tolist()}
    first, second = of(jax.random.key(3)), of(jax.random.key(4))
    targets = {*batch.targets.ravel().tolist()}
    assert first != second
    for learning_now in (first, second):
        assert targets < learning_now
        assert len(learning_now) <= len(targets) + 7
    assert len(of(None)) == 40


def test_the_most_frequent_tenth_is_looked_at_in_full():
    assert [word_model.cutoffs(size) for size in (30_000, 29, 3, 2)] == [[3000, 10_000], [2, 9], [1], [1]]
    _, _, (_, (head, tails)), _ = drawn(options(softmax="adaptive"))
    assert head.w.shape == (6, 4 + 2)
    assert [narrow.w.shape + wide.w.shape for narrow, wide in tails] == [(6, 1, 1, 9), (6, 1, 1, 27)]


@pytest.mark.slow
def test_products_are_of_bfloat16():
    """Those of what is drawn, too: of rounded features and weights the loss is that of the textbook."""
    rng = np.random.default_rng(0)
    softmax = sj.mixed_precision(models.sampled_softmax(8, 30, 30))
    params = jax.tree.map(lambda p: p.astype(jnp.float32), softmax.init(jax.random.key(0)))
    hs, targets = rng.normal(size=(50, 8)).astype(np.float32), rng.integers(0, 30, 50)
    rounded = lambda x: np.asarray(jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float64))
    logits = rounded(hs) @ rounded(params.w)
    expected = (np.log(np.exp(logits).sum(-1)) - logits[np.arange(50), targets]).mean()
    found = softmax.loss(params, hs, targets, None, jax.random.key(1)).mean
    exact = models.sampled_softmax(8, 30, 30).loss(params, hs, targets, None, jax.random.key(1)).mean
    assert found == pytest.approx(expected, rel=1e-6)
    assert exact != pytest.approx(expected, rel=1e-5)


# Pieces


def test_sentences_in_pieces_and_back(learned):
    """Numbers fall with how often a piece comes; specials that no text has are no pieces."""
    numbers = [learned.encode(sentence, eos=True) for sentence in SENTENCES]
    assert [learned.decode(each) for each in numbers] == SENTENCES
    assert [each[-1] for each in numbers] == [learned.eos] * 4
    assert len(learned) == 270
    counts = np.bincount(np.concatenate(numbers), minlength=270)[1:]
    assert (np.diff(counts) <= 0).all()
    assert counts[0] > counts[5] > 0
    again = Pieces.kept(json.loads(json.dumps(learned.facts())))
    assert again.symbols == learned.symbols
    np.testing.assert_array_equal(again.encode(["unseen", "ß"]), learned.encode(["unseen", "ß"]))
    assert learned.decode(learned.encode(["unseen", "ß"])) == ["unseen", "ß"]
    assert {UNK, "<pad>", "<bos>"}.isdisjoint(learned.symbols)


def test_the_same_characters_are_paid_for(folder):
    """Bits a character are of one text, however it is split: what words leave unknown is spelled, pieces spell all."""
    text = words.read("wordlm", "text.txt", at="marks", lower=False)
    of_words = words.asked(words.vocabulary_of(text, 6), text, text.held_back)
    of_pieces = words.asked(Pieces.learned(text.train, 262), text, text.held_back)
    assert of_words.characters == of_pieces.characters == sum(len(" ".join(s)) + 1 for s in text.held_back)
    assert of_words.spelling > 0 == of_pieces.spelling
    assert len(of_pieces.numbers) > len(of_words.numbers)
    split = [words.split("The cat, e.g. (old).", at=at, lower=False) for at in ("marks", "subwords")]
    assert split[0] == split[1] == ["The", "cat", ",", "e", ".", "g", ".", "(", "old", ")", "."]


@pytest.mark.slow
def test_the_likeliest_words_are_found_with_their_probabilities(learned, monkeypatch):
    """Against all words of two pieces: each by the ways to write it, times what may begin behind it."""
    for name, size in (("LONGEST", 2), ("STARTS", 3), ("WAYS", 300)):
        monkeypatch.setattr(pieces, name, size)
    model = models.language_model(len(learned), 5, embedding_size=3)
    params = jax.tree.map(lambda p: 3 * p, model.init(jax.random.key(0)))
    rare = np.isin(np.arange(len(learned)), np.concatenate([*map(learned.encode, SENTENCES), [0]]), invert=True)
    params = (params[0], params[1]._replace(b=jnp.where(rare, -20.0, 0)))  # so that all that is likely is found
    cell, probs = sj.as_cell(model), lambda logits: np.asarray(jax.nn.softmax(logits))
    wide = lambda state, *shape: jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)), state)
    blank = np.array([symbol.startswith(" ") for symbol in learned.symbols])
    over = blank | (np.arange(len(blank)) == learned.eos)
    within = np.flatnonzero(~over)
    for prompt, starts in ((["the", "old"], np.flatnonzero(blank)), ([], within)):
        read = jnp.asarray([models.NOTHING, *learned.encode(prompt).tolist()])
        state, logits = model.apply(params, model.initial_state(params), read)
        first = probs(logits[-1])
        starts = starts[np.argsort(-first[starts])][: pieces.STARTS]
        state, logits = cell.step(params, wide(state, len(starts)), jnp.asarray(starts, np.int32))
        second = probs(logits)
        behind = np.tile(within[:, None], len(starts)).astype(np.int32)
        third = probs(cell.step(params, wide(state, len(within)), jnp.asarray(behind))[1])
        expected = Counter({EOS: first[learned.eos]})
        for i, start in enumerate(starts):
            word = lambda *more: learned.units.decode(learned.order[[start, *more]]).strip()  # noqa: B023
            expected[word()] += first[start] * second[i, over].sum()
            for j, more in enumerate(within):
                expected[word(more)] += first[start] * second[i, more] * third[j, i, over].sum()
        del expected[""]
        found = Speaker(model, params, learned).next_words(prompt, 8)
        assert dict(found) == pytest.approx({word: expected[word] for word, _ in found}, rel=1e-6)
        assert [p for _, p in found] == pytest.approx(sorted(expected.values(), reverse=True)[:8], rel=1e-6)


def test_a_beginning_goes_on_within_its_last_word(learned):
    """A model that says "the cats" in pieces: what is drawn belongs to the word that was begun."""
    numbers = learned.encode(["the", "cats"], eos=True)
    assert numbers[:-2].tolist() == learned.encode(["the", "cat"]).tolist()
    table = np.full((len(learned), len(learned)), -50.0)
    for before, after in itertools.pairwise(numbers):
        table[before, after] = 50
    model = sj.embedding(len(learned), len(learned))
    params = jax.tree.map(lambda p: jnp.asarray(table), model.init(jax.random.key(0)))
    assert Speaker(model, params, learned).going_on(["the", "cat"]) == ["the", "cats"]


# The command


def numbers(folder):
    """What a run has recorded, without its times."""
    timed = lambda name: name == "seconds" or name.endswith("per_second")
    return [{k: v for k, v in line.items() if not timed(k)} for line in Run.open("wordlm", folder).metrics()]


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_is_resumed_asked_and_made_of_seeds(name, folder, capsys):
    """Stopped and resumed equals never stopped; each of several seeds is the run of its own."""
    arguments = ["wordlm", *TINY, *OUTPUTS[name], "--rank", "The cat .", "cat The ."]
    assert main([*arguments, "--run-dir", "whole"]) == 0
    out = capsys.readouterr().out
    assert "sentences of its own" in out
    ranked = [line for line in out.splitlines() if line.endswith((" The cat.", " cat The."))]
    assert len(ranked) == 2
    assert main([*arguments, "--run-dir", "parts", "--steps", "2", "--schedule", "constant"]) == 0
    assert main([*arguments, "--run-dir", "again", "--schedule", "constant"]) == 0
    assert main(["wordlm", "--resume", "parts", "--steps", "4"]) == 0
    assert numbers("parts")[-1] == numbers("again")[-1]
    capsys.readouterr()
    assert main(["ask", "whole", "The cat . | cat The ."]) == 0
    assert sorted(float(line.split()[0]) for line in capsys.readouterr().out.splitlines()) == sorted(
        float(line.split()[0]) for line in ranked
    )
    assert main(["ask", "whole", "The zebra"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("The zebra")
    assert ("unknown: zebra" in said) == (name != "subwords")
    assert main([*arguments, "--seeds", "0", "5", "--run-dir", "both"]) == 0
    assert numbers("both/seed-0")[-1] == pytest.approx(numbers("whole")[-1], rel=1e-5)


@pytest.mark.parametrize("name", quick(OUTPUTS, "sampled"))
@pytest.mark.parametrize("products", quick(["float32", "bfloat16"], "bfloat16"))
def test_an_update_of_the_command_has_the_products_that_are_asked_for(name, products, folder):
    """No product of its program looks at more of the vocabulary than it should."""
    given = dict(zip([word[2:].replace("-", "_") for word in OUTPUTS[name][::2]], OUTPUTS[name][1::2]))
    given |= {key: int(value) for key, value in given.items() if value.isdigit()}
    chosen = dataclasses.replace(options(text="text.txt", products=products, run_dir="run", devices=1), **given)
    course = wordlm.main.course(chosen)
    update = next(course)
    program = str(jax.make_jaxpr(update.step)(*update.given))
    course.close()
    size = Run.open("wordlm", "run").config["facts"]["vocabulary"]
    assert ("bf16" in program) == (products == "bfloat16")
    assert (f",{size}] = dot_general" in program) == (name == "subwords")


@pytest.mark.slow
def test_softmaxes_and_splits_are_compared(folder, capsys):
    """One table each: of perplexity where it is of the same words, of bits a character where it is not."""
    assert main(["wordlm", *TINY, "--softmax", "full", "adaptive", "sampled", "--run-dir", "softmaxes"]) == 0
    names = [f"softmaxes/softmax-{name}" for name in ("full", "adaptive", "sampled")]
    [(label, some)] = tables.by_unit(reading.groups(reading.read("compare", names))).items()
    assert label == "perplexity (words)"
    assert [group.name for group, _ in some] == ["full", "adaptive", "sampled"]
    assert main(["wordlm", *TINY, "--split", "marks", "subwords", "--run-dir", "splits"]) == 0
    [unit] = json.loads(Path("splits/table.json").read_text())
    assert unit["measure"] == "bits a character"
    assert [row["name"] for row in unit["rows"]] == ["marks", "subwords"]


REFUSED = {
    "no samples with all": (["--samples", "9"], "wordlm: expected no --samples with --softmax full, got both."),
    "no sample": (
        ["--softmax", "sampled", "--samples", "0"],
        "wordlm: expected --samples to be a whole number of at least 1, got 0.",
    ),
    "published": (
        ["--preset", "small", "--softmax", "adaptive"],
        "wordlm: expected no --softmax with --preset small, got both.",
    ),
    "bytes": (
        ["--split", "subwords", "--vocabulary", "256"],
        "wordlm: expected --vocabulary of at least 257 with --split subwords, all bytes and <eos>, got 256.",
    ),
}


@pytest.mark.parametrize(("words_given", "said"), REFUSED.values(), ids=REFUSED)
def test_bad_options_are_refused(words_given, said, capsys):
    assert main(["wordlm", *words_given]) == 2
    assert said in capsys.readouterr().err


def test_a_run_keeps_its_symbols(tmp_path, learned):
    """Without its text: words, pieces, and nothing where it is older than that."""
    known = Vocabulary([UNK, EOS, "cat"])
    run = lambda facts: Run(tmp_path, {"facts": facts})
    assert word_model.kept_symbols(run(word_model.facts_of(known))) == known
    assert word_model.kept_symbols(run(word_model.facts_of(learned))).symbols == learned.symbols
    assert word_model.kept_symbols(run({})) is None
