"""Secrets Manager with a short cache: a secret is read by its ARN, kept in memory for minutes, and never logged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fusiontrade.cloud.failures import state_errors
from fusiontrade.cloud.session import client
from fusiontrade.errors import StateUnavailable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["CACHE_SECONDS", "Secrets"]

CACHE_SECONDS = 300.0


class Secrets:
    """Reads secrets; ``clock`` gives seconds that never go back."""

    def __init__(self, *, cache_seconds: float = CACHE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def read(self, arn: str) -> str:
        """Return the text of the secret ``arn``, at most ``cache_seconds`` old.

        Raises
        ------
        StateUnavailable
            If Secrets Manager does not give it as text and no copy young enough is known.
        """
        with self._lock:
            now = self._clock()
            known = self._known.get(arn)
            if known is not None and now - known[0] < self._cache_seconds:
                return known[1]
            text = _fetched(arn)
            self._known[arn] = (now, text)
            return text


def _fetched(arn: str) -> str:
    with state_errors("the secret store"):
        manager: SecretsManagerClient = client("secretsmanager")
        answer = manager.get_secret_value(SecretId=arn)
    if "SecretString" not in answer:
        raise StateUnavailable("a secret holds bytes where it should hold text")
    return answer["SecretString"]
