"""Runs beside each other: the learning curves of all in one figure, what they came to in one table.

In order of reading:

- `measures`: what the runs of each command are compared by, with its unit;
- `reading`: runs as they are found in folders, finished or not; those that differ in the seed together, and what the
  others differ in;
- `tables`: rows, and the table as Markdown;
- `comparison`: a figure and a table of any runs; `several`: ``--cell lstm gru`` of every command that trains.

Three runs, two of which differ in the seed alone:

>>> import tempfile
>>> from seqjax.recipes import charlm
>>> from seqjax.recipes.comparing import reading, tables
>>> from seqjax.recipes.running.run import Run
>>> folder = tempfile.mkdtemp()
>>> for cell, seed, loss in (("gru", 0, 1.25), ("lstm", 0, 1.5), ("lstm", 1, 1.75)):
...     run = Run.create("charlm", charlm.Options(cell=cell, seed=seed, run_dir=f"{folder}/{cell}-{seed}"), {})
...     run.log(step=100, validation_loss=2.0)
...     run.log(step=200, validation_loss=loss)
>>> [compared] = tables.by_unit(reading.groups(reading.read("compare", [folder]))).values()
>>> print(tables.markdown(compared[0][1].axis, tables.rows(compared), {"bigrams": 2.5}), end="")
|         | cross-entropy, held back (nats/character) | updates    |
| ------- | ----------------------------------------- | ---------- |
| gru     | 1.25                                      | 200 so far |
| lstm    | 1.625 (1.5 to 1.75)                       | 200 so far |
| bigrams | 2.5                                       |            |
"""
