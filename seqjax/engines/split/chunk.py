"""How many ticks a chunk, as many as let what is done for all of them at once stay in a cache, and its bytes."""

from collections.abc import Sequence

from seqjax.engines import platforms
from seqjax.engines.base import Costs
from seqjax.engines.split.forward import Staged
from seqjax.engines.split.loop import Loop, bytes_of

# On a CPU a chunk is at most an eighth of time where that is long, as it takes several times what it hands on. 1,000
# ticks of one sequence, 64 units, a training step's time and memory as shares of a scan's, in chunks of 500, 125, 50:
# Elman .67, .19, .21 and 1.21, .81, .82; irnn .56, .41, .45 and 1.83, 1.33, 1.33; minGRU .53, .35, .39 and 1.43, 1.14,
# 1.14. At 128 ticks of one sequence, 32 units, two chunks take 1.0 to 1.2 times as long as one.
LONG = 64


def ticks_a_chunk(stages: Sequence[Staged], loops: Sequence[Loop], length: int, *, forwards: bool) -> int:
    """From the bytes a tick that are written in front of loops, and handed on by them or, as ε, to their transpose.

    What a loop's derivative keeps does not count: it is stacked for all of time in any case, and copied once more from
    each chunk's stack. Attention over 32 own states, a training step in one chunk of 512 ticks and in chunks of 8: .79
    and 1.06 of a scan's.
    """
    in_front = bytes_of(v for stage in stages for v in stage.outputs)
    outputs = bytes_of(v for loop in loops for v in loop.outputs)
    epsilon = bytes_of(d.root for loop in loops for d in loop.deferred)
    # On a CPU 1 MB of stacked values, a second-level cache, at least 8 ticks; a training step's time over an unsplit
    # scan's with 256 KB and 1 MB, T 1,024, B 8: LSTM of 64 units .67, .57, of 128 .51, .41; GRU .52, .46 and .49, .40;
    # layer-norm LSTM of 128 .50, .41; at one sequence .54, .51; at B 32, 128 units 8 ticks either way. Forward passes
    # have 256 KB: an LSTM's with chunks of 32, 64 and 128 ticks, B, h (batched values a tick): 8, 64 (8 KB): 1.01,
    # 1.12, 1.10; 8, 128 (16 KB): .97, .86, .82; 64, 256 (256 KB): 1.01, 1.42, 1.84.
    of = platforms.planned()
    bytes_of_chunk = of.forward_chunk_bytes if forwards else of.chunk_bytes
    ticks = max(of.least_chunk, bytes_of_chunk // max(1, in_front + max(outputs, epsilon)))
    return min(ticks, max(LONG, length // of.pieces))


def at_work(loops: Sequence[Loop], costs: Costs) -> dict[str, int]:
    """Bytes a tick that a chunk's gradient takes while it is worked out, by what the chunk keeps.

    Where it runs again it stacks for all of its ticks what the loops read, X, and hand on, O, the cotangents of both,
    ε, and what it keeps, r, of which the compiler computes about half a second time rather than store it.
    """
    # The shares are fitted to `memory_analysis` of 43 cells, 64 units, 4 sequences, two chunks of 64 ticks that run
    # again (81 % within 15 %, median 1.00; with 2 r instead 47 %), and 1.5 to 26 random cases where all is kept.
    read = bytes_of(v for loop in loops for v in loop.x)
    handed = bytes_of(v for loop in loops for v in loop.outputs)
    epsilon = bytes_of({d.root for loop in loops for d in loop.deferred})
    again = (costs.all + 4 * read + 5 * handed) // 2 + epsilon
    return {"all": 3 * costs.all // 2, "carries": again, "nothing": again}
