"""One module per benchmark id; `python -m benchmarks T1b` runs one. Never part of the tests: they time things."""
