"""Hot paths beside their peers: the truth is the truth, who disagrees is not timed, the limit has every part once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("rich")

import seqjax as sj
from benchmarks import crf, ctc, limit, paths, reading
from seqjax.hmm import crf as fields

CRF, CTC, READING = crf.Row(3, 4, 6), ctc.Row(5, 3, 12, 4), reading.Row(2000, 4, 16)


@pytest.fixture(autouse=True)
def as_other_libraries_expect():
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_random_fields_truth_is_that_of_the_textbooks_scan_and_of_ours():
    params, scores, gold, mask = crf.given(CRF)
    assert not mask.all()
    wide = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), (params, scores))
    for loss in (crf.by_hand, lambda *given: fields.loss(*given[:3], mask=given[3])):
        mean = lambda params, scores, loss=loss: loss(params, scores, jnp.asarray(gold), jnp.asarray(mask)).mean()
        found = jax.jit(jax.value_and_grad(mean, (0, 1)))(*wide)
        assert paths.far_off(found, crf.truth(CRF)) < 1e-12


def test_temporal_classifications_truth_is_ours_in_float64():
    logits, labels, ticks, said = ctc.given(CTC)
    assert len(set(said)) > 1
    mask = jnp.arange(CTC.length)[:, None] < ticks
    targets = sj.Labels(jnp.asarray(labels), jnp.arange(CTC.symbols)[:, None] < said)
    loss = lambda z: sj.losses.ctc_losses(z, targets, mask).sum()
    assert paths.far_off(jax.jit(jax.value_and_grad(loss))(jnp.asarray(logits, jnp.float64)), ctc.truth(CTC)) < 1e-12


def of_crf(row):
    """A gradient of the transitions that goes the other way."""
    loss, (params, scores) = crf.truth(row)
    return loss, (params._replace(transition=params.transition.T), scores)


def of_ctc(row):
    """A gradient a tick too late."""
    loss, gradient = ctc.truth(row)
    return loss, np.roll(gradient, 1, 0)


@pytest.mark.parametrize(("script", "row", "wrong"), [(crf, CRF, of_crf), (ctc, CTC, of_ctc)])
def test_a_wrong_gradient_is_not_timed(monkeypatch, script, row, wrong):
    makers = lambda wrong: lambda row: {"peer": lambda: paths.Contender(lambda: wrong(row))}
    monkeypatch.setattr(script, "parts", lambda row: {})
    monkeypatch.setattr(script, "contenders", makers(script.truth))
    assert script.measure(row, 2, 0.0)["relative_error"] == {"peer": 0.0}
    monkeypatch.setattr(script, "contenders", makers(wrong))
    with pytest.raises(SystemExit, match=r"peer disagrees at Row\(.*off by \d\.\de[+-]0[01]"):
        script.measure(row, 2, 0.0)


def swapped(row, path):
    """One character stands where its neighbour should."""
    for number, (xs, targets) in enumerate(reading.plain(row, path)):
        xs = xs.copy()
        if number == 3:
            xs[[5, 6], 2] = xs[[6, 5], 2]
        yield xs, targets


def short(row, path):
    """The last window is left out."""
    yield from list(reading.plain(row, path))[:-1]


@pytest.mark.parametrize("wrong", [swapped, short])
def test_wrong_batches_are_not_timed(monkeypatch, wrong):
    monkeypatch.setattr(reading, "CONTENDERS", {"ours": reading.ours, "numpy": reading.plain})
    found = reading.measure(READING, 2, 0.0)
    assert found["relative_error"] == {"ours": 0.0, "numpy": 0.0}
    tokens = 4 * (2000 // 4 - 1) // 16 // 4 * 16 * 4
    assert found["tokens_a_second"]["ours"] == round(tokens / found["seconds"]["ours"])
    monkeypatch.setattr(reading, "CONTENDERS", {"ours": wrong})
    with pytest.raises(SystemExit, match="ours disagrees at Row"):
        reading.measure(READING, 2, 0.0)


def test_what_is_not_installed_is_named():
    def missing():
        raise ModuleNotFoundError("No module named 'other'", name="other")

    there, facts = paths.proven("row", {"ours": lambda: paths.Contender(lambda: 1.0), "other": missing}, abs, 2.0)
    assert list(there) == ["ours"]
    assert facts["missing"] == {"other": "other is not installed"}
    with pytest.raises(SystemExit, match="ours disagrees at row"):
        paths.proven("row", {"ours": lambda: paths.Contender(lambda: float("nan"))}, abs, 2.0)


def test_the_limit_is_the_sum_of_its_parts_so_many_times(monkeypatch):
    taken = {
        "ours": 5.0,
        "limit: a": 1.0,
        "limit: b": 2.0,
        f"limit: b{limit.TURNED}": 1.5,
        f"limit: b{limit.SUMS}": 0.5,
    }
    timing = lambda calls, **options: {name: paths_timing(taken[name]) for name in calls}
    monkeypatch.setattr(paths, "interleave", timing)
    parts = dict.fromkeys(("a", "b", f"b{limit.TURNED}", f"b{limit.SUMS}"), print)
    found = paths.timed({"ours": print}, parts, 3, 1.0, times=2)
    assert found["limit_s"] == 2 * (1.0 + 0.5)
    assert found["seconds"] == {"ours": 5.0}
    assert paths.best_peer({"ours": 1.0, "compiled": 1.0, "x": 3.0, "y": 2.0}) == ("y", 2.0)
    assert paths.best_peer({"ours": 1.0}) is None


def paths_timing(seconds):
    from benchmarks.timing import Timing

    return Timing((seconds,))


def test_all_ways_of_a_product_compute_the_same():
    results = [np.asarray(run()) for run in paths.product("p", 3, 4, 4, 5).values()]
    assert len(results) == 3
    for found in results[1:]:
        np.testing.assert_allclose(found, results[0], rtol=1e-5)
    assert 0 < results[0].min() < results[0].max() < 1
    assert len(paths.product("p", 64, 64, 256, 2)) == 2  # as sums only where it is small


def test_a_derivative_is_that_of_given_cotangents():
    out, (pulled,) = paths.both_ways(lambda x: x**2, jnp.array([1.0, 3.0]))()
    np.testing.assert_array_equal(out, [1, 9])
    np.testing.assert_array_equal(pulled, [2, 6])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("script", "row", "peers"),
    [(crf, CRF, {"scan", "torch"}), (ctc, CTC, {"optax", "torch"}), (reading, READING, {"numpy", "torch"})],
)
def test_all_that_are_installed_agree_and_are_timed(script, row, peers):
    with jax.enable_x64(False):
        found = script.measure(row, 2, 0.0)
    assert found["seconds"].keys() | found["missing"].keys() == {"ours", *peers}
    assert max(found["relative_error"].values()) < 1e-4
    assert found["limit_s"] > 0
