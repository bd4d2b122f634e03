"""Piano rolls ``[T, 88]``, ones where a key sounds, as MIDI files and as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mido
import numpy as np

from seqjax.colours import COLOURS
from seqjax.recipes.pictures.style import few_ticks, open_frame
from seqjax.tasks.frames import KEYS, LOWEST

TEMPO = 100  # frames a minute in a MIDI file


def write_midi(path: Path, roll: np.ndarray) -> None:
    """A roll as a MIDI file, a frame a beat, rests at the end too: a key that goes on sounding is one long note."""
    file, track = mido.MidiFile(), mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(TEMPO)))
    silence = np.zeros((1, roll.shape[1]))
    changes = np.diff(np.concatenate([silence, roll, silence]), axis=0)
    wait = 0
    for change in changes:
        for kind, sign in (("note_off", -1), ("note_on", 1)):
            for key in np.flatnonzero(change == sign):
                track.append(mido.Message(kind, note=int(key) + LOWEST, velocity=80, time=wait))
                wait = 0
        wait += file.ticks_per_beat
    track.append(mido.MetaMessage("end_of_track", time=wait - file.ticks_per_beat))  # no beat behind the last frame's
    file.save(path)


def piano_roll(real: Sequence[Sequence[int]], played: Sequence[Sequence[int]], prompt: int) -> Any:
    """Draws two piano rolls: the piece as it is, and as the network goes on from its beginning.

    Args:
      real: frames of keys ``[T, 88]``.
      played: the same of the network.
      prompt: how many frames it was given.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    rolls = np.array(real, int), np.array(played, int)
    keys = np.flatnonzero(np.concatenate(rolls).any(0))
    low, high = (int(keys.min()), int(keys.max())) if len(keys) else (0, KEYS - 1)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    for axes, roll, title in zip(
        figure.subplots(2, sharex=True, sharey=True), rolls, ("the piece itself", "the network plays on")
    ):
        axes.axvspan(-0.5, prompt - 0.5, color="0.92", linewidth=0)
        for key in range(low, high + 1):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], roll[:, key], [0]])))
            spans = [(start - 0.5, stop - start) for start, stop in zip(edges[::2], edges[1::2])]
            axes.broken_barh(spans, (key - 0.4, 0.8), color=COLOURS[0], linewidth=0)
        cs = [key for key in range(KEYS) if (key + LOWEST) % 12 == 0]
        axes.set_yticks(cs, [f"C{(key + LOWEST) // 12 - 1}" for key in cs])
        axes.set_ylim(low - 1, high + 1)
        axes.set_xlim(-0.5, len(played) - 0.5)
        axes.set_title(title, fontsize="medium")
        axes.set_ylabel("key")
        open_frame(axes)
    axes.set_xlabel("frame (shaded: given)")
    few_ticks(axes.xaxis, range(len(played)), most=10)
    return figure
