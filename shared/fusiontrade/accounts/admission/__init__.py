"""Signing in and being let in: sessions, tokens and their keys, the gate item, limits."""
