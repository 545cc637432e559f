"""The HTTP floor every function stands on: app factory, problems, authentication."""
