"""The HTTP floor every function stands on: app factory, problems, authentication.

A function's ``app.py`` reads::

    settings = Settings.from_environment(os.environ)
    app = create_app("fusion", [router], settings)
    handler = handler_of(app)
"""

from fusiontrade.web.application import LambdaHandler, create_app, handler_of
from fusiontrade.web.authentication import CurrentUser, Identity, current_user, require
from fusiontrade.web.budget import seconds_left
from fusiontrade.web.problems import Problem, problems

__all__ = [
    "CurrentUser",
    "Identity",
    "LambdaHandler",
    "Problem",
    "create_app",
    "current_user",
    "handler_of",
    "problems",
    "require",
    "seconds_left",
]
