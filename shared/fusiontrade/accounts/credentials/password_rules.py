"""Which passwords may be chosen: long enough, not too long, and none that many people would try first.

Always true here: nothing is asked of a password's composition (NIST SP 800-63B, 5.1.1.2; OWASP ASVS 5.0, 6.2); a text
that is too long is refused before anything looks into it; the words of a refusal never quote the password.
"""

from __future__ import annotations

import gzip
import unicodedata
from functools import cache
from importlib.resources import files

from fusiontrade.accounts.credentials.passwords import MAX_LENGTH, MIN_LENGTH
from fusiontrade.errors import InvalidInput

__all__ = ["check_password", "read_list"]

_PRODUCT = "fusiontrade"
_LIST = "common_passwords.txt.gz"
_LOOKALIKES = str.maketrans("013457@$!|", "oieastasii")


def check_password(password: str, *, field: str = "body/password") -> None:
    """Refuse a password that must not be chosen.

    Parameters
    ----------
    password : str
        As the user wrote it; spaces count.
    field : str
        Where it came from, for the message.

    Raises
    ------
    InvalidInput
        If it is shorter than 10 or longer than 128 characters, common, one character over and over, or holds the
        product's name.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InvalidInput(field, f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters; a sentence is a good one")
    plain = unicodedata.normalize("NFKC", password).casefold()
    if len(set(plain)) < 3 or plain in read_list():
        raise InvalidInput(field, "this password is among the first that are tried; choose another, e.g. a sentence")
    letters = "".join(letter for letter in plain.translate(_LOOKALIKES) if letter.isalnum())
    if _PRODUCT in letters:
        raise InvalidInput(field, "a password does not hold the product's name; choose another, e.g. a sentence")


@cache
def read_list() -> frozenset[str]:
    """Return the common passwords, in normal form; ``common_passwords.md`` says where they come from."""
    packed = files("fusiontrade.accounts.credentials").joinpath(_LIST).read_bytes()
    return frozenset(gzip.decompress(packed).decode().splitlines())
