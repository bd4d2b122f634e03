"""The GPU benchmark, whole, at a size for a CPU: every engine and torch on one case, proven equal and written down."""

import jax
import pytest

pytest.importorskip("rich")

from benchmarks import gpu, record


@pytest.mark.slow
def test_a_row_runs_and_agrees(tmp_path):
    with jax.numpy_dtype_promotion("standard"):
        status = gpu.main(["--tiny", "--rows", "5", "--seconds", "0", "--out", str(tmp_path)])
    lines = record.read(tmp_path / "gpu_tiny.jsonl")
    assert status == 0
    assert {line["pass"] for line in lines} == {"train", "forward"}
    for line in lines:
        assert "failed" not in line, line["failed"]
        assert line["median_s"] > 0
        assert 0 < line["error"] < 8**0.5 * 2**-8
    assert {"scan all", "split all", "pallas all"} <= {line["candidate"] for line in lines}


def test_every_row_has_cases_that_can_be_made():
    for row in gpu.ORDER:
        for tiny in (False, True):
            for case in gpu.cases(row, tiny):
                assert case.cell in gpu.MAKERS
                assert case.dtype in gpu.ROUNDING
    with pytest.raises(ValueError, match="expected a row of"):
        gpu.cases(99, False)


def test_a_wrong_result_is_not_timed(monkeypatch):
    case = gpu.Case("lstm", 4, 2, 8, dtype="float32", engines=(("scan", "all"),))
    monkeypatch.setattr(gpu, "difference", lambda values, truth: float("nan"))
    with jax.numpy_dtype_promotion("standard"):
        (line,) = gpu.measure(case, "forward", 0, float("inf"))
    assert "differs" in line["wrong"]
    assert "median_s" not in line
