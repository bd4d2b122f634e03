"""Laws on models, shapes, masks, engines and memory drawn at random; and inputs mutated at random, told in words."""

import functools
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import TOLERANCE, assert_close, valued

import seqjax as sj
from seqjax.arguments import told
from seqjax.base import is_noise
from seqjax.cells.registry import REGISTRY
from seqjax.naming import shapes_of

FEW, MANY, MUTATED = 2, int(os.environ.get("SEQJAX_CASES", "1000")), 300
FIXED = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "phases": [hypothesis.Phase.explicit, hypothesis.Phase.generate],  # to shrink would compile hundreds of programs
}
CELLS = sorted(name for name, entry in REGISTRY.items() if len(entry.input_shape) == 1)
WIDE = sorted(name for name in CELLS if REGISTRY[name].input_size == 3)  # those that say how many inputs they read
STRUCTURES = ("cell", "stack", "residual", "zoneout", "bidirectional", "serial", "convolution", "attention")


def by_scan(cell, reverse=False):
    """A cell as a layer by a scan of its step, written here: what `recurrent` must equal."""

    def apply(params, state, xs, *, mask=None, lengths=None, reset=None, key=None):
        length, batch = xs.shape[0], xs.shape[1:-1]
        if lengths is not None:
            mask = jnp.arange(length, dtype=lengths.dtype).reshape(-1, *[1] * len(batch)) < lengths
        mask = jnp.ones((length, *batch), bool) if mask is None else jnp.asarray(mask)
        reset = jnp.zeros((length, *batch), bool) if reset is None else jnp.asarray(reset)
        xs = jnp.where(mask[..., None], xs, 0)
        fresh = cell.initial_state(params, batch)

        def chosen(flag, new, old):
            def leaf(a, b):
                return jnp.where(flag.reshape(flag.shape + (1,) * (a.ndim - flag.ndim)), a, b)

            return jax.tree.map(leaf, new, old)

        def restarted(flag, state):
            begun = jax.tree.map(lambda new, old: old if is_noise(old) else new, fresh, state, is_leaf=is_noise)
            return chosen(flag, begun, state)

        def tick(state, each):
            x, real, opens = each
            state = state if reverse else restarted(opens, state)
            new, y = cell.step(params, state, x)
            state = chosen(real, new, state)
            y = jax.tree.map(
                lambda leaf: jnp.where(real.reshape(real.shape + (1,) * (leaf.ndim - real.ndim)), leaf, 0), y
            )
            return restarted(opens, state) if reverse else state, y

        return jax.lax.scan(tick, state, (xs, mask, reset), reverse=reverse)

    return sj.Layer(cell.init, cell.initial_state, apply)


def outputs_of(cell, size):
    """How many numbers a tick of a cell returns."""
    params = cell.init(jax.random.key(0))  # a reservoir's are not drawn under a trace
    step = lambda params, x: cell.step(params, cell.initial_state(params), x)[1]
    return jax.eval_shape(step, params, jnp.zeros(size)).shape[-1]


@st.composite
def models(draw):
    """``(size, causal, keyed, make)``: ``make(run)`` is the model whose cells are run by ``run(cell, reverse)``."""
    structure = draw(st.sampled_from(STRUCTURES))
    size, units = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([4, 8]))
    first = REGISTRY[draw(st.sampled_from(CELLS if structure in ("cell", "zoneout") else WIDE))]
    size = size if first.input_size == 3 else units
    if structure == "residual":
        cell = first.sized(units, units)
        wide = outputs_of(cell, units)
        size = units if wide == units else wide
        cell = cell if wide == units else first.sized(wide, units)
        hypothesis.assume(outputs_of(cell, size) == size)
        return size, True, False, lambda run: run(sj.residual(cell))
    cell = first.sized(size, units)
    if structure == "cell":
        reverse = draw(st.booleans())
        return size, not reverse, False, lambda run: run(cell, reverse)
    if structure == "zoneout":
        return size, True, True, lambda run: run(sj.zoneout(cell, 0.3))
    if structure == "bidirectional":
        other = REGISTRY[draw(st.sampled_from(WIDE))].sized(size, 4)
        return size, False, False, lambda run: sj.bidirectional(run(cell), run(other))
    if structure == "convolution":
        width, dilation = draw(st.integers(2, 3)), draw(st.integers(1, 2))
        return (
            size,
            True,
            False,
            lambda run: sj.serial(sj.causal_conv(size, size, width=width, dilation=dilation), run(cell)),
        )
    if structure == "attention":
        span = draw(st.integers(2, 4))
        return (
            4,
            True,
            False,
            lambda run: sj.serial(sj.layers.windowed_attention(4, 2, span), run(first.sized(4, units))),
        )
    wide = outputs_of(cell, size)
    second = REGISTRY[draw(st.sampled_from(WIDE))]
    if structure == "stack":
        return size, True, False, lambda run: run(sj.stack(cell, second.sized(wide, 4)))
    return (
        size,
        True,
        False,
        lambda run: sj.serial(run(cell), sj.dense(wide, 3), sj.layer_norm(3), run(second.sized(3, 4))),
    )


class Case(NamedTuple):
    """A model and a call of it; ``make(run)`` is the model whose cells are run by ``run(cell, reverse)``."""

    make: Callable
    causal: bool
    options: dict
    params: Any
    state: Any
    xs: np.ndarray
    ticks: dict
    tolerance: dict

    def __repr__(self):
        flags = {name: flag.astype(int).tolist() for name, flag in self.ticks.items()}
        return f"{self.make(sj.recurrent)}, xs {self.xs.shape} {self.xs.dtype}, {self.options}, {flags}"


@st.composite
def cases(draw):
    """See `Case`."""
    size, causal, keyed, make = draw(models())
    length = draw(st.integers(1, 9))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    options = {
        "engine": draw(st.sampled_from(["auto", "split", "scan", "linear"])),
        "memory": draw(st.sampled_from(["auto", "all", "carries", "sqrt", "log", 1, 2, 4, "1GB"])),
    }
    kind = draw(st.sampled_from(["all", "mask", "lengths"]))
    ticks = {"mask": rng.random((length, *batch)) > 0.3} if kind == "mask" else {}
    ticks |= {"lengths": rng.integers(0, length + 1, batch, dtype=np.int32)} if kind == "lengths" else {}
    ticks |= {"reset": rng.random((length, *batch)) > 0.7} if draw(st.booleans()) else {}
    narrow = draw(st.sampled_from([False, False, True]))
    layer = make(by_scan)
    key = jax.random.key(int(rng.integers(2**31)))

    def drawn(key):
        params = jax.tree.map(lambda p: _narrow(p) if narrow else p, layer.init(key))
        return params, layer.initial_state(params, batch, key=key if keyed else None)

    # Reservoirs find eigenvalues on the host.
    params, state = (drawn if "echo_state" in repr(layer) else jax.jit(drawn))(key)
    xs = rng.normal(size=(length, *batch, size)).astype(np.float32 if narrow else np.float64)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if narrow else TOLERANCE
    return Case(make, causal, options, params, state, xs, ticks, tolerance)


def _narrow(leaf):
    kinds = {"float64": jnp.float32, "complex128": jnp.complex64}
    return leaf.astype(kinds[str(leaf.dtype)]) if str(leaf.dtype) in kinds else leaf


def same(found, expected, tolerance):
    """Numbers; what is an integer has no gradient."""
    found, expected = ([x for x in jax.tree.leaves(t) if x.dtype != jax.dtypes.float0] for t in (found, expected))
    assert_close(found, expected, **tolerance)


def cut(ticks, start, stop):
    """Masks, lengths and resets of a stretch."""
    flags = {name: flag[start:stop] for name, flag in ticks.items() if name != "lengths"}
    if "lengths" in ticks:
        flags["lengths"] = np.clip(ticks["lengths"] - start, 0, stop - start)
    return flags


def equals_scan(case):
    """The engine and memory asked for: values, the last state, and gradients for parameters, state and inputs."""
    make, _, options, params, state, xs, ticks, tolerance = case
    ways = [make(run) for run in (lambda cell, reverse=False: sj.recurrent(cell, reverse=reverse, **options), by_scan)]
    both = [valued(functools.partial(way.apply, **ticks), (0, 1, 2)) for way in ways]
    same(*jax.jit(lambda *args: [one(*args) for one in both])(params, state, xs), tolerance)


def prefixes(case):
    """What comes later changes nothing before."""
    make, causal, options, params, state, xs, ticks, tolerance = case
    hypothesis.assume(causal)
    layer, stop = make(lambda cell, reverse=False: sj.recurrent(cell, **options)), max(1, len(xs) // 2)
    run = lambda p, s, x: (
        layer.apply(p, s, x, **ticks)[1][:stop],
        layer.apply(p, s, x[:stop], **cut(ticks, 0, stop))[1],
    )
    same(*jax.jit(run)(params, state, xs), tolerance)


def pieces(case):
    """A sequence in two pieces is the sequence: outputs, and the state behind it."""
    make, causal, options, params, state, xs, ticks, tolerance = case
    hypothesis.assume(causal and len(xs) > 1)
    layer, stop = make(lambda cell, reverse=False: sj.recurrent(cell, **options)), max(1, len(xs) // 3)

    def run(params, state, xs):
        whole = layer.apply(params, state, xs, **ticks)
        middle, first = layer.apply(params, state, xs[:stop], **cut(ticks, 0, stop))
        last, second = layer.apply(params, middle, xs[stop:], **cut(ticks, stop, len(xs)))
        return whole, (last, jnp.concatenate([first, second]))

    same(*jax.jit(run)(params, state, xs), tolerance)


def padding(case):
    """A masked tick of NaN between any two changes no value and no gradient; its output is zero."""
    make, _, options, params, state, xs, ticks, tolerance = case
    layer, length = make(lambda cell, reverse=False: sj.recurrent(cell, reverse=reverse, **options)), len(xs)
    at = np.arange(length) * 2
    wide = np.full((2 * length, *xs.shape[1:]), np.nan, xs.dtype)
    wide[at] = xs
    mask = np.zeros((2 * length, *xs.shape[1:-1]), bool)
    real = np.arange(length).reshape(-1, *[1] * (xs.ndim - 2)) < ticks["lengths"] if "lengths" in ticks else True
    mask[at] = ticks.get("mask", real)
    flags = {"mask": mask}
    if "reset" in ticks:
        flags["reset"] = np.zeros_like(mask)
        flags["reset"][at] = ticks["reset"]

    def run(params, state, xs, wide):
        def padded(params, state):
            last, ys = layer.apply(params, state, wide, **flags)
            return last, ys[at]

        return valued(lambda p, s: layer.apply(p, s, xs, **ticks), (0, 1))(params, state), valued(padded, (0, 1))(
            params, state
        )

    same(*jax.jit(run)(params, state, xs, wide), tolerance)


LAWS = (equals_scan, prefixes, pieces, padding)


def holds(law, case):
    """Whether it does; what an engine cannot run it refuses in words."""
    try:
        law(case)
    except ValueError as error:
        if "for engine='linear'" not in str(error):
            raise


@pytest.mark.parametrize("law", LAWS)
@hypothesis.settings(max_examples=FEW, **FIXED)
@hypothesis.given(case=cases())
def test_laws_hold_of_what_is_drawn(law, case):
    holds(law, case)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@hypothesis.settings(max_examples=MANY // len(LAWS), **FIXED)
@hypothesis.given(case=cases())
def test_laws_hold_of_all_that_is_drawn(law, case):
    holds(law, case)


# Wrong inputs: what is mutated, and how. A mutation of an argument returns what stands in its place.
WORDS = re.compile(r"[\w.'\[\]() ]+: expected .+, got .+\. \S.+", re.DOTALL)


def axis(draw, leaf):
    return draw(st.integers(0, max(leaf.ndim - 1, 0)))


def resized(draw, leaf):
    where, more = axis(draw, leaf), draw(st.sampled_from([-1, 1, 3]))
    if leaf.ndim == 0 or leaf.shape[where] + more < 0:
        return leaf[None]
    return np.resize(leaf, [n + more * (i == where) for i, n in enumerate(leaf.shape)])


ARRAYS = {
    "resized": resized,
    "one axis more": lambda draw, leaf: np.expand_dims(leaf, axis(draw, leaf)),
    "one axis less": lambda draw, leaf: leaf.take(0, axis(draw, leaf)) if leaf.ndim and leaf.shape[0] else leaf[None],
    "turned": lambda draw, leaf: leaf.swapaxes(0, axis(draw, leaf)) if leaf.ndim else leaf[None],
    "empty": lambda draw, leaf: leaf[:0] if leaf.ndim else leaf[None][:0],
    "another type": lambda draw, leaf: leaf.astype(
        draw(st.sampled_from(["float32", "float16", "int32", "uint8", "bool", "complex64", "object", "str"]))
    ),
    "a list": lambda draw, leaf: leaf.tolist(),
    "nan": lambda draw, leaf: np.full(leaf.shape, np.nan),
    "negative": lambda draw, leaf: -np.abs(leaf.astype(float)).astype(leaf.dtype) - 1 if leaf.dtype != bool else ~leaf,
    "nothing": lambda draw, leaf: None,
    "text": lambda draw, leaf: "text",
    "a number": lambda draw, leaf: draw(st.sampled_from([0, 1, -1, 2.5, True, float("nan")])),
    "a function": lambda draw, leaf: np.tanh,
}
TREES = {
    "nothing": lambda tree: None,
    "in a tuple": lambda tree: (tree,),
    "in a dictionary": lambda tree: {"x": tree},
    "its first leaf": lambda tree: jax.tree.leaves(tree)[0] if jax.tree.leaves(tree) else (),
    "its leaves": lambda tree: tuple(jax.tree.leaves(tree)),
    "one leaf less": lambda tree: tuple(jax.tree.leaves(tree))[:-1],
    "a set": lambda tree: {1, 2},
    "text": lambda tree: "text",
}
OPTIONS = {
    "engine": ["fast", None, 3, ["scan"], "Scan"],
    "memory": ["much", None, -1, 0, 2.5, "12XB", True, [2]],
    "lengths": [[1.5, 2.0], "text", np.array([np.nan, 1.0]), np.array([99, 1]), np.array([-1, 2]), 3, None, [1, 2, 3]],
}


@st.composite
def mutants(draw):
    """``(what was done, module, arguments, keywords)`` of one call that was right before."""
    name = draw(st.sampled_from(["lstm", "gru", "slstm", "lru", "delta_rule", "conv", "attention", "serial", "both"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    module = {
        "conv": lambda: sj.causal_conv(4, 4, width=2),
        "attention": lambda: sj.layers.windowed_attention(4, 2, 3),
        "serial": lambda: sj.serial(
            sj.dense(4, 3), sj.recurrent(sj.stack(sj.gru(3, 4), sj.lstm(4, 2))), sj.layer_norm(2)
        ),
        "both": lambda: sj.bidirectional(sj.gru(4, 3), sj.lstm(4, 2)),
    }.get(name, lambda: REGISTRY[name].sized(4, 4))()
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes_of(module))
    state = jax.tree.map(
        np.asarray, jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda p: module.initial_state(p, (2,)), params))
    )
    arguments = {"params": params, "state": state, "xs": rng.normal(size=(3, 2, 4))}
    given = {"mask": rng.random((3, 2)) > 0.3, "reset": rng.random((3, 2)) > 0.5, "lengths": np.array([3, 1], np.int32)}
    chosen = draw(st.sampled_from([("mask",), ("lengths",), ("mask", "reset"), ()]))
    keywords = {flag: given[flag] for flag in chosen}
    part = draw(st.sampled_from([*arguments, *chosen, *(["engine", "memory"] if isinstance(module, sj.Cell) else [])]))
    if part in ("engine", "memory") or (part == "lengths" and draw(st.booleans())):
        keywords[part] = draw(st.sampled_from(OPTIONS[part]))
        return f"{part} = {keywords[part]!r}", module, arguments, keywords
    place = keywords if part in keywords else arguments
    leaves, tree = jax.tree.flatten(place[part])
    if part in ("params", "state") and draw(st.booleans()):
        kind = draw(st.sampled_from(sorted(TREES)))
        place[part] = TREES[kind](place[part])
        return f"{part}: {kind}", module, arguments, keywords
    at, kind = draw(st.integers(0, len(leaves) - 1)), draw(st.sampled_from(sorted(ARRAYS)))
    try:
        leaves[at] = ARRAYS[kind](draw, leaves[at])
    except (ValueError, TypeError):  # such as NaN as an integer
        hypothesis.reject()
    place[part] = tree.unflatten(leaves)
    return (
        f"{part}[{at}]: {kind}, {getattr(leaves[at], 'dtype', '')} {np.shape(leaves[at])}",
        module,
        arguments,
        keywords,
    )


def told_or_right(mutant):
    """Traced: outputs have the inputs' ticks and batch, or who expected what, what came, and the remedy."""
    done, module, arguments, keywords = mutant
    run = sj.unroll if isinstance(module, sj.Cell) else module.apply
    first = (module,) if isinstance(module, sj.Cell) else ()
    said = ""
    with jax.numpy_dtype_promotion("standard"):
        try:
            ys = jax.eval_shape(lambda: run(*first, *arguments.values(), **keywords))[1]
        except (ValueError, TypeError) as error:
            said = str(error)
        else:
            assert ys.shape[:2] == np.shape(arguments["xs"])[:2], f"{module}: {done}"
    assert not said or WORDS.match(said), f"{module}: {done}: {said}"


quietly = pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")


@quietly
@hypothesis.settings(max_examples=MUTATED // 5, **FIXED)
@hypothesis.given(mutant=mutants())
def test_a_wrong_input_runs_right_or_is_told_in_words(mutant):
    told_or_right(mutant)


@quietly
@pytest.mark.slow
@hypothesis.settings(max_examples=MUTATED, **FIXED)
@hypothesis.given(mutant=mutants())
def test_every_wrong_input_runs_right_or_is_told_in_words(mutant):
    told_or_right(mutant)


def test_what_failed_far_below_is_explained():
    """What no check at the door has seen: by the argument at fault, and only where there is one."""
    cell = sj.gru(3, 4)
    layer = sj.serial(sj.recurrent(cell), sj.causal_conv(4, 2, width=2))
    params = layer.init(jax.random.key(0))
    state, xs = layer.initial_state(params, (2,)), np.zeros((5, 2, 3))
    short = (params[0]._replace(w_h=jnp.zeros((3, 12))), params[1])
    leaves = (tuple(params[0]), params[1])
    cases = [
        ((short, state, xs), ValueError, r"^unroll: expected params\.w_h of shape \(4, 12\), got \(3, 12\)\. Draw par"),
        ((leaves, state, xs), TypeError, r"^unroll: expected params like GRUParams\(w_x=\[3, 12\].*, got \(\[3, 12\],"),
        ((params, (state[0], state[1][0]), xs), TypeError, r"^causal_conv: expected state like ConvState\(ring=\[2, 1"),
        ((params, ((), state[1]), xs), TypeError, r"^unroll: expected state like \[2, 4\], got \(\)\. Make it with in"),
        ((params, state, np.full((5, 2, 3), len)), TypeError, r"^unroll: expected an array of numbers at xs, got one "),
        ((params, state, np.full((5, 2, 3), "a")), TypeError, r"^unroll: expected an array of numbers at xs, got one "),
    ]  # fmt: skip
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            layer.apply(*arguments)
    both = sj.bidirectional(sj.gru(3, 4), sj.lstm(3, 4))
    params = both.init(jax.random.key(0))
    state = both.initial_state(params, (2,)).with_backward(sj.lstm(3, 4).initial_state(params.backward, (2,)))
    with pytest.raises(KeyError, match="own"), told("both", both, params, state, xs, {}):
        raise KeyError("own")
    attends = sj.layers.attend(sj.gru(5, 4), memory_size=2, query_size=4, size=3)
    params = attends.init(jax.random.key(0))._replace(memory=sj.layers.Memory(jnp.ones((6, 2, 2)), None))
    with (
        pytest.raises(KeyError, match="own"),
        told("attends", attends, params, attends.initial_state(params, (2,)), xs, {}),
    ):
        raise KeyError("own")
    own = sj.pointwise(lambda params, x: {}["nothing"])
    with pytest.raises(KeyError, match="nothing"):
        own.apply((), (), xs)  # an error of the function's own stays what it is
