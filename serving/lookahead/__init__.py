"""Look-ahead tests as a tool: does anything here know what it could not have known? ``python -m serving.lookahead``.

`checks` are pure functions over arrays and callables: features and models asked again with another future, datasets by
the instants of their rows, scalers by what they were fitted on, cards and reports by what they tell. Around them
`reading` reads files and names, `ours`, `pools` and `bundles` bring the product's own features, datasets and bundles
before the checks, `plan` runs them in order, `showing` and `command` are for the terminal. Start reading at
`checks.findings`, then `plan`.

Always true: a check that could not be made is SKIPPED with its reason, never PASS; a finding names where it is, how
large it is and what to do; nothing here is imported by serving, training or evaluation.

May import: `serving`, what training may import of `fusiontrade`, typer and rich (`command`, `showing` alone). torch
comes in with `serving.training` only where slices of our own data are asked for.
"""

__all__: list[str] = []
