"""Frames to continue: music in four voices made by rule, smooth poses of a walking figure."""

import numpy as np

from seqjax import checks
from seqjax.tasks.problem import Examples, Problem, at_least, whole

__all__ = [
    "four_voices",
    "music_floor",
    "poses",
    "voicing",
    "walk",
]

KEYS = 88
LOWEST = 21
SCALE = (0, 2, 4, 5, 7, 9, 11)
HOMES = (43, 52, 59, 66)

# Where harmony goes from each degree of the scale, I to vii.
PROGRESSION = (
    np.array(
        [
            [0, 2, 1, 3, 3, 1, 0],
            [0, 0, 0, 0, 8, 0, 2],
            [0, 0, 0, 4, 0, 6, 0],
            [2, 2, 0, 0, 5, 0, 1],
            [7, 0, 0, 0, 0, 3, 0],
            [0, 5, 0, 4, 1, 0, 0],
            [10, 0, 0, 0, 0, 0, 0],
        ]
    )
    / 10.0
)
PHRASE = 8


def voicing(tonic: int, degree: int) -> tuple[int, ...]:
    """The four MIDI pitches of a triad: root in the bass, the others at the tones nearest their homes.

    >>> voicing(0, 0)
    (48, 52, 60, 67)
    """
    tones = [(tonic + SCALE[(degree + step) % 7]) % 12 for step in (0, 2, 4)]

    def nearest(classes: list[int], home: int) -> int:
        return min((p for p in range(home - 6, home + 7) if p % 12 in classes), key=lambda p: (abs(p - home), p))

    return (nearest(tones[:1], HOMES[0]), *(nearest(tones, home) for home in HOMES[1:]))


def four_voices(length: int, *, hold: int = 2) -> Problem:
    """Next-frame prediction of chords in four voices on the 88 keys of a piano.

    Each piece has a key of its own. Phrases of eight chords begin on the first degree and follow the
    probabilities of ``PROGRESSION``; every second phrase repeats the one before, so that half of the music is
    known to whoever remembers ``8 · hold`` frames. Every chord sounds for ``hold`` frames.

    Args:
      length: T, one less than the frames of a piece.
      hold: frames a chord.

    Returns:
      A problem with ``xs`` and targets ``[T, B, 88]``, targets one frame ahead; ``chance`` is the
      cross-entropy of knowing how often each key sounds, in nats a frame summed over keys, measured on 500
      pieces. `music_floor` is the best there is.
    """
    length = at_least("four_voices", length, 1)
    checks.sizes("four_voices", hold=hold)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        rolls = np.zeros((length + 1, count, KEYS), np.float32)
        for i in range(count):
            tonic = int(rng.integers(12))
            phrases = -(-(length + 1) // (PHRASE * hold))
            chords: list[int] = []
            for number in range(phrases):
                chords += chords[-PHRASE:] if number % 2 else _phrase(rng)
            for t in range(length + 1):
                rolls[t, i, np.array(voicing(tonic, chords[t // hold])) - LOWEST] = 1
        every = np.ones((length, count), bool)
        return Examples(rolls[:-1], rolls[1:], every, every)

    share = draw(np.random.default_rng(0), 500).targets.mean((0, 1), dtype=np.float64)
    share = share[(share > 0) & (share < 1)]
    chance = -float((share * np.log(share) + (1 - share) * np.log1p(-share)).sum())
    return Problem(draw, KEYS, KEYS, "cross-entropy", chance)


def _phrase(rng: np.random.Generator) -> list[int]:
    chords = [0]
    while len(chords) < PHRASE:
        chords.append(int(rng.choice(7, p=PROGRESSION[chords[-1]])))
    return chords


def music_floor(length: int, *, hold: int = 2, together: bool = True) -> float:
    """What the rules of `four_voices` leave open, in nats a frame: nobody who knows the key does better.

    The entropy of each new chord given the last, in the phrases that are not repetitions, averaged over the targets;
    with ``together=False`` the sum of the entropies of its keys, the floor of whoever says each by itself.
    """
    length = at_least("music_floor", length, 1)
    checks.sizes("music_floor", hold=hold)
    entropy = _entropy(PROGRESSION).sum(1)
    if not together:
        pitches = [[voicing(tonic, degree) for degree in range(7)] for tonic in range(12)]
        keys = [[np.isin(np.arange(LOWEST, LOWEST + KEYS), chord) for chord in chords] for chords in pitches]
        shares = PROGRESSION @ np.array(keys, float)  # [12, 7, 88]: how likely each key is behind each degree
        entropy = (_entropy(shares) + _entropy(1 - shares)).sum(-1).mean(0)
    where, total = np.eye(7)[0], 0.0
    for chord in range(length // hold + 1):
        place = chord % (2 * PHRASE)
        if place == 0:
            where = np.eye(7)[0]
        elif place < PHRASE:
            total += float(where @ entropy)
            where = where @ PROGRESSION
    return total / length


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0)


def poses(length: int, *, joints: int = 8) -> Problem:
    """Next-frame prediction of the joint angles of a walk, of one speed and one phase a sequence.

    Args:
      length: T, one less than the frames of a sequence.
      joints: d.

    Returns:
      A problem with ``xs`` and targets ``[T, B, joints]``, targets one frame ahead; ``chance`` is the
      variance of an angle, which the mean pose scores.
    """
    length = at_least("poses", length, 1)
    checks.sizes("poses", joints=joints)
    first, second, _ = _body(joints)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        speed, phase = rng.uniform(0.1, 0.4, count), rng.uniform(0, 2 * np.pi, count)
        frames = _frames(np.arange(length + 1)[:, None] * speed + phase, joints)
        every = np.ones((length, count), bool)
        return Examples(frames[:-1].astype(np.float32), frames[1:].astype(np.float32), every, every)

    return Problem(draw, joints, joints, "squared error", float((first**2 + second**2).mean() / 2))


def walk(length: int, *, joints: int = 8, stretch: int = 500, seed: int = 0) -> np.ndarray:
    """The joint angles of one long walk, like those of `poses`, whose speed is another one every ``stretch`` ticks.

    Args:
      length: T.
      joints: d.
      stretch: ticks of one speed.
      seed: of the speeds.

    Returns:
      ``[T, joints]`` of float64, in radians.
    """
    length = at_least("walk", length, 1)
    checks.sizes("walk", joints=joints, stretch=stretch)
    whole("walk", 0, seed=seed)
    speeds = np.random.default_rng(seed).uniform(0.1, 0.4, -(-length // stretch))
    return _frames(np.cumsum(np.repeat(speeds, stretch)[:length]), joints)


def _body(joints: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Amplitudes of the first and second harmonic of each joint, and their phases."""
    body = np.random.default_rng(0)
    first, second = body.uniform(0.3, 1, joints), body.uniform(0.1, 0.4, joints)
    return first, second, body.uniform(0, 2 * np.pi, (2, joints))


def _frames(phase: np.ndarray, joints: int) -> np.ndarray:
    """Angles ``[..., joints]`` at these phases of a step."""
    first, second, shifts = _body(joints)
    angle = phase[..., None]
    return first * np.sin(angle + shifts[0]) + second * np.sin(2 * angle + shifts[1])
