"""Runnable experiments, one a file: ``python -m seqjax --help`` lists them.

A recipe has `Options` and ``main(options)``. What recipes share: `options` (common options, their checks, bad input),
`run` (the folder: configuration and metrics), `checkpoints`, `loop` (progress, Ctrl-C, resuming), `learning` (updates,
curve, ``result.json``), `figure`, `text`.
"""
