"""How others lay out weights: one direction of one layer, read and written, a framework a file.

Each file says the order of gates, which matrices are turned round, where biases sit, and, in `WORDS`, which cells and
options of ours the framework has. None needs its framework. In every one:

- ``read(kind, …)``: a cell and its parameters from named arrays.
- ``written(part)``: named arrays of a cell and its parameters.
"""
