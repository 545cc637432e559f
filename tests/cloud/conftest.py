"""The emulated cloud for every test of this folder."""

from tests.support.aws_fixtures import *  # noqa: F403 - pytest finds fixtures by name in this module
