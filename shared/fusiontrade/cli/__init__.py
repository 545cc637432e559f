"""The ``fusiontrade`` command: talks to any stack, local or deployed, over its public API.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not signed in, 4 no such thing, 5 not available now.
It is no part of the Lambda layer; typer, rich and httpx are imported by no other package of the product.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command and end the process with its exit code."""
    from fusiontrade.cli.app import app

    app()
