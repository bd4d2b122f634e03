"""The benchmarks' own logic: fair turns, right bytes, equal results, honest ratios."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but, quick

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from benchmarks import (
    bptt,
    charlm,
    charlm_models,
    flags,
    interop,
    limit,
    memory,
    options,
    ours,
    parallel,
    peers,
    plots,
    problem,
    program,
    record,
    report,
    timing,
)
from benchmarks.candidates import Candidate, Limits, Unmeasured, proven, truth
from benchmarks.problem import Problem, Result


@pytest.fixture(autouse=True)
def as_other_libraries_expect(monkeypatch):
    """Flax and others count on JAX's standard promotion; what a run sets for its process is set back."""
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    caching = jax.config.jax_enable_compilation_cache
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_compilation_cache", caching)


class TestTiming:
    def test_takes_turns(self, monkeypatch):
        monkeypatch.setattr(timing, "SHORT", 0.0)
        said = []
        calls = {name: (lambda name=name: said.append(name)) for name in "abc"}
        times = timing.interleave(calls, rounds=3, seconds=60, settle=0)
        assert "".join(said) == "aabbcc" + "abc" * 3  # two to warm up, three rounds
        assert [len(times[name].seconds) for name in "abc"] == [3, 3, 3]

    def test_short_calls_are_made_in_a_row_and_their_mean_is_told(self, monkeypatch):
        clock, said = iter(float(n) for n in range(10**6)), []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))  # a second from look to look
        monkeypatch.setattr(timing, "SHORT", 4.0)
        times = timing.interleave({"a": lambda: said.append("a")}, rounds=2, seconds=60, least=2, settle=0)
        assert len(said) == 2 + 2 * 4
        assert times["a"].seconds == (0.25, 0.25)

    def test_stops_when_the_time_is_up_but_not_before_the_least_rounds(self):
        done = []
        times = timing.interleave({"a": lambda: None}, rounds=20, seconds=0, least=4, settle=0, after_round=done.append)
        assert done == [1, 2, 3, 4]
        assert len(times["a"].seconds) == 4

    def test_two_rounds_are_enough_when_patience_is_at_an_end(self):
        done = []
        options = {"rounds": 20, "seconds": 0, "least": 4, "settle": 0}
        timing.interleave({"a": lambda: None}, patience=0, after_round=done.append, **options)
        assert done == [1, 2]

    def test_quartiles_are_those_of_the_rounds(self):
        taken = timing.Timing((5.0, 1.0, 2.0, 4.0, 3.0))
        assert (taken.median, taken.quartiles, taken.least) == (3.0, (2.0, 4.0), 1.0)


class TestMemory:
    def test_growth_is_the_highest_meanwhile(self):
        def call():
            passing = np.ones(2**26, np.uint8)
            passing[0] = 0
            del passing
            return np.ones(2**20, np.uint8)

        result, grown = memory.process_growth(call)
        assert result.size == 2**20
        if grown is None:
            pytest.skip("the kernel does not reset the high-water mark")
        assert 0.95 < grown / 2**26 < 1.2

    def test_bytes_of_a_program_are_summed_over_devices(self):
        row = Problem("elman", 16, 4, 3, 5)
        one, two = (
            program.compiled(ours.adapter(row, "scan", "all"), row, "elman", "forward", devices).bytes
            for devices in (1, 2)
        )
        assert one.outputs == two.outputs == 4 * 16 * 4 * 5
        weights = 4 * (3 * 5 + 5 * 5 + 5)
        assert one.arguments == weights + 4 * 16 * 4 * 3
        assert two.arguments == 2 * weights + 4 * 16 * 4 * 3


ROW = Problem("lstm", 12, 4, 3, 5, "float64", "random", inputs_too=True)


@pytest.fixture(scope="module")
def truths():
    """The scan from the equations, once a cell."""
    found = {}

    def of(row, cell):
        if (row, cell) not in found:
            found[row, cell] = truth(row, cell, "train")
        return found[row, cell]

    return of


@pytest.mark.parametrize("cell", quick(["elman", "lstm", "gru"], "gru"))
@pytest.mark.parametrize("library", all_but(peers.LIBRARIES, "keras"))
@pytest.mark.filterwarnings("default")
def test_peers_compute_the_same(library, cell, truths):
    """Copied weights; the loss and every gradient, of inputs too, against the equations."""
    module = peers.find(library)
    if module is None:
        pytest.skip(f"{library} is not installed")
    row = ROW._replace(cell=cell)
    candidate = Candidate(library, 1)
    bound = 1e-12
    if candidate.variant(row) is None and cell in module.CELLS:
        row, bound = row._replace(dtype="float32"), 1e-5
    if candidate.variant(row) is None:
        assert cell not in module.CELLS
        return
    runner = candidate.runner(row, "train")
    got, expected = runner.result(runner.call()), truths(row, candidate.variant(row))
    names = set(got.arrays)
    assert {"w_x", "w_h", "b", "xs"} <= names
    assert ("b_n" in names) == (candidate.variant(row) == "gru")
    assert problem.error(got, expected)[0] < bound


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("which", options.PASSES)
def test_ours_computes_the_same_over_devices(which, devices):
    row = ROW._replace(inputs_too=devices == 2)
    runner = Candidate("seqjax", devices, "split", "sqrt").runner(row, which)
    assert problem.error(runner.result(runner.call()), truth(row, "lstm", which))[0] < 1e-12


def test_error_sees_a_swapped_gate():
    expected = Result(1.0, {"w": np.arange(12.0).reshape(3, 4)})
    swapped = Result(1.0, {"w": expected.arrays["w"][:, [1, 0, 2, 3]]})
    assert problem.error(swapped, expected) == (1 / 11, "w")
    assert problem.error(Result(1.5, expected.arrays), expected) == (0.5, "loss")
    error, where = problem.error(Result(1.0, {"w": np.full((3, 4), np.nan)}), expected)
    assert math.isnan(error)
    assert where == "w"


def test_error_refuses_other_arrays():
    with pytest.raises(ValueError, match=r"expected the arrays \['w'\], got \['v'\]"):
        problem.error(Result(1.0, {"v": np.ones(2)}), Result(1.0, {"w": np.ones(2)}))
    with pytest.raises(ValueError, match=r"expected w of shape \(2,\), got \(1,\)"):
        problem.error(Result(1.0, {"w": np.ones(1)}), Result(1.0, {"w": np.ones(2)}))


def test_narrow_rows_start_from_weights_that_the_narrow_dtype_holds():
    row = ROW._replace(dtype="bfloat16")
    for leaf in [*jax.tree.leaves(problem.parameters(row, "lstm")), problem.inputs(row)]:
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, leaf.astype(jnp.bfloat16).astype(np.float32))


class TestProven:
    def test_wrong_results_are_not_timed(self, monkeypatch):
        row = ROW._replace(inputs_too=False)
        right = ours.adapter

        def scaled(*settings):
            adapter = right(*settings)
            return adapter._replace(apply=lambda params, xs: 1.001 * adapter.apply(params, xs))

        monkeypatch.setattr(ours, "adapter", scaled)
        with pytest.raises(Unmeasured, match=r"^differs by 1\.0e-03 in "):
            proven(Candidate("seqjax", 1, "scan", "all"), row, "train", Limits(1e9, 60), {})

    def test_programs_that_ask_for_too_much_are_not_run(self):
        with pytest.raises(Unmeasured, match=r"^asks for 0\.0 GB of 0\.0"):
            proven(Candidate("seqjax", 1, "scan", "all"), ROW, "train", Limits(1e3, 60), {})

    def test_a_budget_that_is_too_small_is_a_reason_not_a_crash(self):
        row = ROW._replace(ticks=64)
        with pytest.raises(Unmeasured, match="expected memory to allow at least"):
            proven(Candidate("seqjax", 1, "split", "1KB"), row, "train", Limits(1e9, 60), {})

    def test_an_engine_that_is_not_there_is_a_reason_too(self):
        with pytest.raises(Unmeasured, match="for engine='cudnn', got"):
            proven(Candidate("seqjax", 1, "cudnn", "all"), ROW, "train", Limits(1e9, 60), {})


class TestLimit:
    """Every product of a row is among the parts, once in the shape it is meant to have, and nothing else of weight."""

    @pytest.mark.parametrize("cell", quick(["lstm", "gru", "gru_before", "layer_norm_gru", "elman"], "gru"))
    def test_operations_are_those_of_the_equations(self, cell):
        gates = {"lstm": 4, "elman": 1}.get(cell, 3)
        row = Problem(cell, 16, 4, 8, 32)
        counted = lambda which: {
            name: jax.jit(part.run).lower(*part.arguments).cost_analysis()["flops"]
            for name, part in limit.parts(row, which).items()
        }
        x, h = 2 * 16 * 4 * 8 * gates * 32, 2 * 16 * 4 * 32 * gates * 32
        forward, train = counted("forward"), counted("train")
        found = lambda parts, *ends: sum(value for name, value in parts.items() if name.endswith(ends))
        assert found(forward, "all") == x
        assert 16 * found(forward, "16 times") == pytest.approx(h, rel=0.01)  # a loop's body is counted once
        assert found(train, "gradient") == x + h
        assert 16 * found(train, "16 times") == pytest.approx(2 * h, rel=0.01)
        for which in ("forward", "train"):
            rest = limit.parts(row, which)["pointwise"]
            assert "dot_general" not in str(jax.make_jaxpr(rest.run)(*rest.arguments))
        assert 0 < forward["pointwise"] < train["pointwise"]

    def test_the_faster_way_of_a_product_counts(self):
        assert limit.total({"a": 1.0, "b, 3 times": 2.0, "b, 3 times, turned": 1.5, "c": 0.25}) == 2.75

    @pytest.mark.parametrize(("devices", "dtype"), [(1, "bfloat16"), (2, "float32")])
    def test_parts_run(self, devices, dtype):
        row = Problem("lstm", 8, 4, 3, 6, dtype, inputs_too=True)
        calls = limit.runners(row, "train", devices)
        assert len(calls) == 10
        for call in calls.values():
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(call()))


class TestCandidates:
    def test_names(self):
        assert Candidate("seqjax", 1, "auto", "auto").name == "seqjax auto ×1"
        assert Candidate("seqjax", 2, "split", 128).name == "seqjax split/128 ×2"
        assert Candidate("flax", 1).name == "flax ×1"
        assert Candidate("torch", 1).name == "torch"

    def test_a_batch_is_shared_evenly_or_not_at_all(self):
        candidate = Candidate("seqjax", 4, "auto", "auto")
        assert [candidate.share(batch) for batch in (8, 6, 5)] == [4, 3, 1]
        assert candidate.variant(ROW._replace(batch=5)) is None

    def test_rows_are_the_eight_shapes_for_both_cells(self):
        rows = options.problems(options.parse(None, ["--rows"]))
        assert len(rows) == 16
        assert rows[0] == Problem("lstm", 256, 32, 128, 128)
        assert rows[-1] == Problem("gru", 1024, 1, 128, 128)

    def test_narrow_dtypes_get_the_random_loss(self):
        rows = options.problems(options.parse(None, ["--dtypes", "float32", "bfloat16", "--ticks", "8"]))
        assert [row.loss for row in rows] == ["square", "random"]

    def test_settings_are_an_engine_and_a_memory(self, capsys):
        with pytest.raises(SystemExit):
            options.parse(None, ["--ours", "auto"])
        assert "--ours: expected ENGINE/MEMORY, got 'auto'" in capsys.readouterr().err


def line(candidate, seconds, *, ticks=8, **more):
    """A measured row."""
    row = {"candidate": candidate, "library": candidate.split()[0], "cell": "lstm", "ticks": ticks, "batch": 4}
    row |= {"input_size": 3, "hidden_size": 5, "dtype": "float32", "pass": "train", "median_s": seconds}
    row |= {"devices": int(candidate.partition(" ×")[2] or 1), "device": "a device"}
    return row | {"temporary_bytes": 1000 * ticks, "output_bytes": 100, "growth_bytes": 2000 * ticks} | more


class TestReport:
    def test_ratios_with_their_geometric_mean_and_minimum(self):
        rows = [line("seqjax auto ×1", 1.0), line("seqjax auto ×2", 0.5), line("flax ×1", 2.0), line("keras ×1", 1.5)]
        rows += [line("flax ×2", 1.2), line("seqjax auto ×1", 1.0, ticks=16), line("flax ×1", 6.0, ticks=16)]
        (table,) = report.ratios(rows, "other JAX")
        cells = {row[0]: row[1:] for row in zip(*(column.cells for column in table.columns))}
        assert cells["seqjax auto ×1"] == ("1.50", "6.00", "3.00", "1.50")
        # Where the batch was not spread, one device stands in.
        assert cells["seqjax auto ×2"] == ("2.40", "6.00", "3.79", "2.40")
        assert report.ratios(rows, "torch") == []

    def test_two_devices_never_stand_beside_one(self):
        rows = [line("seqjax auto ×2", 0.5), line("flax ×1", 2.0), line("equinox ×1", 1.0), line("torch", 3.0)]
        assert report.ratios(rows, "other JAX") == []
        assert report.speed_up(report.measured(rows), "seqjax auto ×2", "torch") == 6.0

    def test_a_skipped_candidate_says_why(self, capsys):
        rows = [line("scan ×1", 1.0), line("torch", 1.0)]
        rows[0] |= {"lower_quartile_s": 1.0, "upper_quartile_s": 1.0, "trace_s": 0.1, "compile_s": 0.2}
        rows[0] |= {"error": 1e-7, "plan": None, "variant": "lstm"}
        del rows[1]["median_s"]
        rows[1]["skipped"] = "would take 9.0 GB of 7.0"
        report.show(report.Console(), report.table(rows))
        said = capsys.readouterr().out
        assert "skipped: would take 9.0 GB of 7.0" in said
        assert "float32, on a device" in said


class TestPlots:
    def test_names_are_moved_apart_and_no_further(self):
        np.testing.assert_allclose(plots.spread_out([0.2, 0.9], 0.1, 0, 1), [0.2, 0.9])
        np.testing.assert_allclose(plots.spread_out([0.5, 0.5, 0.5], 0.1, 0, 1), [0.4, 0.5, 0.6])
        np.testing.assert_allclose(plots.spread_out([1.0, 1.0], 0.1, 0, 1), [0.9, 1.0])

    def test_four_figures_of_a_sweep(self, tmp_path):
        rows = [line(name, 1e-3 * ticks, ticks=ticks) for name in ("seqjax auto", "torch") for ticks in (8, 16)]
        rows.append(line("flax", 1.0, ticks=16) | {"skipped": "…"})
        written = plots.draw(rows, tmp_path / "run", ["png"])
        kinds = [path.stem.removeprefix("run-lstm-b4-h5-float32-train-") for path in written]
        assert kinds == ["frontier", "time", "tick", "memory"]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)

    def test_memory_is_what_a_program_allocates_or_what_was_seen(self):
        assert plots.megabytes(line("scan", 1.0, ticks=1000)) == pytest.approx(1.0001)
        assert plots.megabytes(line("torch", 1.0, ticks=1000, temporary_bytes=None)) == 2.0


@pytest.mark.slow
class TestWholeRuns:
    @pytest.mark.filterwarnings("default")
    def test_bptt(self, tmp_path, capsys):
        words = "--ticks 8 --batch 4 --hidden 5 --dtypes float64 --passes train --ours auto/auto --devices 2"
        words += f" --peers scan torch --rounds 2 --seconds 0 --no-plots --name run --out {tmp_path}"
        assert bptt.main(words.split()) == 0
        rows = [json.loads(text) for text in (tmp_path / "run.jsonl").read_text().splitlines()]
        there = ["seqjax auto ×2", "scan ×2", *(["torch"] if peers.find("torch") else [])]
        assert [row["candidate"] for row in rows] == there
        assert all(row["error"] < 1e-9 and row["median_s"] > 0 for row in rows)
        assert {"machine", "versions", "environment", "settings", "commit", "time"} <= rows[0].keys()
        assert rows[0]["versions"]["jax"] == jax.__version__
        assert rows[0]["plan"]["engine"] in ("scan", "split")
        assert "lstm train: T 8, B 4, d 5, h 5, float64" in capsys.readouterr().out

    def test_interop(self, tmp_path, capsys):
        words = f"--shape 8 2 4 --rounds 1 --seconds 0 --out {tmp_path}/rows.jsonl"
        with jax.enable_x64(False):
            assert interop.main(words.split()) == 0
        rows = record.read(tmp_path / "rows.jsonl")
        assert [(row["library"], row["cell"]) for row in rows] == [
            (library, cell) for library in ("nnx", "linen", "equinox") for cell in ("lstm", "gru")
        ]
        assert all(row["error"] < 1e-5 and row["speed_up"] > 0 for row in rows)
        assert "linen gru, T 8, batch 2, 4 units: " in capsys.readouterr().out
        doubled = lambda cell: lambda params, xs: 2 * xs
        with pytest.MonkeyPatch.context() as patch, jax.enable_x64(False):
            patch.setattr(interop, "ours", doubled)
            assert interop.main(words.split()) == 1

    @pytest.mark.filterwarnings("default")
    def test_what_took_too_long_is_not_begun_at_a_greater_length(self):
        chosen = options.parse(None, ["--rounds", "1", "--call-limit", "60"])
        row = ROW._replace(ticks=16, inputs_too=False)
        (first,) = bptt.measure(row, "train", [Candidate("scan", 1)], chosen, past := {}, lambda now: None)
        assert past[bptt.kind(first)] == (first["median_s"] / 16, 0)
        past[bptt.kind(first)] = (1.0, 0)
        (second,) = bptt.measure(
            row._replace(ticks=64), "train", [Candidate("scan", 1)], chosen, past, lambda now: None
        )
        assert second["skipped"] == "would take 64 s a call, more than 60"

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")
    def test_charlm_trains_alike_everywhere(self):
        model = charlm_models.Model("gru", 2, 5, 4, 6, embedding_size=3, symbols=7)
        chosen = charlm.parse(["--rounds", "1"])
        chosen.devices = [2]
        with jax.enable_x64(False):
            lines = charlm.measure(model, chosen, lambda now: None)
        there = ["seqjax auto ×2", "flax", *(["torch"] if peers.find("torch") else [])]
        assert [line["candidate"] for line in lines] == there
        assert [line.get("skipped") for line in lines] == [None] * len(there)
        assert lines[0]["losses"][0] != lines[0]["losses"][1]
        assert all(line["limit_s"] > 0 for line in lines)
        speed = lines[0]["characters_per_second"]
        assert speed == pytest.approx(4 * 6 / lines[0]["median_s"])


def test_charlm_sees_a_step_that_differs():
    model = charlm_models.Model("lstm", 1, 5, 4, 6, embedding_size=3, symbols=7)
    begin = problem.named(charlm_models.start(model))
    trained = {name: value + 1 for name, value in begin.items()}
    half = {name: value + 0.5 for name, value in begin.items()}
    assert "skipped" not in charlm.compare(model, [1.0], trained, ("x", [1.0], trained))
    assert "5.0e-01 in the weights" in charlm.compare(model, [1.0], half, ("x", [1.0], trained))["skipped"]
    assert "1.0e-01 in the losses" in charlm.compare(model, [1.1], trained, ("x", [1.0], trained))["skipped"]


class TestFlags:
    def test_settings_are_added_to_flags_that_are_there(self):
        now = {"XLA_FLAGS": "--xla_a", "HOME": "/x"}
        assert flags.environment(now, flags.SETTINGS["huge pages"]) == now | flags.SETTINGS["huge pages"]
        merged = flags.environment(now, flags.SETTINGS["fused loops"])
        assert merged["XLA_FLAGS"] == "--xla_a " + flags.SETTINGS["fused loops"]["XLA_FLAGS"]

    def test_medians_over_turns_beside_those_without(self):
        rows = [
            line("scan", seconds, flags=name)
            for name, times in {"none": (2.0, 8.0, 4.0), "huge pages": (2.0, 1.0, 9.0)}.items()
            for seconds in times
        ]
        (table,) = flags.tables(rows, ["none", "huge pages"])
        assert [list(column.cells) for column in table.columns] == [["scan"], ["4,000.00"], ["2,000.00 (2.00)"]]


def test_records_keep_what_a_row_says_itself(tmp_path):
    records = record.Records(tmp_path / "new" / "rows.jsonl")
    records.write({"a": 1})
    records.write({"a": 2, "environment": {"XLA_FLAGS": "--b"}})
    first, second = record.read(records.path)
    assert first["a"] == 1
    assert first["machine"]["cores"] >= 1
    assert second["environment"] == {"XLA_FLAGS": "--b"}


@pytest.mark.slow
def test_parallel_rows_agree_before_they_are_timed(monkeypatch):
    """Every contender's gradients are the scan's; a wrong one is refused; chunks keep inputs and border states."""
    row = parallel.Row("delta", 64, 1, 24)
    found = {result["candidate"]: result for result in parallel.measure(row, 1, 0.0)}
    assert all(result["error"] < 1e-4 for result in found.values())
    assert found["ours"]["kept"] < found["lax.scan"]["kept"] / 4
    wrong = lambda row: {"lax.scan": parallel.plain(row), "wrong": lambda s, xs: 1.01 * parallel.plain(row)(s, xs)}
    monkeypatch.setattr(parallel, "contenders", wrong)
    with pytest.raises(ValueError, match=r"wrong: expected the gradients of a scan within 0.0001, got .*e-0[23]"):
        parallel.measure(row, 1, 0.0)
