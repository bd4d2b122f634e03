"""Runnable experiments, one a file: ``python -m seqjax --help`` lists them.

A recipe is a file in front with `Options` and ``main(options)``, read from top to bottom: data, model, training, what
came out; ``to_ask(run)`` says what its runs can be asked. Behind it are four rooms, whose pages show each at work:

- `running`: options and how they are refused, the folder of a run, the loop that trains, going on after Ctrl-C;
- `pictures`: learning curves and the other figures;
- `comparing`: runs beside each other, in one figure and one table;
- `language`: texts, words, pairs of texts, and what a trained model of them is asked.
"""
