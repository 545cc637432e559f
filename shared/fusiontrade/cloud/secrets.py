"""Secrets Manager with a short cache: a secret is read by its ARN, kept in memory for minutes, and never logged.

Always true here: a secret is replaced only where the version it was made from is still the current one, so of two
writers one wins and the other is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client
from fusiontrade.errors import Conflict, StateUnavailable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["CACHE_SECONDS", "Secrets", "Versioned"]

CACHE_SECONDS = 300.0
_CURRENT = "AWSCURRENT"
_CANDIDATE = "FUSIONTRADE_CANDIDATE"
_MOVED_ON = frozenset({"InvalidParameterException", "InvalidRequestException", "ResourceNotFoundException"})


@dataclass(frozen=True)
class Versioned:
    """The text of a secret and the version that has it."""

    text: str = field(repr=False)
    version: str


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
            text = _fetched(arn).text
            self._known[arn] = (now, text)
            return text

    def current(self, arn: str) -> Versioned:
        """Return the secret as it is now, past the cache; raises `StateUnavailable`."""
        return _fetched(arn)

    def replace(self, arn: str, text: str, *, version: str) -> None:
        """Make ``text`` the secret, if ``version`` is still the current one.

        The text becomes a version of its own first, and then takes over the label of the current one from the version
        that is named: that second step is the service's own comparison.

        Raises
        ------
        Conflict
            If another version is current by now; nothing has changed.
        StateUnavailable
            If Secrets Manager did not answer; the secret is the old one or the new one.
        """
        from botocore.exceptions import ClientError

        manager: SecretsManagerClient = client("secretsmanager")
        with state_errors("the secret store"):
            made = manager.put_secret_value(SecretId=arn, SecretString=text, VersionStages=[_CANDIDATE])
            try:
                manager.update_secret_version_stage(
                    SecretId=arn, VersionStage=_CURRENT, MoveToVersionId=made["VersionId"], RemoveFromVersionId=version
                )
            except ClientError as error:
                if code_of(error) in _MOVED_ON:
                    raise Conflict("the secret was changed by another process; read it again") from None
                raise
        with self._lock:
            self._known.pop(arn, None)


def _fetched(arn: str) -> Versioned:
    with state_errors("the secret store"):
        manager: SecretsManagerClient = client("secretsmanager")
        answer = manager.get_secret_value(SecretId=arn)
    if "SecretString" not in answer:
        raise StateUnavailable("a secret holds bytes where it should hold text")
    return Versioned(answer["SecretString"], answer["VersionId"])
