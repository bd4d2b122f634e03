"""Measurements, one question a script: `python -m benchmarks.bptt --help`.

- `all` runs those of time one after the other, several times; results/ is what they found, `headline` makes the figure
  and tables of the pages from it, with `length_table`, `limit_table` and `path_table`, which share `tables`.
  docs/performance.md says what each script answers.
- Recurrences: `bptt` (`options`, `candidates`, `problem`, `program`, `peers`, `ours`, `report`, `plots`), `engines`,
  `parallel`, `sweep`, `interop`, `flags`, `gpu`.
- Hot paths beside the fastest other way of each: `decoding`, `hmm`, `crf`, `ctc`, `reading`, on what `paths` does for
  all; `charlm`, a whole update.
- The ground: `timing` takes turns, `memory` counts bytes, `limit` times the parts of which a path is made, `record`
  keeps what was found with machine and versions, `versions` tells them apart.
- What is learned, not how fast: `recipes`, `learning`, `timed`, `vocabularies`, `curvature`, `normalisation`,
  `beside_torch`; what programs are made of: `structure`, and `kept`, what their gradients stack.
"""
