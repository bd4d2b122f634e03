"""What a recogniser says in every frame of an utterance."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.colours import COLOURS
from seqjax.recipes.pictures.style import few_ticks, legend_above, open_frame


def spikes(
    sounding: Sequence[str], blank: Mapping[str, Sequence[float]], symbols: Mapping[str, Mapping[str, Sequence[float]]]
) -> Any:
    """Draws what sounds in each frame, and what each model makes of it, a panel a model.

    Args:
      sounding: the symbol of each frame.
      blank: ``model -> probability of no symbol in each frame``.
      symbols: ``model -> symbol -> its probability in each frame``, of those that sound.

    Returns:
      A figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 0.4 + 1.9 * len(blank)), layout="constrained")
    panels = figure.subplots(len(blank), 1, sharex=True, squeeze=False)[:, 0]
    starts = [t for t in range(len(sounding)) if t == 0 or sounding[t] != sounding[t - 1]]
    for axes, (name, nothing) in zip(panels, blank.items()):
        for start, end in zip(starts, [*starts[1:], len(sounding)]):
            axes.axvspan(start - 0.5, end - 0.5, color="0.95", ec="white", linewidth=2)
            axes.text((start + end - 1) / 2, 1.06, sounding[start], ha="center", fontsize="small", parse_math=False)
        axes.plot(nothing, color="0.55", linestyle=":", linewidth=1.2, label="blank")
        for index, (symbol, line) in enumerate(symbols[name].items()):
            colour, marker = COLOURS[index % len(COLOURS)], "os^Dv"[index // len(COLOURS) % 5]
            axes.plot(line, color=colour, linewidth=1.4, marker=marker, markersize=2.5, label=symbol)
        axes.set_title(name, fontsize="medium", loc="left")
        axes.set_ylabel("probability")
        axes.set_ylim(0, 1.18)
        axes.set_yticks([0, 0.5, 1])
        axes.margins(x=0.01)
    open_frame(*panels)
    few_ticks(panels[-1].xaxis, range(len(sounding)), most=10)
    panels[-1].set_xlabel("frame (what sounds, above)")
    legend_above(figure, panels[0], most=9)
    return figure
