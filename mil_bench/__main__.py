"""``python -m mil_bench`` is ``mil-bench``."""

from mil_bench.cli import program

raise SystemExit(program())
