"""Streams that share a batch: equal to each one alone, whoever comes and goes, in few programs and flat memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from zoo import CELLS, LAYERS

import seqjax as sj

KEY = jax.random.key(7)
MODELS = {name: case for name, case in (CELLS | LAYERS).items() if getattr(case, "causal", True)}
ALWAYS = ("zoneout", "causal_conv", "windowed_attention")
SIZES = [(1, 3), (2, 5), (4, 8)]  # padded to one, two and three ticks and rows


def traced(layer, seen):
    """The layer, with a note of the shapes that a program is made for."""

    def apply(params, state, xs, **ticks):
        seen.append((jax.tree.leaves(xs)[0].shape[:2], ticks.get("lengths") is not None))
        return layer.apply(params, state, xs, **ticks)

    return layer._replace(apply=apply)


def layer_of(name):
    module = MODELS[name].make()
    return sj.recurrent(module) if isinstance(module, sj.Cell) else module


def served(sessions, sequences, rng, longest):
    """The outputs of every sequence, fed piece by piece to slots that change hands; one leaves for a while and is back.

    ``sequences`` are trees ``[T, …]``. Returns the outputs' leaves, sequence by sequence.
    """
    waiting, running, away = list(range(len(sequences))), {}, []
    place, out = [0] * len(sequences), [[] for _ in sequences]
    size = len(sessions._taken)
    while waiting or running or away:
        while len(running) < size and (waiting or away):
            if away and (not waiting or rng.random() < 0.5):
                who, state = away.pop()
                running[who] = sessions.put(state)
            else:
                running[who := waiting.pop(0)] = sessions.put()
        chosen = rng.permutation(list(running))[: rng.integers(1, len(running) + 1)].tolist()
        left = [len(jax.tree.leaves(sequences[who])[0]) - place[who] for who in chosen]
        ticks = rng.integers(1, longest + 1)
        lengths = np.minimum(left, rng.integers(0, ticks + 1, len(chosen)) if rng.random() < 0.5 else ticks)
        piece = [
            jax.tree.map(lambda leaf, at=place[who], n=n, t=ticks: filled(leaf[at : at + n], t), sequences[who])
            for who, n in zip(chosen, lengths)
        ]
        xs = jax.tree.map(lambda *rows: np.stack(rows, axis=1), *piece)
        whole = bool((lengths == ticks).all())
        ys = sessions.step(xs, [running[who] for who in chosen], lengths=None if whole else lengths)
        for row, (who, n) in enumerate(zip(chosen, lengths)):
            assert not any(leaf[n:, row].any() for leaf in jax.tree.leaves(ys))
            out[who].append([leaf[:n, row] for leaf in jax.tree.leaves(ys)])
            place[who] += n
            if place[who] == len(jax.tree.leaves(sequences[who])[0]):
                sessions.take(running.pop(who))
            elif rng.random() < 0.1:
                away.append((who, sessions.take(running.pop(who))))
    assert sessions.taken == ()
    return [[np.concatenate(leaves) for leaves in zip(*pieces)] for pieces in out]


def filled(leaf, ticks):
    """Padded with what must not matter."""
    rest = np.full((ticks - len(leaf), *leaf.shape[1:]), np.nan if leaf.dtype.kind == "f" else 1, leaf.dtype)
    return np.concatenate([leaf, rest])


@pytest.mark.parametrize("name", quick(MODELS, *ALWAYS))
def test_streamed_equals_alone(name):
    """Each stream is what the model gives for the whole of it, with the noise of its own; programs are few."""
    layer, rng, seen = layer_of(name), np.random.default_rng(3), []
    params = layer.init(jax.random.key(0))
    xs = jax.tree.map(np.asarray, MODELS[name].draw(jax.random.key(1), (23, 5)))
    sequences = [jax.tree.map(lambda leaf, i=i: leaf[: 23 - 4 * i, i], xs) for i in range(5)]
    sessions = sj.Sessions(traced(layer, seen), params, 4, key=KEY, longest=4)
    found = served(sessions, sequences, rng, 6)
    assert len(seen) == len(set(seen)) <= 2 * 3 * 3
    alone = jax.jit(layer.apply)
    for i, ys in enumerate(found):
        state = layer.initial_state(params, key=jax.random.fold_in(KEY, i))
        padded = jax.tree.map(lambda leaf: filled(leaf, 23), sequences[i])
        whole = alone(params, state, padded, mask=np.arange(23) < len(ys[0]))[1]
        for y, expected in zip(ys, jax.tree.leaves(whole)):
            np.testing.assert_allclose(y, expected[: len(y)], rtol=1e-11, atol=1e-12)


def test_a_stream_does_not_see_its_neighbours():
    """To the bit, in one program: NaN beside it, and silence, change nothing; nor does its slot's last guest."""
    cell = sj.lstm(3, 4)
    params = cell.init(jax.random.key(0))
    xs = np.random.default_rng(0).normal(size=(8, 2, 3))

    def last_of(neighbour, guest):
        sessions = sj.Sessions(cell, params, 2)
        slots = [sessions.put(), sessions.put()]
        if guest:
            sessions.step(np.full((8, 2, 3), np.nan), slots)
            for slot in slots:
                sessions.take(slot)
            slots = [sessions.put(), sessions.put()]
        ys = sessions.step(np.stack([xs[:, 0], neighbour], 1), slots)
        return ys[:, 0].tobytes(), jax.tree.map(np.asarray, sessions.take(slots[0])).c.tobytes()

    expected = last_of(xs[:, 1], False)
    assert last_of(np.full((8, 3), np.nan), False) == expected
    assert last_of(xs[:, 1], True) == expected


def test_silence_keeps_every_bit():
    """A state that is taken is the one put in, after a hundred ticks of others."""
    cell = sj.zoneout(sj.gru(3, 4), 0.2)
    params = cell.init(jax.random.key(0))
    sessions = sj.Sessions(cell, params, 3, key=KEY)
    state = cell.initial_state(params, key=jax.random.key(3))
    state = (state[0] + 0.123, *state[1:])
    others = [sessions.put(), sessions.put()]
    slot = sessions.put(state)
    xs = np.random.default_rng(0).normal(size=(100, 2, 3))
    sessions.step(xs, others)
    sessions.step(np.full((4, 2, 3), np.nan), [slot, others[0]], lengths=np.array([0, 3]))
    data = lambda tree: [np.asarray(jax.random.key_data(x) if x.ndim == 0 else x) for x in jax.tree.leaves(tree)]
    jax.tree.map(np.testing.assert_array_equal, data(sessions.take(slot)), data(state))


def test_noise_is_drawn_for_every_stream():
    cell = sj.variational_dropout(sj.elman(3, 4), 0.5)
    sessions = sj.Sessions(cell, cell.init(jax.random.key(0)), 2, key=KEY)
    states = [jax.tree.leaves(sessions.take(sessions.put())) for _ in range(3)]
    assert len({str(state) for state in states}) == 3


def test_sessions_go_on_from_a_file(tmp_path):
    """Slots, states, noise and the next noise to be drawn."""
    pytest.importorskip("safetensors")
    cell = sj.zoneout(sj.lstm(3, 4), 0.3)
    params = cell.init(jax.random.key(0))
    make = lambda slots=3: sj.Sessions(cell, params, slots, key=KEY)
    xs = np.random.default_rng(0).normal(size=(4, 1, 3))
    one = make()
    one.put(), one.put()
    one.take(0)
    one.step(xs, [1])
    one.save(tmp_path / "streams")
    other = make()
    other.put()
    other.load(tmp_path / "streams")
    assert other.taken == one.taken == (1,)
    assert other.put() == one.put() == 0
    np.testing.assert_array_equal(other.step(xs, [1]), one.step(xs, [1]))
    np.testing.assert_array_equal(other.step(xs, [0]), one.step(xs, [0]))
    with pytest.raises(ValueError, match=r"^load: expected .* of shape \(2,.*, got \(3,") as found:
        make(2).load(tmp_path / "streams")
    assert found.value.__notes__ == [
        "Sessions.load: make Sessions with the model, slots and key that they were saved with."
    ]


def test_errors():
    cell = sj.lstm(3, 4)
    params = cell.init(jax.random.key(0))
    sessions = sj.Sessions(cell, params, 2)
    slot, xs = sessions.put(), np.zeros((4, 1, 3))
    state = cell.initial_state(params)
    cases = [
        (lambda: sessions.step(xs, [1]), ValueError, r"^Sessions\.step: expected slots in use, .* of \[0\], got \[1\]"),
        (lambda: sessions.step(xs, [0, 0]), ValueError, r"^Sessions\.step: expected slots in use, each once, .*\[0, 0"),
        (lambda: sessions.step(xs, []), ValueError, r"^Sessions\.step: expected slots in use, each once, .*got \[\]\."),
        (lambda: sessions.take(5), ValueError, r"^Sessions\.take: expected slots in use, .*got \[5\]\. Put a stream i"),
        (lambda: sessions.step(xs[:, 0], [0]), ValueError, r"^Sessions\.step: expected the batch of xs of shape \(1,"),
        (lambda: sessions.step(xs[:0], [0]), ValueError, r"^Sessions\.step: expected leaves with one number of ticks"),
        (lambda: sessions.step(xs[..., :2], [0]), ValueError, r"^lstm: expected inputs of size 3, got 2"),
        (lambda: sessions.step(xs, [0], lengths=[5]), ValueError, r"^Sessions\.step: expected lengths from 0 to the 4"),
        (lambda: sessions.step(xs, [0], lengths=[1, 2]), ValueError, r"^Sessions\.step: expected lengths of shape \(1"),
        (lambda: sessions.put(state.h), ValueError, r"^Sessions\.put: expected a state like LSTMState\(h=\[4\], c=\[4"),
        (
            lambda: sessions.put(cell.initial_state(params, (2,))),
            ValueError,
            r"^Sessions\.put: expected a state of shape \(4,\) like that of one sequence, got \(2, 4\)\. ",
        ),
        (
            lambda: sessions.put(jax.tree.map(lambda x: x.astype(jnp.float32), state)),
            TypeError,
            r"^Sessions\.put: expected a state of float64, got float32\. Cast it",
        ),
        (lambda: sj.Sessions(cell, params, 0), ValueError, r"^Sessions: expected slots to be a whole number of at lea"),
        (lambda: sj.Sessions(params, cell, 1), TypeError, r"^Sessions: expected a Layer, got LSTMParams\. Pass a cell"),
        (lambda: sj.Sessions(cell, state, 1), TypeError, r"^Sessions: expected parameters of lstm, LSTMParams at par"),
    ]  # fmt: skip
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
    sessions.put()
    with pytest.raises(
        ValueError, match=r"^Sessions\.put: expected a free slot, got 2 of 2 taken\. Take one out first"
    ):
        sessions.put()
    assert sessions.step(xs, [slot]).shape == (4, 1, 4)  # no failure harmed it


def test_what_reads_from_the_end_is_refused():
    both = sj.bidirectional(sj.gru(3, 4), sj.gru(3, 4))
    with pytest.raises(TypeError, match=r"^Sessions: expected a layer that reads forwards, got bidirectional\(gru\(3,"):
        sj.Sessions(both, both.init(jax.random.key(0)), 2)
    layer = sj.recurrent(sj.gru(3, 4), reverse=True)
    sessions = sj.Sessions(layer, layer.init(jax.random.key(0)), 2)
    with pytest.raises(
        TypeError, match=r"^recurrent: expected a layer that reads forwards, .* stream with a layer tha"
    ):
        sessions.step(np.zeros((2, 1, 3)), [sessions.put()])


def resident():
    """Megabytes that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def soak(users, ticks):
    """Ticks in all of users that come and go, 8 at a time; what memory holds at a tenth, half and the end."""
    layer = sj.serial(
        sj.causal_conv(3, 4, width=3, dilation=2),
        sj.layers.windowed_attention(4, 2, 8),
        sj.recurrent(sj.zoneout(sj.lstm(4, 8), 0.1)),
        sj.dense(8, 3),
    )
    rng, seen, held = np.random.default_rng(0), [], []
    params = layer.init(jax.random.key(0))
    sessions = sj.Sessions(traced(layer, seen), params, 8, key=KEY, longest=64)
    left, come, done, xs = {}, 0, 0, rng.normal(size=(100, 8, 3))
    slots = [sessions.put() for _ in range(8)]
    for length, rows, lengths in itertools.product((1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8), (None, 0)):
        lengths = None if lengths is None else np.zeros(rows, int)
        sessions.step(xs[:length, :rows], slots[:rows], lengths=lengths)  # every program there is
    for slot in slots:
        sessions.take(slot)
    programs = len(seen)
    marks = [users // 10, users // 2, users]
    while come < users or left:
        while come < users and len(left) < 8:
            left[sessions.put()] = ticks // users
            come += 1
        slots = rng.permutation(list(left))[: rng.integers(1, len(left) + 1)].tolist()
        length = int(rng.integers(1, 101))
        ends = np.minimum(length, [left[slot] for slot in slots])
        ys = sessions.step(xs[:length, : len(slots)], slots, lengths=ends)
        assert np.isfinite(ys).all()
        for slot, n in zip(slots, ends):
            left[slot] -= int(n)
            done += int(n)
            if not left[slot]:
                del left[slot]
                sessions.take(slot)
        if come >= marks[0] and len(held) < 3 and (come < users or not left):
            held.append((resident(), len(jax.live_arrays())))
            marks.pop(0)
            marks.append(users + 1)
    assert done == users * (ticks // users)
    assert len(seen) == programs == len(set(seen)) == 7 * 4 * 2
    return held


@pytest.mark.slow
def test_a_soak():
    """A million ticks, a thousand comings and goings: no program but the first ones, memory flat within 10 MB."""
    early, middle, late = soak(1000, 1_000_000)
    assert abs(late[1] - early[1]) <= 1 >= abs(late[1] - middle[1])  # the last piece's outputs may still be there
    assert late[0] < early[0] + 10, (early, middle, late)
