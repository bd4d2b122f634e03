"""Generated tasks: every answer against its definition, class balance, chance levels, one seed one batch."""

import contextlib
import io
import re
from collections import Counter

import numpy as np
import pytest

from seqjax import tasks
from seqjax.tasks import applications, frames, sentences
from seqjax.tasks.execution import PROGRAM_SYMBOLS, RESULT_SYMBOLS, results
from seqjax.tasks.reber import SYMBOLS

PROBLEMS = {
    "adding": lambda: tasks.adding(30),
    "signed_adding": lambda: tasks.signed_adding(30),
    "copy_memory": lambda: tasks.copy_memory(12),
    "latch": lambda: tasks.latch(15),
    "temporal_order_2": lambda: tasks.temporal_order(100),
    "temporal_order_3": lambda: tasks.temporal_order(100, relevant=3),
    "embedded_reber": lambda: tasks.embedded_reber(30),
    "identical_halves": lambda: tasks.identical_halves(12),
    "parity": lambda: tasks.parity(1, 9),
    "running_parity": lambda: tasks.running_parity(1, 9),
    "associative_recall": lambda: tasks.associative_recall(20, pairs=3, symbols=8, rounds=2),
    "selective_copying": lambda: tasks.selective_copying(12, width=3),
    "larger_sum": lambda: tasks.larger_sum(2, 9),
    "four_voices": lambda: tasks.four_voices(40),
    "poses": lambda: tasks.poses(20),
    "promoter": lambda: applications.promoter(20),
    "genes": lambda: applications.genes(40),
    "clips": lambda: applications.clips(5),
}
TEXTS = {
    "execution": lambda: tasks.execution(2, 2),
    "scrambled": lambda: tasks.execution(2, 2, scrambled=4),
    "addition": lambda: tasks.addition(2),
    "number_spelling": lambda: tasks.number_spelling(),
    "entities": tasks.entity_sentences,
    "parts_of_speech": tasks.part_of_speech_sentences,
    "homographs": tasks.homograph_sentences,
    "agreement": lambda: tasks.agreement(5),
    "sentiment": applications.sentiment,
    "surnames": tasks.surnames,
}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", PROBLEMS)
def test_batches_keep_their_promises(name):
    """Shapes, types, sizes, blank padding, and one seed one batch."""
    problem = PROBLEMS[name]()
    batch, again, other = (problem.draw(rng(seed), 11) for seed in (0, 0, 1))
    for a, b in zip(batch, again):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(batch, other))
    xs, targets, mask, scored = batch
    length = len(xs)
    assert mask.shape == (length, 11)
    assert mask.dtype == bool
    assert mask.any(0).all()
    if xs.dtype == np.int32:
        assert xs.shape == (length, 11)
        assert xs.min() >= 0
        assert xs.max() < problem.input_size
    else:
        assert xs.shape == (length, 11, problem.input_size)
        assert xs.dtype == np.float32
    assert not xs[~mask].any() or name == "embedded_reber"
    assert scored.shape in ((11,), (length, 11))
    assert scored.any()
    assert scored.dtype == bool
    assert targets.shape[: scored.ndim] == scored.shape
    if targets.dtype == np.int32:
        assert targets.shape == scored.shape
        assert targets.max() < problem.output_size
    else:
        assert targets.shape == (*scored.shape, problem.output_size)
        assert targets.dtype == np.float32


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_batch_of_no_examples_is_empty(name):
    problem = PROBLEMS[name]()
    for none, one in zip(problem.draw(rng(), 0), problem.draw(rng(), 1)):
        assert none.dtype == one.dtype
        assert none.size == 0
        assert none.ndim == one.ndim
        assert [a for a, b in zip(none.shape, one.shape) if a != b] == [0]


def test_numpy_integers_are_lengths():
    for length in (np.int64(30), np.uint8(250)):
        for a, b in zip(tasks.signed_adding(length).draw(rng(), 4), tasks.signed_adding(int(length)).draw(rng(), 4)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_keep_their_promises(name):
    """Every symbol is announced, every announced symbol occurs, and one seed draws one list."""
    problem = TEXTS[name]()
    pairs = problem.draw(rng(), 3000)
    assert pairs == problem.draw(rng(), 3000) != problem.draw(rng(1), 3000)
    sources = {s for pair in pairs for s in pair.source}
    targets = {s for pair in pairs for s in pair.target}
    if name in ("execution", "scrambled", "agreement"):
        assert sources | targets <= set(problem.source_symbols) == set(problem.target_symbols)
    else:
        assert (sources, targets) == (set(problem.source_symbols), set(problem.target_symbols))


@pytest.mark.parametrize("name", ["latch", "temporal_order_2", "temporal_order_3", "identical_halves", "parity"])
def test_classes_are_balanced(name):
    problem = PROBLEMS[name]()
    for count in (problem.output_size * 6, problem.output_size * 6 + 1):
        counts = np.bincount(problem.draw(rng(2), count).targets, minlength=problem.output_size)
        assert counts.max() - counts.min() == count % problem.output_size
    assert problem.chance == 1 / problem.output_size


@pytest.mark.parametrize("name", ["larger_sum", "promoter", "clips"])
def test_other_classes_are_balanced(name):
    problem = PROBLEMS[name]()
    counts = np.bincount(problem.draw(rng(2), 40).targets)
    assert (counts == 40 // problem.output_size).all()


def test_adding():
    xs, targets, _, _ = tasks.adding(30).draw(rng(), 4000)
    marks = xs[..., 1]
    assert (marks[:15].sum(0) == 1).all()
    assert (marks[15:].sum(0) == 1).all()
    assert set(np.unique(marks)) == {0, 1}
    np.testing.assert_allclose((xs[..., 0] * marks).sum(0), targets[:, 0], rtol=1e-6)
    assert abs(((targets - 1) ** 2).mean() - tasks.adding(30).chance) < 0.01
    assert tasks.adding(30).chance == pytest.approx(0.1667, abs=1e-4)


def test_signed_adding():
    problem = tasks.signed_adding(40)
    xs, targets, mask, _ = problem.draw(rng(), 20000)
    lengths = mask.sum(0)
    assert lengths.min() == 40
    assert lengths.max() == 44
    marks = xs[..., 1]
    assert (((marks == 1).sum(0) == 2) & ((marks[:10] == 1).sum(0) >= 1) & ((marks[19:] == 1).sum(0) == 0)).all()
    assert (marks[lengths - 1, np.arange(20000)] == -1).all()
    assert np.isin(marks[0], (-1, 1)).all()
    assert (xs[0, marks[0] == 1, 0] == 0).all()
    expected = 0.5 + (xs[..., 0] * (marks == 1)).sum(0) / 4
    np.testing.assert_allclose(targets[:, 0], expected, rtol=1e-5)
    assert ((targets - 0.5) ** 2).mean() == pytest.approx(problem.chance, rel=0.03)


def test_copy_memory():
    problem = tasks.copy_memory(500)
    xs, targets, _, scored = problem.draw(rng(), 5)
    assert len(xs) == 520
    assert scored.all()
    np.testing.assert_array_equal(targets[-10:], xs[:10])
    assert not targets[:-10].any()
    assert not xs[10:509].any()
    assert (xs[509:] == 9).all()
    assert set(np.unique(xs[:10])) <= set(range(1, 9))
    assert problem.chance == pytest.approx(0.0400, abs=1e-4)


@pytest.mark.parametrize("rounds", [1, 3])
def test_associative_recall(rounds):
    """Read as a dictionary is written: the last value of a key counts."""
    problem = tasks.associative_recall(60, pairs=5, symbols=16, rounds=rounds)
    xs, targets, mask, scored = problem.draw(rng(), 400)
    told = 10 * rounds
    assert mask.all()
    assert (scored == (np.arange(60) >= told)[:, None]).all()
    changed = 0
    for sequence, answers in zip(xs.T, targets.T):
        pairs = list(zip(sequence[0:told:2].tolist(), sequence[1:told:2].tolist()))
        for start in range(0, len(pairs), 5):
            assert len({key for key, _ in pairs[start : start + 5]}) == 5
        meaning = dict(pairs)
        assert len(meaning) == 5
        assert set(meaning) <= set(range(8))
        assert [meaning[key] - 8 for key in sequence[told:].tolist()] == answers[told:].tolist()
        changed += sum(meaning[key] != value for key, value in pairs)
    assert not targets[:told].any()
    assert changed == 0 if rounds == 1 else 0.6 < changed / (400 * 5 * (rounds - 1)) < 1
    np.testing.assert_allclose(np.bincount(xs[:told:2].ravel(), minlength=8) / (400 * 5 * rounds), 1 / 8, atol=0.02)
    assert (targets[scored] == 3).mean() == pytest.approx(problem.chance, abs=0.02)


def test_what_recall_cannot_be():
    for options, message in (
        ({"length": 32}, "associative_recall: expected a length of at least 33 ticks, got 32. Raise it."),
        ({"symbols": 65}, "associative_recall: expected an even number of symbols, got 65. Add one."),
        ({"symbols": 30}, "associative_recall: expected symbols to be a whole number of at least 32, got 30."),
        ({"rounds": 0}, "associative_recall: expected rounds to be a whole number of at least 1, got 0."),
    ):
        with pytest.raises(ValueError, match=message):
            tasks.associative_recall(**options)


def test_selective_copying():
    problem = tasks.selective_copying(20, width=4, symbols=5)
    xs, targets, mask, scored = problem.draw(rng(), 2000)
    assert len(xs) == 24
    assert mask.all()
    assert (scored == (np.arange(24) >= 20)[:, None]).all()
    assert (xs[20:] == 6).all()
    for sequence, answers in zip(xs.T, targets.T):
        assert [s - 1 for s in sequence[:20].tolist() if s] == answers[20:].tolist()
    assert not targets[:20].any()
    np.testing.assert_allclose((xs[:20] > 0).mean(1), 4 / 20, atol=0.04)
    np.testing.assert_allclose((targets[20:] == 2).mean(1), problem.chance, atol=0.03)
    with pytest.raises(ValueError, match="selective_copying: expected a length of at least 16 ticks, got 15"):
        tasks.selective_copying(15)
    with pytest.raises(ValueError, match="selective_copying: expected symbols to be a whole number of"):
        tasks.selective_copying(symbols=1)


def test_latch():
    xs, targets, _, _ = tasks.latch(15).draw(rng(), 200)
    np.testing.assert_array_equal(np.sign(xs[0, :, 0]), 2 * targets - 1)
    assert abs(xs[1:].mean()) < 0.02
    assert xs[1:].std() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("relevant", [2, 3])
def test_temporal_order(relevant):
    xs, targets, mask, _ = tasks.temporal_order(100, relevant=relevant).draw(rng(), 300)
    intervals = {2: [(10, 20), (50, 60)], 3: [(10, 20), (33, 43), (66, 76)]}[relevant]
    for sequence, target, real in zip(xs.T, targets, mask.T):
        sequence = sequence[real]
        assert 100 <= len(sequence) <= 110
        assert sequence[0] == 7
        assert sequence[-1] == 6
        ticks = np.flatnonzero((sequence == 4) | (sequence == 5))
        assert all(a <= t <= b for t, (a, b) in zip(ticks, intervals, strict=True))
        assert int("".join("XY".index("XY"[s - 4]).__str__() for s in sequence[ticks]), 2) == target
        assert sequence[1:-1].max() <= 5


def test_embedded_reber_by_its_regular_expression():
    inner = "B(TS*X(XT*VP)*(S|XT*VV)|PT*V(PXT*V)*(PS|V))E"
    language = re.compile(f"B(T{inner}T|P{inner}P)E")
    problem = tasks.embedded_reber(30)
    xs, targets, mask, scored = problem.draw(rng(), 200)
    last = []
    for i in range(200):
        ids = np.append(xs[mask[:, i], i], targets[mask[:, i], i][-1])
        text = "".join(SYMBOLS[s] for s in ids)
        assert language.fullmatch(text)
        legal = tasks.reber_legal(text)
        assert all(symbol in allowed for symbol, allowed in zip(text[1:], legal))
        assert legal[-1] == ""
        assert SYMBOLS[targets[scored[:, i], i].item()] == text[-2] == text[1]
        last.append(text[-2])
    assert last.count("T") == 100
    with pytest.raises(ValueError, match="expected one of 'TP' at position 1 of 'BXT', got 'X'"):
        tasks.reber_legal("BXT")


def test_identical_halves():
    given = [
        (1, 2, 3, 4, 5, 6),
        (3, 9, 9, 3),
        (7, 4, 4, 7, 5, 4),
        (7, 7),
        (1, 2, 3, 1, 2, 3),
        (5, 1, 1, 2, 5, 1, 1, 2),
    ]
    assert [tasks.halves_are_identical(s) for s in given] == [False] * 3 + [True] * 3
    assert not tasks.halves_are_identical((1, 1, 1))
    xs, targets, mask, _ = tasks.identical_halves(20).draw(rng(), 400)
    apart = []
    for sequence, target, real in zip(xs.T, targets, mask.T):
        sequence = sequence[real]
        assert tasks.halves_are_identical(sequence) == target
        assert sequence.min() >= 1
        half = len(sequence) // 2
        apart.append((sequence[:half] != sequence[half:]).sum())
    one_away = np.array(apart)[targets == 0] == 1
    assert 0.5 <= one_away.mean() < 0.65
    assert set(mask.sum(0)) == set(range(2, 21, 2))


def test_parity():
    xs, targets, mask, _ = tasks.parity(3, 9).draw(rng(), 100)
    np.testing.assert_array_equal(targets, [sum(s[m]) % 2 for s, m in zip(xs.T, mask.T)])
    xs, targets, mask, scored = tasks.running_parity(3, 9).draw(rng(), 100)
    for s, t, m in zip(xs.T, targets.T, mask.T):
        np.testing.assert_array_equal(t[m], [sum(s[: i + 1]) % 2 for i in range(m.sum())])
    assert set(mask.sum(0)) == set(range(3, 10))
    assert (scored == mask).all()
    assert 0.4 < xs[mask].mean() < 0.6


def test_larger_sum():
    xs, targets, _, _ = tasks.larger_sum(2, 9).draw(rng(), 200)
    totals = xs.astype(np.float64).sum(0)
    np.testing.assert_array_equal(totals[:, 1] > totals[:, 0], targets)


def run(source):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(source, {})
    return out.getvalue().strip() + "."


def test_programs_print_what_python_prints():
    reference = [
        ("j=8584\nfor x in range(8):j+=920\nb=(1500+j)\nprint((b+7567))\n", "25011."),
        ("i=8827\nc=(i-5347)\nprint((c+8704) if 2641<8500 else 5308)\n", "12184."),
    ]
    generator = rng()
    pairs = [
        tasks.program(generator, length, nesting) for length in (1, 4) for nesting in (1, 2, 3, 8) for _ in range(60)
    ]
    for source, target in [*reference, *pairs]:
        assert run(source) == target
    text = "".join(p.source for p in pairs)
    assert set(text) <= set(PROGRAM_SYMBOLS)
    assert set("".join(p.target for p in pairs)) <= set(RESULT_SYMBOLS)
    for feature in ("for x in range(", " if ", " else ", "*", "-=", "+=", "\n"):
        assert text.count(feature) > 50
    assert max(int(n) for n in re.findall(r"\d+", "".join(p.source for p in pairs[:240]))) <= 9


@pytest.mark.parametrize(
    ("length", "nesting", "mixed", "rel"),
    [
        (1, 1, False, 0.06),
        *(pytest.param(2, n, m, rel, marks=pytest.mark.slow) for n, m, rel in ((1, False, 0.1), (2, False, 0.12))),
        pytest.param(2, 2, True, 0.08, marks=pytest.mark.slow),
    ],
)
def test_the_chance_of_programs_is_that_of_the_best_constant_answer(length, nesting, mixed, rel):
    problem = tasks.execution(length, nesting, mixed=mixed)
    chosen, measured = (
        Counter(pair.target for pair in problem.draw(rng(seed), count)) for seed, count in ((11, 20_000), (12, 60_000))
    )
    best = max(measured[answer] for answer, _ in chosen.most_common(5)) / 60_000
    assert problem.chance == pytest.approx(best, rel=rel)
    assert tasks.execution(length, nesting, mixed=mixed, scrambled=3).chance == problem.chance
    assert tasks.execution(4, 3).chance < 1e-4


def test_mixed_programs_are_of_all_kinds_at_equal_odds():
    short = lambda pairs: np.mean([len(pair.source) <= 13 for pair in pairs])
    kinds = [short([tasks.program(rng(i), n, m) for i in range(1000)]) for n in (1, 2) for m in (1, 2, 3)]
    assert kinds[0] > 0.3 > max(kinds[1:])
    assert short(tasks.execution(2, 3, mixed=True).draw(rng(0), 3000)) == pytest.approx(np.mean(kinds), abs=0.02)


def test_results_alone_are_those_of_whole_programs():
    printed = [int(tasks.program(generator, 2, 3).target[:-1]) for generator in [rng(1)] for _ in range(20_000)]
    alone = results(rng(2), 2, 3, 200_000)
    levels = np.quantile(alone, np.linspace(0.05, 0.95, 19))
    np.testing.assert_allclose((np.array(printed)[:, None] <= levels).mean(0), np.linspace(0.05, 0.95, 19), atol=0.015)


def test_scrambled_programs_are_the_same_programs_in_another_alphabet():
    plain, hidden = (tasks.execution(3, 2, scrambled=s).draw(rng(5), 30) for s in (None, 7))
    table = dict(zip(*("".join(a + b for a, b in pairs) for pairs in (plain, hidden))))
    assert len(set(table.values())) == len(table) > 20
    assert any(a != b for a, b in table.items())
    for a, b in zip(plain, hidden):
        assert "".join(table[c] for c in a.source) == b.source
        assert "".join(table[c] for c in a.target) == b.target


def test_curriculum():
    progress = 0.0
    draws = {
        name: [tasks.curriculum(name, 4, 3, lambda: progress)(generator) for _ in range(300)]
        for generator in [rng()]
        for name in ("baseline", "naive", "mix", "combined")
    }
    everything = {(a, b) for a in range(1, 5) for b in range(1, 4)}
    assert set(draws["baseline"]) == {(4, 3)}
    assert set(draws["naive"]) == {(1, 1)}
    assert set(draws["mix"]) == everything
    assert set(draws["combined"]) == everything
    assert draws["combined"].count((1, 1)) > 120 > draws["mix"].count((1, 1))
    assert tasks.curriculum("naive", 4, 3, lambda: 0.5)(rng()) == (3, 2)
    assert tasks.curriculum("naive", 4, 3, lambda: 1.0)(rng()) == (4, 3)
    with pytest.raises(ValueError, match="curriculum: expected strategy to be one of"):
        tasks.curriculum("hard", 4, 3, lambda: 0)


def test_addition():
    problem = tasks.addition(2)
    pairs = problem.draw(rng(), 20000)
    assert all(sum(map(int, source.split("+"))) == int(target) for source, target in pairs)
    share = max(np.bincount([int(p.target) for p in pairs])) / len(pairs)
    assert share == pytest.approx(problem.chance, abs=0.004)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: tasks.adding(1), "adding: expected a length of at least 2 ticks, got 1"),
        (lambda: tasks.temporal_order(100, relevant=4), "expected relevant to be one of 2, 3, got 4"),
        (lambda: tasks.parity(5, 3), "parity: expected a length of at least 5"),
        (lambda: tasks.identical_halves(1), "identical_halves: expected a length of at least 2"),
        (lambda: tasks.agreement(-1), "expected a number of filler words of at least 0, got -1"),
        (lambda: tasks.number_spelling(1), "expected a bound from 2 to 1,000,000, got 1"),
        (lambda: tasks.program(rng(), 0, 1), "program: expected length to be a whole number of at least 1"),
        (lambda: tasks.program(rng(), 1, 21), "expected a nesting of at most 20, got 21"),
        (lambda: tasks.program(rng(), 19, 1), "program: expected length of at most 18 digits, got 19"),
        (lambda: tasks.execution(19, 1), "program: expected length of at most 18 digits, got 19"),
        (lambda: tasks.addition(19), "addition: expected digits of at most 18 digits, got 19"),
        (lambda: tasks.adding(True), "adding: expected a length of at least 2 ticks, got True"),
        (
            lambda: tasks.identical_halves(12, symbols=1),
            "identical_halves: expected symbols to be a whole number",
        ),
        (
            lambda: applications.speech(rng(), 1, symbols=1),
            "speech: expected symbols to be a whole number of at least 2",
        ),
        (
            lambda: applications.speech(rng(), 1, longest=0),
            "speech: expected longest to be a whole number of at least 1",
        ),
        (lambda: applications.speech(rng(), 1, noise=-1), "speech: expected noise to be a finite number of at least 0"),
        (lambda: applications.clips(5, size=3), "clips: expected size to be a whole number of at least 4, got 3"),
        (
            lambda: applications.clips(5, noise=np.nan),
            "clips: expected noise to be a finite number of at least 0, got nan",
        ),
        (lambda: tasks.latch(5, noise=-0.5), "latch: expected noise to be a finite number of at least 0, got -0.5"),
        (lambda: tasks.mackey_glass(5, tau=0), "mackey_glass: expected tau to be a whole number of at least 1, got 0"),
        (lambda: tasks.mackey_glass(5, washout=-1), "expected washout to be a whole number of at least 0, got -1"),
        (lambda: tasks.four_voices(5, hold=0), "four_voices: expected hold to be a whole number of at least 1, got 0"),
        (lambda: tasks.music_floor(5, hold=0), "music_floor: expected hold to be a whole number of at least 1, got 0"),
        (lambda: frames.poses(5, joints=0), "poses: expected joints to be a whole number of at least 1, got 0"),
        (lambda: tasks.walk(5, stretch=0), "walk: expected stretch to be a whole number of at least 1, got 0"),
        (lambda: tasks.walk(5, seed=-1), "walk: expected seed to be a whole number of at least 0, got -1"),
        (
            lambda: tasks.execution(2, 1, scrambled=-1),
            "scramble: expected seed to be a whole number of at least 0, got -1",
        ),
        (
            lambda: tasks.digit_strips(rng(), 1, shortest=4, longest=3),
            "expected longest to be a whole number of at least 4",
        ),
        (
            lambda: tasks.digit_strips(rng(), 1, noise=-1),
            "digit_strips: expected noise to be a finite number",
        ),
        (
            lambda: tasks.pixels(np.zeros((1, 2, 2), np.uint8), permutation=-1),
            "pixels: expected permutation to be a whole",
        ),
        (lambda: sentences.tagged_sentence(rng(), "MISC"), "expected kind to be one of 'PER', 'LOC', 'ORG'"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
