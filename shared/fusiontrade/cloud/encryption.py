"""Short texts under a KMS key: text in, base64 text out, bound to one user and one purpose.

Always true here: what was encrypted for one user or purpose does not decrypt for another, whoever moves it in a table;
the key never leaves KMS; neither the text nor what KMS was sent is ever logged.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

__all__ = ["MOST_BYTES", "Encryption", "Undecipherable"]

MOST_BYTES = 4096
_NOT_OURS = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class Undecipherable(Exception):
    """The text was not encrypted by this key for this user and purpose, or was changed since."""


class Encryption:
    """Encrypts under the key ``key_arn``."""

    def __init__(self, key_arn: str) -> None:
        self._key = key_arn

    def encrypt(self, text: str, *, user_id: str, purpose: str) -> str:
        """Return ``text`` encrypted, as base64; twice the same text gives two different answers.

        Raises
        ------
        ValueError
            If it has no characters, or more than 4,096 bytes.
        StateUnavailable
            If KMS does not answer.
        """
        plain = text.encode()
        if not 0 < len(plain) <= MOST_BYTES:
            raise ValueError(f"a text to encrypt has 1 to {MOST_BYTES} bytes, not {len(plain)}")
        kms: KMSClient = client("kms")
        with state_errors("the key store"):
            answer = kms.encrypt(KeyId=self._key, Plaintext=plain, EncryptionContext=_context(user_id, purpose))
        return base64.b64encode(answer["CiphertextBlob"]).decode()

    def decrypt(self, sealed: str, *, user_id: str, purpose: str) -> str:
        """Return the text that `encrypt` was given.

        Raises
        ------
        Undecipherable
            If it was given another user or purpose, or never made this.
        StateUnavailable
            If KMS does not answer.
        """
        from botocore.exceptions import ClientError

        try:
            blob = base64.b64decode(sealed, validate=True)
        except ValueError as error:
            raise Undecipherable("this is no text of ours") from error
        kms: KMSClient = client("kms")
        with state_errors("the key store"):
            try:
                answer = kms.decrypt(KeyId=self._key, CiphertextBlob=blob, EncryptionContext=_context(user_id, purpose))
            except ClientError as error:
                if code_of(error) in _NOT_OURS:
                    raise Undecipherable("this was not encrypted for this user and purpose") from None
                raise
        try:
            return answer["Plaintext"].decode()
        except UnicodeDecodeError:
            raise Undecipherable("what was encrypted is no text") from None


def _context(user_id: str, purpose: str) -> dict[str, str]:
    return {"user_id": user_id, "purpose": purpose}
