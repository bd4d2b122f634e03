"""Generated tasks that stand for applications: words, pictures, music, frames, letters."""

import itertools
import re

import numpy as np
import pytest

from seqjax import tasks
from seqjax.recipes.language import tagging
from seqjax.tasks import applications, frames, homographs, sentences, spelling


def rng(seed=0):
    return np.random.default_rng(seed)


SPELLED = {
    0: ("zero", "zéro"),
    16: ("sixteen", "seize"),
    17: ("seventeen", "dix-sept"),
    21: ("twenty-one", "vingt et un"),
    22: ("twenty-two", "vingt-deux"),
    61: ("sixty-one", "soixante et un"),
    70: ("seventy", "soixante-dix"),
    71: ("seventy-one", "soixante et onze"),
    79: ("seventy-nine", "soixante-dix-neuf"),
    80: ("eighty", "quatre-vingts"),
    81: ("eighty-one", "quatre-vingt-un"),
    90: ("ninety", "quatre-vingt-dix"),
    91: ("ninety-one", "quatre-vingt-onze"),
    99: ("ninety-nine", "quatre-vingt-dix-neuf"),
    100: ("one hundred", "cent"),
    101: ("one hundred and one", "cent un"),
    200: ("two hundred", "deux cents"),
    280: ("two hundred and eighty", "deux cent quatre-vingts"),
    999: ("nine hundred and ninety-nine", "neuf cent quatre-vingt-dix-neuf"),
    1000: ("one thousand", "mille"),
    1001: ("one thousand and one", "mille un"),
    1100: ("one thousand one hundred", "mille cent"),
    2080: ("two thousand and eighty", "deux mille quatre-vingts"),
    80000: ("eighty thousand", "quatre-vingt mille"),
    200000: ("two hundred thousand", "deux cent mille"),
    371280: (
        "three hundred and seventy-one thousand two hundred and eighty",
        "trois cent soixante et onze mille deux cent quatre-vingts",
    ),
}


def test_numbers_in_words():
    for number, spelled in SPELLED.items():
        assert (tasks.english(number), tasks.french(number)) == spelled
    assert len({tasks.french(n) for n in range(3000)}) == len({tasks.english(n) for n in range(3000)}) == 3000
    words = {spelling.parts(tasks.english(n)): n for n in range(3000)}
    for source, target in tasks.number_spelling(3000).draw(rng(), 300):
        assert target == spelling.parts(tasks.french(words[source]))
    with pytest.raises(ValueError, match="french: expected a whole number from 0 to 999,999, got 1000000"):
        tasks.french(1_000_000)
    for below in (15, 90, 150, 250, 3000):
        problem = tasks.number_spelling(below)
        pairs = problem.draw(rng(), 4000)
        assert {w for p in pairs for w in p.target} == set(problem.target_symbols)
        counts = np.unique(["-".join(p.source) for p in pairs], return_counts=True)[1]
        assert counts.max() / 4000 == pytest.approx(problem.chance, rel=0.25)


def test_entities_depend_on_a_later_word():
    kinds = {noun: kind for kind, nouns in sentences.NOUNS.items() for noun in nouns}
    pairs = tasks.entity_sentences().draw(rng(), 3000)
    seen = {}
    for words, tags in pairs:
        (span,) = tasks.spans(tags)
        noun = next(word for word in words if word in kinds)
        assert kinds[noun] == span.kind
        assert words.index(noun) > span.stop
        assert span.stop - span.start == 2
        seen.setdefault(words[: span.stop + 1], []).append(span.kind)
    kinds_in_all = [kind for found in seen.values() for kind in found]
    assert {kinds_in_all.count(kind) for kind in sentences.NOUNS} == {1000}
    best = sum(max(found.count(kind) for kind in sentences.NOUNS) for found in seen.values() if len(found) >= 8)
    assert best / sum(len(found) for found in seen.values() if len(found) >= 8) < 0.62
    held = [(word, tag) for words, tags in pairs for word, tag in zip(words, tags)]
    of_names = [tag for _, tag in held if tag != "O"]
    guessed = [np.mean([tag[2:] == kind for tag in of_names]) for kind in sentences.NOUNS]
    assert guessed == pytest.approx([tasks.entity_sentences().chance] * 3)
    assert 1 - len(of_names) / len(held) == pytest.approx(0.87, abs=0.01)
    tagged = tasks.part_of_speech_sentences().draw(rng(), 3000)
    assert [p.source for p in tagged] == [p.source for p in pairs]
    share = [t for p in tagged for t in p.target].count("PUNCT") / sum(len(p.target) for p in tagged)
    assert share == pytest.approx(tasks.part_of_speech_sentences().chance, abs=0.01)


@pytest.mark.slow
def test_homographs_follow_their_chain():
    """Counts of 20,000 sentences against the tables; a point ends each, and most words stand for two tags."""
    drawn = tasks.homograph_sentences().draw(rng(), 20_000)
    tags, follows, said = homographs.TAGS, np.zeros((8, 8)), np.zeros((8, len(homographs.WORDS)))
    for source, target in drawn:
        assert target.index("PUNCT") == len(target) - 1 < homographs.LONGEST
        numbers = [tags.index(tag) for tag in target]
        np.add.at(follows, (numbers[:-1], numbers[1:]), 1)
        np.add.at(said, (numbers, [homographs.WORDS.index(word) for word in source]), 1)
    ends = [np.eye(8)[tags.index("PUNCT")]]  # that the point comes within so many words more
    while len(ends) < homographs.LONGEST:
        ends.append(homographs.FOLLOWS @ ends[-1])
    here, expected = homographs.START * (np.arange(8) != tags.index("PUNCT")), np.zeros((8, 8))
    begun = homographs.START * ends[-1]
    for left in ends[-2::-1]:
        expected += here[:, None] * homographs.FOLLOWS * left
        here = (here @ homographs.FOLLOWS) * (np.arange(8) != tags.index("PUNCT"))
    counts = np.bincount([tags.index(target[0]) for _, target in drawn], minlength=8)
    np.testing.assert_allclose(counts / len(drawn), begun / begun.sum(), atol=0.012)
    np.testing.assert_allclose(follows / len(drawn), expected / begun.sum(), atol=0.015)
    np.testing.assert_allclose(said / said.sum(1, keepdims=True), homographs.emissions(), atol=0.015)
    assert ((said > 0).sum(0) > 1).mean() > 0.5


def test_context_tells_homographs_apart():
    """Commonest tag, filter and posterior by products of matrices in NumPy; the recipe's ceilings are those."""
    problem = tasks.homograph_sentences()
    drawn = problem.draw(rng(1), 400)
    emissions, right = homographs.emissions(), np.zeros(3)
    shares = np.zeros(8)
    for _, target in problem.draw(rng(2), 2000):
        np.add.at(shares, [homographs.TAGS.index(tag) for tag in target], 1)
    joint, total = shares[:, None] * emissions, 0
    for source, target in drawn:
        e = emissions[:, [homographs.WORDS.index(word) for word in source]].T
        true = np.array([homographs.TAGS.index(tag) for tag in target])
        ahead, back = [homographs.START * e[0]], [np.ones(8)]
        for row in e[1:]:
            ahead.append((ahead[-1] @ homographs.FOLLOWS) * row)
        for row in e[:0:-1]:
            back.append(homographs.FOLLOWS @ (row * back[-1]))
        known = np.array(ahead), np.array(ahead) * np.array(back[::-1])
        words = joint[:, [homographs.WORDS.index(word) for word in source]].T
        right += [(p.argmax(1) == true).sum() for p in (words, *known)]
        total += len(true)
    commonest, filtered, posterior = right / total
    assert commonest == pytest.approx(problem.chance, abs=0.02)
    assert commonest < 0.76 < filtered - 0.05 < 0.8 < 0.88 < posterior < 0.94
    found = tagging.ceilings([tasks.Sentence(*pair) for pair in drawn])
    assert list(found) == ["the rules, left to right", "the rules"]
    assert list(found.values()) == pytest.approx([filtered, posterior], abs=2e-3)  # of equals, rounding chooses


def test_agreement():
    for fillers in (0, 4):
        pairs = tasks.agreement(fillers).draw(rng(), 200)
        assert sum(p.target[0] == "were" for p in pairs) == 100
        contexts = {}
        for source, target in pairs:
            assert len(source) == fillers + 7
            assert source[1].endswith("s") == (target[0] == "were")
            contexts.setdefault(source[2:], set()).add(target[0])
        if fillers == 0:
            assert list(contexts.values()) == [{"was", "were"}]


def test_span_f1():
    assert tasks.spans([]) == []
    assert tasks.spans(["O", "I-X"]) == [tasks.Span(1, 2, "X")]
    score = tasks.span_f1([["B-X", "I-X", "O"], ["O"]], [["B-X", "I-X", "O"], ["B-Y"]])
    assert score == (1.0, 0.5, pytest.approx(2 / 3))
    assert tasks.span_f1([["O"]], [["O"]]) == (0, 0, 0)
    with pytest.raises(ValueError, match="expected O, B-kind or I-kind, got 'X' at position 1"):
        tasks.spans(["O", "X"])
    with pytest.raises(ValueError, match="expected as many tags in both"):
        tasks.span_f1([["O"]], [["O", "O"]])


def test_digit_strips():
    strips = tasks.digit_strips(rng(), 60, noise=0)
    assert strips.images.shape == (60, 11, 35)
    assert {len(c) for c in strips.captions} == {3, 4, 5}
    again, other = tasks.digit_strips(rng(), 60, noise=0), tasks.digit_strips(rng(1), 60, noise=0)
    np.testing.assert_array_equal(again.images, strips.images)
    assert again.captions == strips.captions != other.captions
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    ink = tasks.digits.FONT.sum((1, 2))
    for image, caption in zip(strips.images, strips.captions):
        assert image.sum() == sum(ink[names.index(word)] for word in caption)
    pictures = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((3, 2), np.uint8) * 20 + 20
    drawn = tasks.digit_strips(rng(), 20, pictures=pictures, labels=np.arange(10), noise=0)
    for image, caption in zip(drawn.images, drawn.captions):
        columns = image.max(0)[image.max(0) > 0]
        assert [names[round(v * 255 / 20) - 1] for v in columns[::2]] == list(caption)
    with pytest.raises(ValueError, match="labels \\[n\\] of all ten digits, got \\(10, 3, 2\\) and \\(3,\\)"):
        tasks.digit_strips(rng(), 1, pictures=pictures, labels=np.arange(3))
    with pytest.raises(ValueError, match="pictures and labels together"):
        tasks.digit_strips(rng(), 1, pictures=pictures)


def test_coloured_digits_have_the_colour_that_their_caption_names():
    strips = tasks.digit_strips(rng(), 40, noise=0, coloured=True)
    assert strips.images.shape == (40, 11, 35, 3)
    names, ink = tasks.digits.NAMES, tasks.digits.FONT.sum((1, 2))
    for image, caption in zip(strips.images, strips.captions):
        expected = np.zeros(3)
        for colour, digit in zip(caption[::2], caption[1::2], strict=True):
            expected[["red", "green", "blue"].index(colour)] += ink[names.index(digit)]
        np.testing.assert_array_equal(image.sum((0, 1)), expected)
    assert {word for caption in strips.captions for word in caption[::2]} == {"red", "green", "blue"}


def test_pixels():
    images = rng().integers(0, 256, (5, 4, 3), dtype=np.uint8)
    plain = tasks.pixels(images)
    np.testing.assert_allclose(plain[:, 2, 0] * 255, images[2].ravel(), rtol=1e-6)
    mixed = tasks.pixels(images, permutation=1)
    assert (mixed != plain).any()
    np.testing.assert_array_equal(np.sort(mixed[:, :, 0], 0), np.sort(plain[:, :, 0], 0))
    order = [np.flatnonzero((plain[:, :, 0] == row).all(1))[0] for row in mixed[:, :, 0]]
    np.testing.assert_array_equal(order, rng(1).permutation(12))
    with pytest.raises(ValueError, match="expected images \\[n, height, width\\] of uint8, got \\(2, 3\\)"):
        tasks.pixels(np.zeros((2, 3), np.uint8))


def test_music_follows_its_rules():
    hold, count = 2, 40
    problem = tasks.four_voices(63, hold=hold)
    xs, targets, _, _ = problem.draw(rng(), count)
    np.testing.assert_array_equal(xs[1:], targets[:-1])
    frame_sets = [[tuple(np.flatnonzero(f) + 21) for f in np.append(xs[:1, i], targets[:, i], 0)] for i in range(count)]
    chords = {(tonic, degree): frames.voicing(tonic, degree) for tonic in range(12) for degree in range(7)}
    assert all(chord[0] % 12 == (t + frames.SCALE[d]) % 12 for (t, d), chord in chords.items())
    total = 0.0
    for piece in frame_sets:
        assert piece[::2] == piece[1::2]
        one = piece[::2]
        assert one[:8] == one[8:16]
        assert one[16:24] == one[24:]
        (tonic,) = [
            t for t in range(12) if all(c in [chords[t, d] for d in range(7)] for c in one) and one[0] == chords[t, 0]
        ][:1]
        degrees = [next(d for d in range(7) if chords[tonic, d] == c) for c in one]
        for phrase in (degrees[:8], degrees[16:24]):
            assert phrase[0] == 0
            total -= sum(np.log(frames.PROGRESSION[a, b]) for a, b in itertools.pairwise(phrase))
    np.testing.assert_allclose(frames.PROGRESSION.sum(1), 1)
    assert total / count / 63 == pytest.approx(tasks.music_floor(63, hold=hold), rel=0.1)
    apart = 0.0  # each key by itself, by who knows key and chord, in every key of the scale
    for tonic in range(12):
        where = np.eye(7)[0]
        for place in range(1, 16):
            shares = sum(
                p * np.isin(np.arange(21, 109), chords[tonic, d])[None] * np.eye(7)[c][:, None]
                for (c, d), p in np.ndenumerate(frames.PROGRESSION)
            )
            inside = np.where((shares > 0) & (shares < 1 - 1e-12), shares, 0.5)
            bits = -(inside * np.log(inside) + (1 - inside) * np.log(1 - inside)) * (inside == shares) * (shares != 0)
            apart += 2 * (where @ bits.sum(1)) * (place < 8) / 12
            where = where @ frames.PROGRESSION
    assert apart / 63 == pytest.approx(tasks.music_floor(63, hold=hold, together=False), rel=1e-9)
    p = targets.mean((0, 1), dtype=float).clip(1e-9, 1 - 1e-9)
    assert -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum() == pytest.approx(problem.chance, rel=0.05)


def test_poses_are_smooth_and_predictable():
    problem = tasks.poses(200)
    xs, targets, _, _ = problem.draw(rng(), 60)
    np.testing.assert_array_equal(xs[1:], targets[:-1])
    assert (targets**2).mean() == pytest.approx(problem.chance, rel=0.05)
    assert ((targets - xs) ** 2).mean() < 0.2 * problem.chance
    series = xs[:, 0].astype(float)
    w = np.arccos(np.linalg.lstsq(series[3:-1] + series[1:-3], 0 * series[2:-2], rcond=None)[0][0, 0].clip(-1, 1))
    assert np.isfinite(w)
    past = np.concatenate([series[i : i + 196] for i in range(4)], 1)
    rest = past @ np.linalg.lstsq(past, series[4:], rcond=None)[0] - series[4:]
    assert abs(rest).max() < 1e-5


def test_a_walk_is_poses_at_one_speed_after_another():
    """Fourier coefficients by least squares: one and two times the stretch's phase explain every joint."""
    frames, speeds = tasks.walk(230, joints=3, stretch=100, seed=4), np.random.default_rng(4).uniform(0.1, 0.4, 3)
    assert frames.shape == (230, 3)
    phase = np.cumsum(np.repeat(speeds, 100))[:230]
    waves = np.stack([f(n * phase) for n in (1, 2) for f in (np.sin, np.cos)], 1)
    coefficients, rest, *_ = np.linalg.lstsq(waves, frames, rcond=None)
    assert rest.max() < 1e-20
    first, second = np.hypot(*coefficients[:2]), np.hypot(*coefficients[2:])
    assert ((first >= 0.3) & (first <= 1)).all()
    assert ((second >= 0.1) & (second <= 0.4)).all()
    assert tasks.poses(5, joints=3).chance == pytest.approx((first**2 + second**2).mean() / 2)


def test_mackey_glass():
    series = tasks.mackey_glass(60, washout=200)
    fine = tasks.mackey_glass(60, washout=200, steps=40)
    np.testing.assert_allclose(series, fine, atol=1e-6)
    early = tasks.mackey_glass(17, washout=0, start=0.5)
    slope = 0.2 * 0.5 / (1 + 0.5**10)
    t = np.arange(1, 18)
    np.testing.assert_allclose(early, slope / 0.1 + (0.5 - slope / 0.1) * np.exp(-0.1 * t), rtol=1e-9)
    xs, ys = tasks.next_values(series, 3)
    np.testing.assert_array_equal(xs[3:], ys[:-3])
    with pytest.raises(ValueError, match="expected a horizon from 1 to 59, got 60"):
        tasks.next_values(series, 60)


@pytest.mark.shared_data
def test_mackey_glass_looks_like_the_published_series(shared_data):
    published = tasks.read_series(shared_data / "mackey_glass" / "MackeyGlass_t17.txt")[:, 0]
    ours = tasks.mackey_glass(5000)

    def moments(s):
        return np.array([s.std(), np.corrcoef(s[:-17], s[17:])[0, 1], np.corrcoef(s[:-6], s[6:])[0, 1]])

    np.testing.assert_allclose(moments(ours), moments(published), rtol=0.15, atol=0.03)


def test_speech():
    said = applications.speech(rng(), 300, noise=0.0)
    patterns = {}
    for b in range(300):
        alignment = said.alignment[said.mask[:, b], b]
        collapsed = [s for i, s in enumerate(alignment) if i == 0 or s != alignment[i - 1]]
        assert collapsed == said.texts[said.text_mask[:, b], b].tolist()
        runs = np.diff(np.flatnonzero(np.diff(alignment, prepend=-1, append=-1)))
        assert runs.min() >= 2
        assert runs.max() <= 5
        for symbol, frame in zip(alignment, said.frames[said.mask[:, b], b]):
            assert patterns.setdefault(symbol, tuple(frame)) == tuple(frame)
    assert len(set(patterns.values())) == 8
    assert not said.frames[~said.mask].any()
    assert not said.texts[~said.text_mask].any()
    assert (np.bincount(said.texts[0])[1:] > 20).all()
    shares = np.bincount(applications.speech(rng(1), 4000).alignment.ravel(), minlength=9)[1:]
    np.testing.assert_allclose(shares / shares.sum(), 1 / 8, rtol=0.05)
    again = applications.speech(rng(1), 4000)
    assert all((a == b).all() for a, b in zip(again, applications.speech(rng(1), 4000)))
    assert (again.frames != applications.speech(rng(2), 4000).frames).any()
    with pytest.raises(ValueError, match="at least log₂ 8 features, got 2"):
        applications.speech(rng(), 1, features=2)


def bases(column):
    return "".join("ACGT"[b] for b in column)


def test_promoter():
    xs, targets, _, _ = applications.promoter(20).draw(rng(), 200)
    assert [("TATAAT" in bases(c)) for c in xs.T] == targets.astype(bool).tolist()
    counts = [np.mean([bases(c).count(x) for c in xs[:, targets == k].T]) for x in "AT" for k in (0, 1)]
    np.testing.assert_allclose(counts[::2], counts[1::2], rtol=0.1)


def test_genes_by_regular_expression():
    problem = applications.genes(40)
    xs, targets, _, _ = problem.draw(rng(), 200)
    for column, labels in zip(xs.T, targets.T):
        text = bases(column)
        found = re.match(r"[ACGT]*?(?=ATG)(ATG(?:[ACGT]{3})*?(?:TAA|TAG|TGA))?", text)
        a, b = found.span(1) if found and found.group(1) and text.find("ATG") == found.start(1) else (0, 0)
        np.testing.assert_array_equal(labels, (np.arange(40) >= a) & (np.arange(40) < b))
    assert targets.any(0).sum() == 100
    assert 1 - targets.mean() == pytest.approx(problem.chance, abs=0.03)


def test_clips():
    xs, targets, _, _ = applications.clips(5, size=6, noise=0.0).draw(rng(), 80)
    grids = xs.reshape(5, 80, 6, 6)
    np.testing.assert_array_equal(grids.sum((2, 3)), 4)
    axis_shift = {0: (0, 1), 1: (0, -1), 2: (1, 0), 3: (-1, 0)}
    for b, label in enumerate(targets):
        np.testing.assert_array_equal(grids[1:, b], np.roll(grids[:-1, b], axis_shift[label], (1, 2)))


def test_sentiment():
    pairs = applications.sentiment().draw(rng(), 2000)
    labels = []
    for words, (label,) in pairs:
        text = " ".join(words)
        last = re.split(" but | and ", text)[-1]
        good = any(word in applications.GOOD for word in last.split())
        assert (label == "positive") == (good ^ ("not" in last.split()))
        clauses = [
            (any(w in applications.GOOD for w in c.split()) ^ ("not" in c.split()))
            for c in re.split(" but | and ", text)
        ]
        assert (clauses[0] == clauses[1]) == (" and " in text)
        labels.append(label == "positive")
    labels = np.array(labels)
    assert labels.sum() == 1000
    for word in applications.sentiment().source_symbols:
        has = np.array([word in p.source for p in pairs])
        assert abs(labels[has].mean() - 0.5) < 2.5 / np.sqrt(has.sum()), word
