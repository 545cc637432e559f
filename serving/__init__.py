"""The serving container."""
