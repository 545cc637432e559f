"""The whole platform on one machine: ``python -m infra.local``.

Always true here: `template.yaml` alone says which functions, routes, tables, buckets and secrets exist; every server
binds 127.0.0.1; no process outlives the supervisor. Nothing in the product knows that this package exists.
"""
