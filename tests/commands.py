"""Commands that train for long, in a process of their own."""

import os
import subprocess
import sys


def optimised(*words):
    """`python -m seqjax` compiled as a user's is: training without optimisation takes several times as long."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "seqjax", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
