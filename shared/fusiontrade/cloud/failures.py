"""What botocore raises, told apart by what a caller can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fusiontrade.errors import StateUnavailable

__all__ = ["code_of", "state_errors"]


def code_of(error: BaseException) -> str:
    """Return the service's error code, or the class name of an error that never reached a service."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return type(error).__name__


@contextmanager
def state_errors(what: str) -> Iterator[None]:
    """Turn every botocore error inside into `StateUnavailable`; ``what`` says which thing did not answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StateUnavailable(f"{what} did not answer: {code_of(error)}", retry_after=5) from error
