"""Figures of the recipes: of the numbers that are kept, the same bytes each time, nothing cut or in a heap."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from seqjax import automata
from seqjax.gradients import lessons
from seqjax.recipes import charlm
from seqjax.recipes.hmm_tag import textbook
from seqjax.recipes.pictures import automaton, lattice, seeds
from seqjax.recipes.pictures.__main__ import main as draw_again
from seqjax.recipes.pictures.style import wrapped
from seqjax.recipes.running import config, drawing
from seqjax.recipes.running.run import Run

R = np.random.default_rng(0)
LONG = "wrong symbols, held back (share of those said)"
COURSE = {"x_label": "characters read (millions)", "y_label": LONG}


def curve(y, x=tuple(range(1, 11)), **more):
    lines = {"whole captions": (x, y), "single words, those before given": (x, np.array(y) + 0.1)}
    return COURSE | {"lines": lines, "levels": {"commonest answer of all": 0.3, "chance, whole captions": 0.2}} | more


def beside(names, panels, seeds=3):
    """Configurations, each with a model of its own and a control."""
    lines = [
        {"name": name, "model": model, "x": STEPS, "y": R.uniform(0.2, 0.9, (seeds, 3))}
        for name in names
        for model in ("", "frame by frame")
    ]
    told = {"y_label": LONG, "log": True, "levels": {"chance": 0.3, "commonest answer of all": 0.4}, "lines": lines}
    return {"panels": [told] * panels, "x_label": "updates"}


def sixteen():
    """Words with an a four letters before the end: every state has two arrows."""
    dfa = automata.regex("(a|b)*a(a|b)(a|b)(a|b)")
    return automaton.numbers(dfa, R.normal(size=(90, 3)), np.arange(90) % 16)


WORDS = ["vingt", "quatre-vingt-dix-sept", "mille", "incomprehensibilities"]
STEPS = [1, 6, 12]
MANY = ", restarts 3, smoothing 0.01, states 2 3, symbols letters, text cats.txt, window 500"
FIGURES = {
    "a curve": ("learning curve", lambda: curve(np.linspace(0.9, 0.4, 10))),
    "a logarithmic curve": ("curves", lambda: curve(np.geomspace(900, 40, 10), y_scale="log")),
    "less than a decade": ("curves", lambda: curve(np.linspace(2.9, 2.5, 10), y_scale="log", levels={})),
    "a short run": ("curves", lambda: curve([0.5, 0.4, 0.3], np.arange(1, 4) * 64 * 50 / 1e6)),
    "three updates": ("curves", lambda: curve([0.5, 0.4, 0.3], [1, 2, 3], x_label="updates")),
    "a long run": ("curves", lambda: curve([0.5, 0.4], [150_000, 2_000_000], x_label="updates")),
    "one point": ("curves", lambda: curve([0.5], [7], x_label="updates")),
    "lengths": ("curves", lambda: curve(np.linspace(1, 0.4, 5), [20, 50, 100, 200, 500], x_scale="log")),
    "seeds": (
        "seeds",
        lambda: COURSE | {"y_scale": "log", "levels": {"chance": 0.3},
                          "lines": {"training": ([1, 2, 3], R.uniform(0.2, 0.3, (4, 3)))}},
    ),
    "several cells": ("compared", lambda: beside(["lstm", "gru", "elman", "indrnn", "mingru", "rglru"], panels=1)),
    "two units": ("compared", lambda: beside(["cell gru, hidden size 128", "cell lstm, hidden size 64"], panels=2)),
    "many options": ("compared", lambda: beside([f"steps 5{MANY}", f"steps 6{MANY}"], panels=1)),
    "one of several": ("compared", lambda: beside(["runs/classify-20261130-010203"], panels=1, seeds=1)),
    "confusion": (
        "confusion",
        lambda: {"tables": {"both ways": R.integers(0, 9, (3, 3)), "left to right": R.integers(0, 9, (3, 3))},
                 "names": ["B-ORGANISATION", "I", "O"], "x_label": "tag found", "y_label": "true tag"},
    ),
    "attention": ("attention", lambda: {"weights": R.dirichlet(np.ones(4), 4), "read": WORDS, "written": WORDS}),
    "one word": ("attention", lambda: {"weights": np.ones((1, 1)), "read": WORDS[1:2], "written": WORDS[1:2]}),
    "automaton": ("automaton", sixteen),
    "long captions": (
        "captions",
        lambda: {"images": R.random((2, 8, 30, 3)), "said": ["one six " * 9, "red five " * 40], "right": [False] * 2},
    ),
    "captions": (
        "captions",
        lambda: {"images": R.uniform(size=(3, 9, 30)), "said": ["one two"] * 3, "right": [True, False, True]},
    ),
    "forecast": (
        "forecast",
        lambda: {"past": R.normal(size=9), "future": R.normal(size=20), "found": {"gru": np.full(20, np.inf)},
                 "errors": {"gru": np.full(20, 1e300), "persistence": np.geomspace(0.01, 1, 20)}},
    ),
    "free run": (
        "free run", lambda: {"truth": R.normal(size=30), "run": np.r_[R.normal(size=20), np.full(10, np.nan)]}
    ),
    "hidden states": (
        "hidden states",
        lambda: {"transition": R.dirichlet(np.ones(4), 4), "emission": R.dirichlet(np.ones(40), 4),
                 "symbols": ["␣", "\\n", "$", *"abcdefghijklmnopqrstuvwxyzäöüßABCDEFG"]},
    ),
    "gaps": ("gaps", lambda: {"gaps": [0, 1, 2], "shares": {"LSTM": [1, 0.9, 0.3]}, "odds": {"LSTM": [3, 1, -1]},
                              "trained": 1}),
    "lattice": (
        "lattice", lambda: lattice.numbers(textbook().model, textbook().tags, ["the", "ball"], np.array([3, 0]))
    ),
    "piano roll": ("piano roll", lambda: {"real": np.eye(30, 88), "played": np.eye(30, 88), "prompt": 9}),
    "spikes": (
        "spikes",
        lambda: {"sounding": [*"AAABBBCCDEFG"], "blank": {name: R.uniform(size=12) for name in ("both ways", "alone")},
                 "symbols": {name: {s: R.uniform(size=12) for s in "ABCDEFG"} for name in ("both ways", "alone")}},
    ),
    "gradients": (
        "gradients",
        lambda: {"steps": STEPS, "gradient": R.uniform(size=(3, 5)), "stretch": R.normal(size=(3, 5)),
                 "memory": [2, 3, 4], "saturation": {"σ near 0": [0.1] * 3, "σ near 1": [0.0] * 3,
                                                     "tanh near ±1": [0.2] * 3}},
    ),
    "chains": ("chains", lambda: {"factors": {"w = 1.1": 1.1 ** np.arange(9), "w = 1/2": 0.5 ** np.arange(9)}}),
    "products": (
        "products",
        lambda: {"lengths": [1, 5], "found": {s: [lessons.RandomProducts(*R.uniform(0.1, 1, 4)) for _ in range(2)]
                                              for s in (0.9, 1.0)}},
    ),
    "iterates": (
        "iterates", lambda: {"rate": 3.5, "cycle": [0.4, 0.8],
                             "orbits": {"x": R.uniform(size=9), "y": R.uniform(size=9)}}
    ),
    "bifurcation": (
        "bifurcation", lambda: {"rates": np.linspace(3, 4, 5), "orbit": R.uniform(size=(7, 5)),
                                "exponents": [-0.1, -np.inf, 0.1, 0.2, 0.3]},
    ),
    "basins": (
        "basins", lambda: {"first": np.linspace(-1, 1, 4), "second": np.linspace(-1, 1, 5),
                           "found": {t: lessons.Basins(R.normal(size=(5, 4, 2)), R.normal(size=(5, 4)))
                                     for t in (3, 6)},
                           "ends": lessons.Attractors(R.uniform(-1, 1, (2, 2)), R.integers(0, 2, (5, 4))),
                           "path": R.uniform(-1, 1, (6, 2, 2))},
    ),
    "cliff": (
        "cliff", lambda: {"grid": np.meshgrid(np.linspace(4, 5, 9), np.linspace(-2.7, -1.9, 7)),
                          "losses": R.uniform(size=(7, 9)),
                          "paths": {"plain": (([4.2, 4.4, 9.0], [-2.6, -2.4, 3.0]), [0.1] * 3),
                                    "clipped": (([4.2, 4.3], [-2.6, -2.5]), [0.1] * 2)}},
    ),
    "clipping": (
        "clipping", lambda: {"thresholds": np.geomspace(0.1, 10, 5), "mean": 1.0,
                             **{name: {"one example": R.uniform(size=5), "8 examples": R.uniform(size=5)}
                                for name in ("sizes", "cosines", "rates")}},
    ),
    "depth": ("depth", lambda: {"stretches": {"plain": -R.uniform(size=(6, 4)), "residual": R.uniform(size=(6, 4))}}),
    "bounded": (
        "bounded", lambda: {"bound": 8.0, "norms": {"gain 3": R.uniform(6, 7, 9)}, "logs": {"gain 3": np.arange(9)}}
    ),
    "flow": (
        "flow", lambda: {"reports": {name: {"loss_gradient": R.uniform(0.1, 1, (9, 4)),
                                            "log_stretch": -R.uniform(size=(9, 4))}
                                     for name in ("Elman", "LSTM")}},
    ),
    "distance": ("distance", lambda: {"norms": {name: R.uniform(0.1, 1, (9, 4)) for name in ("Elman", "LSTM")}}),
    "unrolled": ("unrolled", lambda: {"along": [0.001234, 0.5, 123.0], "shares": [0.1, 0.2, 0.3]}),
    "shapes": (
        "shapes", lambda: {"problems": {name: {"inputs": [0], "states": [0, 1], "outputs": [1]}
                                        for name in ("one", "two")},
                           "told": {"one": "digits: the\nlargest", "two": "a digit"}},
    ),
    "latch": (
        "latch", lambda: {"lengths": [5, 8, 12, 17, 25, 36, 50, 70, 100, 140], "runs": 20,
                          "probabilities": {name: R.uniform(size=10) for name in ("one tanh unit", "LSTM of 4")}},
    ),
    "remedies": (
        "remedies", lambda: {"updates": [10, 30, 50], "losses": {name: R.uniform(0.01, 1, (2, 3)) for name in "abcde"},
                             "errors": {name: [0.1, 0.2] for name in "abcde"}, "chance": 1 / 6},
    ),
    "capacity": (
        "capacity", lambda: {"counts": {"Elman": [50, 100], "GRU": [50, 100]},
                             "parameters": {"Elman": [99], "GRU": [97]},
                             "bits": {"Elman": R.uniform(40, 90, (3, 2)), "GRU": R.uniform(40, 90, (3, 2))},
                             "best": {"Elman": R.uniform(40, 90, (3, 1)), "GRU": R.uniform(40, 90, (3, 1))}},
    ),
    "gates": (
        "gates", lambda: {"values": {"memory": R.uniform(-1, 1, (4, 3)), "forget gate": R.uniform(size=(4, 3))},
                          "symbols": WORDS, "units": {"memory": [2, 0, 1]}},
    ),
    "reset activity": (
        "reset activity", lambda: {"lengths": R.uniform(1, 90, 9), "activity": R.uniform(size=9), "correlation": -0.5}
    ),
    "tagger": (
        "tagger", lambda: {"words": ["John", "hit", "it"], "tags": ["Det", "Noun", "Verb"], "updates": [0, 100, 200],
                           "beliefs": {name: R.dirichlet(np.ones(3), 3) for name in ("exact filter", "learned")},
                           "confidence": [0.5, 0.8, 0.97], "exact": 0.97},
    ),
}  # fmt: skip


def run_in(folder, figures="png"):
    folder.mkdir()
    return Run(folder, {"options": {"figures": figures}})


def drawn(figure, monkeypatch):
    """The boxes of all texts that are drawn, and which of them are labels of the ticks of one axis."""
    seen, usual = [], Text.draw

    def note(text, renderer, *given, **named):
        if text.get_visible() and text.get_text().strip():
            seen.append(text)
        return usual(text, renderer, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", note)
        FigureCanvasAgg(figure).draw()
    boxes = {text: text.get_window_extent() for text in seen}
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    level = [[label for label in axis.get_ticklabels() if label.get_rotation() != 45] for axis in axes]
    return boxes, [[boxes[label] for label in labels if label in boxes] for labels in level]


def test_every_kind_is_drawn_here():
    assert {kind for kind, _ in FIGURES.values()} == set(drawing.DRAWN)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_and_no_ticks_touch(name, tmp_path, monkeypatch):
    kind, numbers = FIGURES[name]
    saved = []
    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: saved.append(figure))
        drawing.save(run_in(tmp_path / "run"), "a", kind, **numbers())
    boxes, ticks = drawn(saved[0], monkeypatch)
    assert boxes
    whole = saved[0].bbox.padded(0.5)
    for text, box in boxes.items():
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
    for labels in ticks:
        assert not any(one.overlaps(other) for one, other in itertools.combinations(labels, 2))
    numbered = [panel.get_ylabel() + panel.get_xlabel() for panel in saved[0].axes]
    numbered.append(saved[0].get_supxlabel())
    assert any(numbered) or kind in ("attention", "captions", "lattice", "unrolled", "shapes")


@pytest.mark.parametrize("figures", ["png", "pdf", "svg"])
def test_the_same_numbers_give_the_same_bytes(figures, tmp_path, monkeypatch):
    """Another day, in another folder, and drawn again from what is kept."""
    kind, numbers = FIGURES["a curve"]
    first = drawing.save(run_in(tmp_path / "one", figures), "loss", kind, **numbers())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    second = drawing.save(run_in(tmp_path / "two", figures), "loss", kind, **numbers())
    assert first.suffix == f".{figures}"
    assert first.read_bytes() == second.read_bytes()
    first.unlink()
    assert draw_again([str(tmp_path / "one" / "loss.json"), "--figures", figures]) == 0
    assert first.read_bytes() == second.read_bytes()


def test_what_is_kept_is_what_is_drawn(tmp_path):
    """To the bit; a run that goes on with another format has both figures, and a young run's default is a PNG."""
    y = R.uniform(size=10)
    run = Run(tmp_path, {"options": {}})
    assert drawing.save(run, "loss", "curves", **curve(y)).name == "loss.png"
    kind, numbers = drawing.read(tmp_path / "loss.json")
    assert kind == "curves"
    assert numbers["lines"]["whole captions"] == [list(range(1, 11)), y.tolist()]
    drawing.save(run, "run", "free run", truth=y, run=np.r_[y[:8], np.nan, np.inf])
    text = (tmp_path / "run.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["numbers"]["run"][8:] == [None, None]


def test_other_files_are_no_figures(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"recipe": "charlm"}')
    for name in ("config.json", "none.json"):
        assert draw_again([str(tmp_path / name)]) == 2
        assert f"figures: expected {tmp_path / name} to be the numbers of a figure, got" in capsys.readouterr().err


def test_a_figure_of_seeds_is_made_of_the_curves_kept(tmp_path):
    """At the steps that all have come to, beside files of other kinds."""
    runs = []
    for seed, last in ((1, 3), (2, 2)):
        runs.append(run_in(tmp_path / f"seed-{seed}"))
        (runs[-1].folder / ".lock.json").write_text("{}")
        x = list(range(1, last + 1))
        lines = {"training": (x, [seed * t for t in x])}
        drawing.save(runs[-1], "loss", "learning curve", **curve(x) | {"lines": lines, "y_scale": "linear"})
    assert seeds.draw(run_in(tmp_path / "whole", "svg"), runs).name == "spread.svg"
    assert drawing.read(tmp_path / "whole" / "spread.json")[1]["lines"] == {"training": [[1, 2], [[1, 2], [2, 4]]]}


def test_figures_may_change_from_start_to_start():
    """The option does not say what is computed: the checkpoints of a run that is older than it stay its own."""
    folder = Path(__file__).with_name("runs") / "charlm-2"
    stored = config.read("charlm", folder)
    assert config.options_of(stored, folder, charlm.Options).figures == "png"
    new = config.changed(stored, {"figures": "pdf"})
    assert (new["options"]["figures"], new["digest"]) == ("pdf", stored["digest"])
    assert new["digest"] == config.digest_of(new)


def test_labels_are_told_in_lines():
    assert wrapped("updates") == "updates"
    assert wrapped(LONG) == "wrong symbols, held back\n(share of those said)"
