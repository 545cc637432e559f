"""Passwords: argon2id, with a cap before any hashing and the same work whether there is a hash to check or not.

Always true here: a password is never kept, logged or compared in the clear; a text over `MAX_LENGTH` characters is
refused without hashing; checking against no hash costs what checking against a real one costs.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from fusiontrade.settings import Settings

__all__ = ["MAX_LENGTH", "MIN_LENGTH", "Passwords"]

MIN_LENGTH = 10
MAX_LENGTH = 128
_SALT = b"no account here."


@dataclass(frozen=True)
class Passwords:
    """Hashes and checks with fixed parameters (OWASP's floor: 19 MiB, two iterations, one lane)."""

    memory_kib: int = 19 * 1024
    iterations: int = 2
    parallelism: int = 1

    @classmethod
    def of(cls, settings: Settings) -> Passwords:
        """Return the hasher that ``settings`` describe."""
        return cls(settings.password_memory_kib, settings.password_iterations, settings.password_parallelism)

    @cached_property
    def _hasher(self) -> PasswordHasher:
        from argon2 import PasswordHasher, Type

        return PasswordHasher(
            time_cost=self.iterations, memory_cost=self.memory_kib, parallelism=self.parallelism, type=Type.ID
        )

    @cached_property
    def _nobody(self) -> str:
        return self._hasher.hash("nobody has this password", salt=_SALT)

    def prepare(self) -> None:
        """Make what every check needs and none changes; draws no random number."""
        _ = self._nobody

    def hash(self, password: str) -> str:
        """Return the salted hash of ``password`` in argon2's own text form.

        Raises
        ------
        ValueError
            If the password has fewer than 10 or more than 128 characters.
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise ValueError(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
        return self._hasher.hash(_normal(password))

    def verify(self, password: str, stored: str | None) -> bool:
        """Return whether ``password`` belongs to ``stored``; with no stored hash, False after the same work."""
        if len(password) > MAX_LENGTH:
            return False
        from argon2.exceptions import InvalidHashError, VerificationError

        nobody = self._nobody  # made on first use: whoever comes first pays for it, known or not
        try:
            return self._hasher.verify(nobody if stored is None else stored, _normal(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False

    def is_outdated(self, stored: str) -> bool:
        """Return whether ``stored`` was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(stored)


def _normal(password: str) -> str:
    """Return one spelling of a password that keyboards compose in different ways (NFKC, as NIST SP 800-63B says)."""
    return unicodedata.normalize("NFKC", password)
