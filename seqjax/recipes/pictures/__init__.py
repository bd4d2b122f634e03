"""Figures of the recipes, fit to print: axes with units, and colours that colour-blind readers can tell apart.

In order of reading: `style` is what they share; `curves`, `seeds` and `compared` hold learning curves, of one run and
of several; `tables` what a classifier takes for what and where a decoder looks; the others one picture each, by the
name of what is in it. Every function takes plain numbers and returns a figure. A recipe hands the numbers to
`running.drawing.save`, which keeps them as JSON beside the figure, and a stored figure is drawn again from them, as a
PDF for example: ``python -m seqjax.recipes.pictures RUN/loss.json --figures pdf``. matplotlib is imported when
something is drawn.

Two losses and a level to beat:

>>> from seqjax.recipes.pictures.curves import curves
>>> lines = {"training": ([0, 10, 20], [2.3, 1.1, 0.8]), "validation": ([10, 20], [1.2, 1.0])}
>>> figure = curves(lines, levels={"bigram model": 1.5}, x_label="updates", y_label="cross-entropy (nats)")
>>> [line.get_label() for line in figure.axes[0].lines]
['training', 'validation', 'bigram model']
"""
