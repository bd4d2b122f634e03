"""Programs that XLA's own compiler for TPUs takes, where it is installed; nothing is run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compiled_for_tpu.py")
CELLS = ["elman", "lstm", "gru", "layer_norm_lstm", "slstm", "mlstm", "linear_attention", "mingru"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2"])
@pytest.mark.parametrize("engine", ["pallas", "auto"])
def test_gradients_compile(engine, topology):
    command = [sys.executable, str(SCRIPT), topology, engine, *CELLS]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = {name: int(count) for name, count, _ in map(str.split, done.stdout.splitlines())}
    assert list(kernels) == CELLS
    assert all(count == 0 if engine == "auto" else count >= 2 for count in kernels.values()), kernels
