"""What the rules take for granted of a device: one record a platform, a reason beside each number.

Those of CPUs were measured where they are used. Those of GPUs and TPUs are estimates from published figures; nothing of
them was measured, `seqjax.explain` says so, and `seqjax.tune` is the way to know. With launches of 2 to 4 µs, 3 to 6
kernels a tick of a scan, some ten more a chunk, and 2 to 5 TB/s, a launch costs as much as 4 MB of traffic or more.
"""

import math
from typing import NamedTuple

import jax


class Platform(NamedTuple):
    """Numbers that rules read.

    Attributes:
      name: of the platform.
      measured: whether its numbers were.
      ticks: whether a tick costs little more than its arithmetic, so that a loop beats a tree and forward passes of
        linear recurrences run tick by tick.
      chunk_bytes: stacked values of a chunk, where a gradient is taken.
      forward_chunk_bytes: where none is.
      shared: bytes of a stack from which threads share a forward pass's work on it, at a loss below twice as many;
        these a chunk writes in front of loops where devices share the threads.
      least_chunk: ticks.
      pieces: chunks that a long time is cut into at least.
      loop: bytes a tick that another loop costs.
      product: bytes a tick that a product saves outside of a loop, beside its weights.
      sum: bytes a tick that a sum, or the place of the largest, saves there.
      near: bytes of weights that are read again at no cost to speak of.
      least_matrix: rows or columns of the smallest matrix state that runs by chunks.
      spread: bytes of recurrent weights up to which commands spread a batch over all devices by themselves.
      together: bytes of recurrent weights up to which commands make updates of several runs in one program.
    """

    name: str
    measured: bool
    ticks: bool
    chunk_bytes: int
    forward_chunk_bytes: int
    shared: int
    least_chunk: int
    pieces: int
    loop: int
    product: int
    sum: int
    near: int
    least_matrix: int
    spread: int
    together: float


CPU = Platform(
    name="cpu",
    measured=True,
    ticks=True,  # `linear.way`, `linear.matrix.way`
    chunk_bytes=2**21,  # twice a core's second-level cache; the measurements are in `split.chunk`
    forward_chunk_bytes=5 * 2**18,  # 1.25 MB
    # XLA wakes a second thread for a kernel from 256 KB that it reads and writes: an LSTM of 64 units forwards, T 512,
    # B 8, in chunks of 32, 64 and 128 ticks .98, 1.25, 1.04 of a scan's time.
    shared=2**17,
    least_chunk=8,  # there too
    pieces=8,  # and there
    loop=20_000,  # `split.forward`
    product=0,
    sum=1_000,
    near=48 * 2**10,  # a first-level cache, `split.forward`
    least_matrix=24,  # `linear.engine`
    spread=6 * 2**20,  # an LSTM of 627 units, `recipes.running.devices`
    together=2**14,  # an LSTM of 32 units, `recipes.running.courses`
)
GPU = Platform(
    name="gpu",
    measured=False,
    ticks=False,  # every tick launches kernels
    chunk_bytes=2**24,  # 16 MB stay in the second-level cache, 40 MB of an A100, 50 MB of an H100
    forward_chunk_bytes=2**24,
    shared=0,
    least_chunk=32,  # the ten launches of a chunk are then less than a tenth of those of its ticks
    pieces=1,  # each launches kernels of its own
    loop=8_000_000,  # two more launches a tick, one for its work and one for its outputs
    product=4_000_000,  # a launch
    sum=4_000_000,  # a launch
    near=0,
    least_matrix=0,  # chunks launch once where ticks launch C times
    spread=0,  # a smaller share of the batch does not shorten a tick that waits for launches; --devices asks for it
    together=math.inf,  # one launch serves all
)
TPU = Platform(
    name="tpu",
    measured=False,
    ticks=False,  # loops stay on the device, but a tick of few rows leaves most of a matrix unit idle
    chunk_bytes=2**22,  # a quarter of the smallest vector memory, 16 MB of a v4; 64 of a v5p, 128 of a v5e and v6e
    forward_chunk_bytes=2**22,
    shared=0,
    least_chunk=16,  # ticks of 8 rows, the least that is stored, fill the 128 rows of a matrix unit
    pieces=1,  # chunk_bytes keep what a chunk takes within the vector memory
    loop=1_000_000,  # a microsecond of control at 1 TB/s
    product=0,  # nothing is launched: bytes alone count
    sum=0,
    near=0,
    least_matrix=0,  # a chunk's products are made for matrix units, outer products of one tick are not
    spread=0,  # as on GPUs
    together=math.inf,
)
KNOWN = {"cpu": CPU, "gpu": GPU, "cuda": GPU, "rocm": GPU, "tpu": TPU}


def name() -> str:
    """What programs are planned for: the devices of the mesh in use, else the default device's platform."""
    device = jax.sharding.get_abstract_mesh().abstract_device or jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None:
        return jax.default_backend()
    return str(getattr(device, "platform", device))


def planned() -> Platform:
    """Its numbers; those of GPUs for one that is not known, as most launch kernels."""
    platform = name()
    return KNOWN.get(platform, GPU._replace(name=platform))
