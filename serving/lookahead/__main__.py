"""``python -m serving.lookahead``: the same as ``fusiontrade lookahead``."""

from serving.lookahead.command import app

if __name__ == "__main__":
    app(prog_name="python -m serving.lookahead")
