"""Load and chaos for the serving program, on loopback: ``python -m infra.load SCENARIO``.

Each scenario starts the real program, does to it what the world does, prints what it measured and ends with 1 where
its condition does not hold. `bodies` makes the requests, `driver` sends them, `program` holds the process,
`scenarios` and `faults` are what is done. `infra.bench.serving` uses the same driver for throughput.
"""
