"""The HTTP floor every function stands on: app factory, problems, time budget; authentication is its own module.

A function's ``app.py`` reads::

    settings = Settings.from_environment(os.environ)
    app = create_app("fusion", [router], settings)
    handler = handler_of(app)

``fusiontrade.web.asking.authentication`` is imported by the functions that have users, because it brings cryptography.
"""

from fusiontrade.web.application import LambdaHandler, create_app, handler_of
from fusiontrade.web.budget import seconds_left
from fusiontrade.web.problems import Problem, problems

__all__ = ["LambdaHandler", "Problem", "create_app", "handler_of", "problems", "seconds_left"]
