"""``python -m serving.bringing``: the command ``fusiontrade models``."""

from serving.bringing.command import app

if __name__ == "__main__":
    app()
