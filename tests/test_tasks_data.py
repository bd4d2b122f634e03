"""Vocabularies, subwords, padding, buckets and batches: against definitions, brute force, and a loader."""

import sys

import numpy as np
import pytest

from seqjax import tasks


def test_vocabulary_orders_by_frequency_then_name():
    vocabulary = tasks.Vocabulary.build([["b", "a", "b"], ["c", "a", "b"]])
    assert vocabulary.symbols == ("<pad>", "<unk>", "<bos>", "<eos>", "b", "a", "c")
    assert (vocabulary.pad, vocabulary.unk, vocabulary.bos, vocabulary.eos) == (0, 1, 2, 3)
    ids = vocabulary.encode(["c", "never", "b"], bos=True, eos=True)
    assert ids.tolist() == [2, 6, 1, 4, 3]
    assert ids.dtype == np.int32
    assert vocabulary.decode([0, 2, 6, 1, 4, 3, 5]) == ["c", "<unk>", "b"]
    assert vocabulary == tasks.Vocabulary(vocabulary.symbols)
    assert hash(vocabulary) == hash(tasks.Vocabulary(vocabulary.symbols))
    assert len(vocabulary) == 7
    assert "a" in vocabulary
    assert "never" not in vocabulary


def test_vocabulary_limits():
    text = [["b"] * 3 + ["a"] * 2 + ["c"]]
    assert tasks.Vocabulary.build(text, limit=5).symbols[4:] == ("b",)
    assert tasks.Vocabulary.build(text, at_least=2).symbols[4:] == ("b", "a")
    assert tasks.Vocabulary.build(text, specials=()).symbols == ("b", "a", "c")
    given = [["<eos>", "a", "b"]]
    assert tasks.Vocabulary.build(given, specials=("<eos>",)).encode("ab", eos=True).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: tasks.Vocabulary(["a"]), "expected at least two symbols, got \\['a'\\]"),
        (lambda: tasks.Vocabulary(["a", "b", "a"]), "expected distinct symbols, got 'a' twice"),
        (
            lambda: tasks.Vocabulary("ab").encode("abc"),
            "expected one of 2 known symbols, got 'c' at position 2",
        ),
        (
            lambda: tasks.Vocabulary("ab").encode(iter("abc")),
            "expected one of 2 known symbols, got 'c' at position 2",
        ),
        (lambda: tasks.Vocabulary("ab").encode("a", eos=True), "expected <eos> in the vocabulary"),
        (lambda: tasks.Vocabulary("ab").decode([2]), "expected numbers from 0 to 1, got 2"),
        (
            lambda: tasks.Vocabulary.build(["aab"], specials=("<eos>",), limit=2),
            "expected <unk> among the special symbols",
        ),
        (
            lambda: tasks.Vocabulary.build(["aab"], limit=4),
            "expected at least one symbol beside .* got none of 2 in the data with limit=4 and at_least=1",
        ),
        (lambda: tasks.Vocabulary.build([""]), "expected at least one symbol beside .* got none of 0"),
    ],
)
def test_vocabulary_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_words():
    assert tasks.words("L'été, c'est 42 %!") == ["L'été", ",", "c'est", "42", "%", "!"]
    assert tasks.words("cafe\u0301 E\u0301te\u0301", lower=True) == ["caf\xe9", "\xe9t\xe9"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("தமிழ் மொழி.", ["தமிழ்", "மொழி", "."]),
        ("বাংলা-ভাষা", ["বাংলা-ভাষা"]),
        ("كِتَابٌ", ["كِتَابٌ"]),
        ("שָׁלוֹם", ["שָׁלוֹם"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("ന്\u200d ala", ["ന്\u200d", "ala"]),
        ("m\u0304a", ["m\u0304a"]),
        ("soft\u00adly", ["soft\u00adly"]),
        ("日本語です。", ["日本語です", "。"]),
        ("น้ำ\u200bดี", ["น้ำ", "ดี"]),
        ("❤\ufe0f ok", ["❤\ufe0f", "ok"]),
        ("a\u2028b\fc\x85d", ["a", "b", "c", "d"]),
    ],
)
def test_a_letter_keeps_its_marks_and_joiners(text, expected):
    assert tasks.words(text) == expected


def test_small_letters_that_are_two_characters_stay_one_word():
    assert tasks.words("İstanbul", lower=True) == ["i\u0307stanbul"]


def test_subwords_give_every_text_back():
    pytest.importorskip("tokenizers")
    texts = ["the cat sat on the mat", "the dog sat on the log"] * 20
    units = tasks.Subwords.train(texts, 300)
    assert 260 <= len(units) <= 300
    for text in ("the cat", "ünseen ☃ text\n\ttoo", "  two  blanks "):
        ids = units.encode(text, bos=True, eos=True)
        assert ids[0] == units.bos == 2
        assert ids[-1] == units.eos == 3
        assert ids.dtype == np.int32
        assert units.decode(ids) == text == units.decode([*ids, 0, 0, 9])
    assert len(units.encode("the cat sat")) < len("the cat sat") / 2
    again = tasks.Subwords.from_json(units.to_json())
    np.testing.assert_array_equal(again.encode("the mat"), units.encode("the mat"))
    for one in (units, again):
        for text in ("a<eos>b", "<pad><unk> <bos>", "<eos>"):
            ids = one.encode(text)
            assert ids.min() > 3
            assert one.decode(ids) == text
    with pytest.raises(ValueError, match=r"Subwords.from_json: expected a text that to_json wrote, got another \(EOF"):
        tasks.Subwords.from_json("{")
    with pytest.raises(ValueError, match=r"expected a size of at least 260"):
        tasks.Subwords.train(texts, 200)


def test_subwords_without_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"Subwords: expected the tokenizers library, got none. Install it with"):
        tasks.Subwords.train(["text"], 300)


def test_pad():
    values, lengths = tasks.pad([np.ones((2, 3)), np.ones((4, 3))], length=5, value=-1)
    assert values.shape == (5, 2, 3)
    assert lengths.tolist() == [2, 4]
    assert (values[2:, 0] == -1).all()
    assert (values[:4, 1] == 1).all()
    assert (values[4] == -1).all()
    mixed = tasks.pad([np.array([1]), np.array([1.7, 2]), []])
    assert mixed.values.T.tolist() == [[1, 0], [1.7, 2], [0, 0]]
    assert mixed.lengths.tolist() == [1, 2, 0]
    assert tasks.pad([np.array([1], np.int32), np.array([2**40]), []]).values.tolist() == [[1, 2**40, 0]]
    assert tasks.pad([np.float32([1]), np.float32([2, 3])], value=np.nan).values.dtype == np.float32
    assert tasks.pad([np.array([True]), np.array([], bool)], value=1).values.tolist() == [[True, True]]


def brute_force_waste(lengths, groups):
    """The least padding over every way to cut the sorted lengths."""
    from itertools import combinations

    ordered = sorted(lengths)
    cuts = range(1, len(ordered))
    totals = [
        sum(max(part) * len(part) for part in (ordered[a:b] for a, b in zip((0, *inner), (*inner, len(ordered)))))
        for inner in combinations(cuts, groups - 1)
    ]
    return 1 - sum(ordered) / min(totals)


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_buckets_waste_as_little_as_can_be(groups):
    lengths = np.random.default_rng(groups).integers(1, 30, 11)
    plan = tasks.buckets(lengths, groups)
    assert len(plan.shapes) <= groups
    assert plan.waste == pytest.approx(brute_force_waste(lengths, groups))
    assert sorted(np.concatenate(plan.members)) == list(range(11))
    assert all((lengths[m] <= top).all() for m, top in zip(plan.members, plan.shapes))


@pytest.mark.parametrize("size", [2, 4])
def test_buckets_count_the_columns_that_fill_up_the_last_batch(size):
    """The stated waste is that of the batches themselves, and no other cut between different lengths has less."""
    from itertools import combinations

    field = ragged(13, seed=size)
    lengths = np.array([len(s) for s in field])
    plan = tasks.buckets(lengths, 3, size=size)
    made = [drawn.fields[0] for drawn in tasks.batches([field], plan, size, seed=0, epochs=1)]
    padded = sum(values.size for values, _ in made)
    assert plan.waste == pytest.approx(1 - lengths.sum() / padded)
    ordered, totals = sorted(lengths), []
    between = [i for i in range(1, 13) if ordered[i] != ordered[i - 1]]
    for groups in (1, 2, 3):
        for inner in combinations(between, groups - 1):
            parts = [ordered[a:b] for a, b in zip((0, *inner), (*inner, 13))]
            totals.append(sum(part[-1] * -(-len(part) // size) * size for part in parts))
    assert padded == min(totals)


def test_buckets_of_pairs():
    lengths = np.random.default_rng(0).integers(1, 12, (200, 2))
    plan = tasks.buckets(lengths, 6)
    assert plan.shapes.shape[1] == 2
    assert len(plan.shapes) <= 6
    padded = sum(top.sum() * len(m) for top, m in zip(plan.shapes, plan.members))
    assert plan.waste == pytest.approx(1 - lengths.sum() / padded)
    assert plan.waste < tasks.buckets(lengths, 1).waste
    assert tasks.buckets(lengths[:3], 10).waste == 0


def ragged(n, seed=0):
    generator = np.random.default_rng(seed)
    return [np.full(generator.integers(1, 9), i + 1) for i in range(n)]


def test_batches_hold_every_example_once_an_epoch():
    field = ragged(23)
    plan = tasks.buckets(np.array([len(s) for s in field]), 3)
    seen, shapes = [], set()
    for drawn in tasks.batches([field, field], plan._replace(shapes=np.repeat(plan.shapes, 2, 1)), 4, seed=5, epochs=1):
        (values, lengths), _ = drawn.fields
        shapes.add(values.shape)
        for column, length, index in zip(values.T, lengths, drawn.examples):
            if index < 0:
                assert length == 0
                assert not column.any()
                continue
            np.testing.assert_array_equal(column[:length], field[index])
            assert not column[length:].any()
            seen.append(index)
    assert sorted(seen) == list(range(23))
    assert len(shapes) <= 3
    assert {s[1] for s in shapes} == {4}


def test_batches_resume_anywhere():
    field = ragged(23)
    plan = tasks.buckets(np.array([len(s) for s in field]), 3)
    whole = list(tasks.batches([field], plan, 4, seed=5, epochs=3))
    n = len(whole) // 3
    assert [d.examples.tolist() for d in whole[:n]] != [d.examples.tolist() for d in whole[n : 2 * n]]
    for stop in (0, 3, len(whole) // 3 - 1, len(whole) // 3):
        rest = list(tasks.batches([field], plan, 4, seed=5, epochs=3, position=whole[stop].position))
        assert len(rest) == len(whole) - stop - 1
        for a, b in zip(whole[stop + 1 :], rest):
            np.testing.assert_array_equal(a.examples, b.examples)
            assert a.position == b.position
    for epoch, batch in ((0, -1), (0, n + 1), (-1, 0)):
        with pytest.raises(ValueError, match=rf"batch from 0 to {n}, got \({epoch}, {batch}\)"):
            next(tasks.batches([field], plan, 4, seed=5, position=tasks.Position(epoch, batch)))
    other = list(tasks.batches([field], plan, 4, seed=6, epochs=1))
    assert [d.examples.tolist() for d in other] != [d.examples.tolist() for d in whole[: len(other)]]


def test_batches_by_number_are_the_batches_in_order():
    field = ragged(23)
    plan = tasks.buckets(np.array([len(s) for s in field]), 3)
    whole = list(tasks.batches([field], plan, 4, seed=5, epochs=3, value=-1))
    source = tasks.BatchSource([field], plan, 4, seed=5, epochs=3, value=-1)
    assert len(source) == len(whole)
    for i in np.random.default_rng(0).permutation(len(whole)):
        assert_same(source[i], whole[i])
    for a, b in zip(source[-2:], whole[-2:]):
        assert_same(a, b)
    with pytest.raises(IndexError, match=f"BatchSource: expected a number below {len(whole)}, got {len(whole)}"):
        source[len(whole)]


def test_grain_reads_and_resumes_batches():
    """The batches in order, through its checkpoint in the middle of an epoch, and another host's half of them."""
    grain = pytest.importorskip("grain", reason="grain is not installed (extra grain)")
    field = ragged(23)
    plan = tasks.buckets(np.array([len(s) for s in field]), 3)
    source = tasks.BatchSource([field], plan, 4, seed=5, epochs=2)
    whole = list(tasks.batches([field], plan, 4, seed=5, epochs=2))

    def reader():
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
        return iter(grain.MapDataset.source(source).to_iter_dataset(options))

    first = reader()
    for batch in whole[:5]:
        assert_same(next(first), batch)
    kept = first.get_state()
    again = reader()
    again.set_state(kept)
    rest = list(again)
    assert len(rest) == len(whole) - 5
    for a, b in zip(rest, whole[5:]):
        assert_same(a, b)
    half = list(grain.MapDataset.source(source)[1::2])
    assert len(half) == len(whole) // 2
    for a, b in zip(half, whole[1::2]):
        assert_same(a, b)


def assert_same(a, b):
    assert a.position == b.position
    np.testing.assert_array_equal(a.examples, b.examples)
    for one, other in zip(a.fields, b.fields, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.lengths, other.lengths)


def test_streams_and_crops():
    np.testing.assert_array_equal(tasks.streams(np.arange(11), 2).T, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    windows = tasks.crops(np.arange(50), 7, 200, np.random.default_rng(0))
    assert windows.shape == (7, 200)
    assert (np.diff(windows, axis=0) == 1).all()
    assert windows.min() == 0
    assert windows.max() == 49


SHORT = tasks.buckets(np.array([1, 2]))


def test_split():
    parts = tasks.split(100, (0.7, 0.2, 0.1), seed=0)
    assert [len(p) for p in parts] == [70, 20, 10]
    assert sorted(np.concatenate(parts)) == list(range(100))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: tasks.pad([]), "pad: expected at least one sequence"),
        (lambda: tasks.pad([np.ones(3), np.ones(9)], length=5), "at most 5 ticks, got 9 at index 1"),
        (lambda: tasks.pad([np.arange(3)], value=0.5), "pad: expected a value that int64 holds, got 0.5"),
        (lambda: tasks.pad([np.arange(3)], value=np.nan), "pad: expected a value that int64 holds, got nan"),
        (lambda: tasks.pad([np.zeros(3, np.uint8)], value=-1), "pad: expected a value that uint8 holds, got -1"),
        (lambda: tasks.pad([np.zeros(3, bool)], value=2), "pad: expected a value that bool holds, got 2"),
        (lambda: next(tasks.batches([ragged(2)], SHORT, 2, seed=-1)), "batches: expected seed to be a whole number"),
        (lambda: tasks.BatchSource([ragged(2)], SHORT, 2, seed=-1), "BatchSource: expected seed to be a whole number"),
        (lambda: tasks.split(9, (0.5, 0.5), -1), "split: expected seed to be a whole number of at least 0, got -1"),
        (lambda: tasks.buckets(np.array([3, 0])), "expected sequences of at least one tick, got \\[1\\]"),
        (lambda: tasks.buckets(np.array([3, 1]), 0), "buckets: expected shapes to be a whole number"),
        (lambda: tasks.buckets(np.array([3, 1]), size=0), "buckets: expected size to be a whole number"),
        (lambda: next(tasks.batches([ragged(3)], SHORT, 2, seed=0)), "expected a plan of 1 fields"),
        (lambda: tasks.BatchSource([ragged(3)], SHORT, 2, seed=0), "BatchSource: expected a plan of 1 fields"),
        (lambda: tasks.BatchSource([ragged(2)], SHORT, 2, seed=0, epochs=0), "BatchSource: expected epochs to be"),
        (lambda: tasks.streams(np.arange(3), 2), "expected at least 4 ticks for 2 columns, got 3"),
        (
            lambda: tasks.crops(np.arange(3), 4, 2, np.random.default_rng(0)),
            "at least 4 ticks of text, got 3",
        ),
        (lambda: tasks.split(2, (0.5, 0.4), 0), "expected positive shares that sum to 1"),
        (lambda: tasks.split(2, (0.9, 0.1), 0), "expected every part to hold an example, got 2"),
    ],
)
def test_batch_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
