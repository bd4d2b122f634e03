"""How many ticks a chunk, as many as let what is done for all of them at once stay in a cache, and its bytes."""

from collections.abc import Sequence

from seqjax import spread
from seqjax.engines import platforms
from seqjax.engines.base import Costs
from seqjax.engines.equations import jaxprs
from seqjax.engines.split.forward import Staged
from seqjax.engines.split.loop import Loop, bytes_of

# On a CPU a chunk is at most an eighth of time where that is long, as it takes several times what it hands on. 1,000
# ticks of one sequence, 64 units, a training step's time and memory as shares of a scan's, in chunks of 500, 125, 50:
# Elman .67, .19, .21 and 1.21, .81, .82; irnn .56, .41, .45 and 1.83, 1.33, 1.33; minGRU .53, .35, .39 and 1.43, 1.14,
# 1.14. At 128 ticks of one sequence, 32 units, two chunks take 1.0 to 1.2 times as long as one.
LONG = 64
# Every chunk adds up gradients of the weights, which takes its time where they are large beside what is stacked: then
# at least `least_chunk` ticks. Wide batches have fewer: a training step in chunks of 2 and 8 ticks, of 128, as shares
# of a scan's time, B, h: LSTM 256, 128 1.01, 1.17; 1,024, 64 .93, 1.12; 64, 512 .80, .79; GRU 1,024, 64 1.04, 1.16; 64,
# 256 1.05, .96.
FEWEST = 2
# Where a gradient keeps so many times what is stacked beside it, chunks copy it twice and save nothing: all of time is
# one. A training step by eighths of 512 ticks and whole, shares of a scan's time and bytes, and how many times: fast
# weights 64 × 64 1.26, 1.11 and 1.07, 1.00 (32), 32 × 32 1.15, .99 and 1.02, 1.00 (16); a shift register that is fed
# back 1.14, .89 and 1.12, 1.00 (60); attention over own states .92, .82 and 1.06, .97 (18); forward algorithm of 64
# chains 1.09, .96 and 1.13, 1.07 (6). Below that memory rises: a Kalman filter 1.12, 1.60 (2), a GRU .73, 1.31 (1).
MOST_KEPT = 6


def ticks_a_chunk(stages: Sequence[Staged], loops: Sequence[Loop], length: int, *, forwards: bool) -> int:
    """From the bytes a tick that are written in front of loops, and handed on by them or, as ε, to their transpose.

    What a loop's derivative keeps does not count: it is stacked for all of time in any case, and copied once more from
    each chunk's stack. Attention over 32 own states, a training step in one chunk of 512 ticks and in chunks of 8: .79
    and 1.06 of a scan's.
    """
    of = platforms.planned()
    # On a CPU 2 MB of stacked values, twice a second-level cache. Training steps as shares of a scan's with 256 KB,
    # 1 MB, 2 MB and 4 MB, T, B, h: LSTM 1,024, 8, 64 .69, .62, .58, .56; 1,024, 8, 128 .41, .33, .32, .32; 256, 16,
    # 128 .61, .50, .47, .47; 256, 32, 64 .82, .73, .63, .63; GRU 1,024, 8, 128 .50, .42, .40, .37. At 256, 32 in chunks
    # of 8, 16, 32 ticks: GRU of 128 units .78, .74, .69, LSTM .78, .77, .76, of 256 units .74, .77, .82.
    if not forwards:
        tick = max(stacked(stages, loops), 2 * _patches(loops))  # which are to stay in half of it
        least = min(of.least_chunk, max(FEWEST, _weights(loops) // tick)) if of.ticks else of.least_chunk
        return min(max(least, of.chunk_bytes // tick), max(LONG, length // of.pieces))
    # Forward passes with 256 KB, 1.25 MB, 2.5 MB: LSTM 1,024, 8, 128 1.00, .86, .83; 256, 16, 128 1.01, .92, .89; 256,
    # 32, 128 1.08, .90, .87; 256, 32, 64 1.01, .97, .93; over two devices all are within 10 %, the longest the slower.
    in_front = [v for stage in stages for v in stage.outputs]
    outputs = bytes_of(v for loop in loops for v in loop.outputs)
    ticks = of.forward_chunk_bytes // max(1, bytes_of(in_front) + outputs)
    ticks = min(max(of.least_chunk, ticks), max(LONG, length // of.pieces))
    largest = max((bytes_of([v]) for v in in_front), default=0)
    if of.shared and any(spread.varying_axes(v.aval) for v in in_front):
        # Devices that are one CPU share its threads: a kernel that is split among them waits for the other device's.
        # Forward passes over two, in chunks that write 256 KB in front of loops and by the rule above, of a scan's
        # time, T, B, h: LSTM 256, 32, 128 1.08, 1.12; 1,024, 8, 128 1.00, 1.06; 1,024, 8, 64 .87, .92; GRU 256, 32,
        # 128 1.02, 1.25; 1,024, 8, 128 .93, 1.01; 256, 32, 256 .78, .68.
        return min(ticks, max(of.least_chunk, 2 * of.shared // bytes_of(in_front)))
    return ticks // 2 if of.shared <= ticks * largest < 2 * of.shared else ticks


def stacked(stages: Sequence[Staged], loops: Sequence[Loop]) -> int:
    """Bytes a tick that are written in front of loops, and handed on by them or, as ε, to their transpose."""
    in_front = [v for stage in stages for v in stage.outputs]
    outputs = bytes_of(v for loop in loops for v in loop.outputs)
    epsilon = bytes_of(d.root for loop in loops for d in loop.deferred)
    return max(1, bytes_of(in_front) + max(outputs, epsilon))


def _weights(loops: Sequence[Loop]) -> int:
    """Bytes of the weights whose gradients are products of a whole chunk."""
    return bytes_of(d.variable for loop in loops for d in loop.deferred if d.is_product)


def _patches(loops: Sequence[Loop]) -> int:
    """Bytes a tick that gradients of kernels behind the loop read: the inputs once for each place."""
    # A picture of 12 × 12 × 4, 8 sequences, convolved by 3 × 3, where the second-level cache is 2 MB: a training step
    # in chunks of 4, 8, 12, 16 and 64 ticks 1.04, 1.05, 1.05, 1.12 and 1.38 of a scan's time.
    of = [d.equation for loop in loops for d in loop.deferred if d.operand == 1]
    return sum(jaxprs.kernel_places(e) * bytes_of([e.invars[0]]) for e in of)


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
