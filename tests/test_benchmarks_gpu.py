"""The questions to a GPU: their command lines, what is told of the answers, and all of it at a size for a CPU."""

import jax
import pytest

pytest.importorskip("rich")

from benchmarks import bptt, gpu, options, record
from benchmarks.problem import CELLS

LINE = {
    "device": "NVIDIA H200",
    "pass": "train",
    "library": "seqjax",
    "engine": "auto",
    "candidate": "seqjax auto ×1",
    "dtype": "bfloat16",
}


def line(cell, shape, milliseconds, **more):
    sizes = dict(zip(("ticks", "batch", "hidden_size"), shape))
    return {**LINE, "cell": cell, **sizes, "median_s": milliseconds / 1e3, **more}


@pytest.mark.parametrize("tiny", [False, True])
def test_every_row_is_a_command_line_whose_cells_can_be_made(tiny, tmp_path):
    given = ["--minutes", "9", "--out", str(tmp_path), *["--tiny"] * tiny]
    asked = gpu.parse(given)
    for name in asked.rows.split(","):
        row = gpu.ROWS[name]
        if not row.words:
            continue
        chosen = options.parse(None, gpu.words(row, asked, 1.5, "gpu"))
        assert (chosen.minutes, chosen.devices, chosen.out, chosen.loss) == (1.5, [1], tmp_path, "random")
        assert chosen.peers == (["torch"] if name != "crossover" else [])
        problems = options.problems(chosen)
        assert len(problems) == len(chosen.cells) * len(chosen.dtypes) * len(gpu.TINY if tiny else row.shapes)
        for problem in problems:
            jax.eval_shape(problem.make(problem.cell).init, jax.random.key(0))  # heads divide units


def test_a_row_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit):
        gpu.parse(["--rows", "lstm,nothing"])
    assert "expected some of lstm, gru, heads" in capsys.readouterr().err


def test_what_was_asked_is_told_beside_what_came_out():
    lstm, kernel = (1024, 16, 768), {"engine": "pallas", "candidate": "seqjax pallas/all ×1"}
    rows = [
        line("lstm", lstm, 11.0),
        line("lstm", lstm, 14.0, engine="scan", candidate="seqjax scan/all ×1"),
        line("lstm", lstm, 9.0, **kernel),
        line("lstm", lstm, 5.0, library="torch", candidate="torch", cudnn=91002),
        line("headwise_lstm_24", lstm, 16.0),
        line("headwise_lstm_24", lstm, 10.0, **kernel),
        line("lru", (4096, 8, 1536), 3.0, dtype="float32", limit={"stream": 1e-3}),
        line("lstm", (128, 1, 64), 2.0, dtype="float32"),
        line("gru", lstm, 1.0, **{"pass": "forward"}),
        {**LINE, "cell": "gru", "skipped": "9 minutes are over"},
    ]
    on_cpu = [line("lstm", (128, 1, 64), 0.5, dtype="float32"), line("lstm", (128, 16, 64), 1.0, dtype="float32")]
    told = list(gpu.told(rows, on_cpu))
    assert told[0].startswith("lstm (1024, 16, 768) bfloat16: 11.00 ms by seqjax auto ×1, 9.00 ms with a kernel; ")
    assert "; asked 12 (" in told[0]
    assert told[1].startswith("headwise_lstm_24 (1024, 16, 768) bfloat16: 16.00 ms by seqjax auto ×1, 10.00 ms")
    assert told[2:] == [
        "lru (4096, 8, 1536): 3.0 times the stream; asked 2",
        "beside cuDNN 91002: 91300 and newer were asked for",
        "kernels are at best 1.60 times as fast as split, asked 1.5: they stay",
        "T 128 B 1 h 64: 0.25 times as fast as on the CPU",
    ]
    slower = [row | {"median_s": 20e-3} if row.get("engine") == "pallas" else row for row in rows]
    assert "delete seqjax/engines/pallas/triton" in "".join(gpu.told(slower, []))
    assert "kernels" not in "".join(gpu.told([row | {"device": "cpu"} for row in rows], []))
    assert list(gpu.told([], [])) == []


def test_what_there_is_no_time_for_is_skipped_by_name_and_written_down(tmp_path):
    words = ["--tiny", "--minutes", "0", "--devices", "1", "--ours", "auto/auto", "--peers", "--cells", "lstm"]
    assert bptt.main([*words, "--out", str(tmp_path), "--name", "none", "--runs", "1", "--ticks", "8"]) == 0
    lines = record.read(tmp_path / "none.jsonl")
    assert [(line["pass"], line["candidate"]) for line in lines] == [
        ("forward", "seqjax auto ×1"),
        ("train", "seqjax auto ×1"),
    ]
    assert {line["skipped"] for line in lines} == {"0 minutes are over"}
    assert {line["device"] for line in lines} == {jax.devices()[0].device_kind}


@pytest.mark.slow
@pytest.mark.parametrize("row", ["lstm", "blocks", "linear", "flax"])
def test_a_row_runs_and_agrees(row, tmp_path):
    if row == "flax":
        pytest.importorskip("flax")
        pytest.importorskip("equinox")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        status = gpu.main(["--tiny", "--rows", row, "--seconds", "0", "--out", str(tmp_path)])
    assert status == 0
    lines = record.read(tmp_path / ("gpu_tiny_interop.jsonl" if row == "flax" else "gpu_tiny.jsonl"))
    measured = [line for line in lines if "skipped" not in line]
    if row == "flax":
        assert {line["library"] for line in measured} == {"nnx", "linen"}
        return
    assert {line["pass"] for line in measured} == {"train", "forward"}
    assert {line["cell"] for line in measured} == set(gpu.ROWS[row].words.split()[1 : 2 if row != "linear" else 5])
    assert all(line["cell"] in CELLS and 0 <= line["error"] < 0.1 for line in measured)
    assert row != "linear" or all(line["limit"]["stream"] > 0 for line in measured)
    assert {line["candidate"] for line in lines if "skipped" in line} <= {"seqjax cudnn/all ×1"}
