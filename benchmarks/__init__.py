"""Measurements, one question a script: `python -m benchmarks.bptt --help`."""
