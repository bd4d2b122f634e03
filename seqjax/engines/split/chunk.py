"""How many ticks a chunk: as many as let what is done for all of them at once stay in a cache."""

from collections.abc import Sequence

from seqjax.engines import platforms
from seqjax.engines.split.forward import Staged
from seqjax.engines.split.loop import Loop, bytes_of


def ticks_a_chunk(stages: Sequence[Staged], loops: Sequence[Loop]) -> int:
    """From the bytes a tick that are written in front of loops, and handed on by them or, as ε, to their transpose.

    What a loop's derivative keeps does not count: it is stacked for all of time in any case, and copied once more from
    each chunk's stack. Attention over 32 own states, a training step in one chunk of 512 ticks and in chunks of 8: .79
    and 1.06 of a scan's.
    """
    in_front = bytes_of(v for stage in stages for v in stage.outputs)
    outputs = bytes_of(v for loop in loops for v in loop.outputs)
    epsilon = bytes_of(d.root for loop in loops for d in loop.deferred)
    # On a CPU 1 MB of stacked values, a core's second-level cache, at least 8 ticks. An LSTM's training step with 1, 2
    # and 4 MB, times that with 256 KB, of T and B, h (batched values a tick): 1,024 and 8, 128 (32 KB): .84, .90, 1.02;
    # 256 and 8, 128: .85, .86, .95; 512 and 4, 128 (16 KB): .87, .87, 1.01; 1,024 and 8, 64 (16 KB): .97, .99, 1.01;
    # 256 and 16, 128 (64 KB): .96, .96, 1.09; 256 and 32, 128 (128 KB): 1, 1.04, 1.18. GRUs alike.
    of = platforms.planned()
    return max(of.least_chunk, of.chunk_bytes // max(1, in_front + max(outputs, epsilon)))
