"""Figures of the recipes, fit to print: axes with units, and colours that colour-blind readers can tell apart.

In order of reading: `curves` holds what several recipes draw (learning curves, tables of confusion, where a decoder
looks), and the others one picture each: `automaton` for ``automaton``, `forecasts` for ``forecast``, `lattice` for
``hmm-tag``, `piano_roll` for ``music``, which writes the music as well. All take arrays and the path of the picture,
whose ending decides the format; `curves.draw` alone takes a run, and draws its records. matplotlib is imported when
something is drawn.

Two losses and a level to beat:

>>> import pathlib, tempfile
>>> from seqjax.recipes.pictures.curves import curves
>>> path = pathlib.Path(tempfile.mkdtemp()) / "loss.svg"
>>> lines = {"training": ([0, 10, 20], [2.3, 1.1, 0.8]), "validation": ([10, 20], [1.2, 1.0])}
>>> curves(path, lines, levels={"bigram model": 1.5}, x_label="updates", y_label="cross-entropy (nats)")
>>> path.read_text().startswith("<?xml")
True
"""
