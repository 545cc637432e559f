"""Speed as ratios: ``make bench`` runs both sides of each row in turn, in one run, and prints how they compare.

Machines are noisy, so each row is the median of the ratios of neighbouring runs, with the quartiles beside it, never
one absolute time; nothing here is asserted. Every measurement goes to ``build/bench.json`` with machine and date, and
the next run prints its change against it; ``--publish`` also writes ``docs/performance.json`` and the tables of
``docs/performance.md``. Start reading at `infra.bench.__main__`.
"""
