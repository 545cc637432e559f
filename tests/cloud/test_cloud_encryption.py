"""Short texts under an emulated KMS key."""

from __future__ import annotations

import base64

import pytest

from fusiontrade.cloud.encryption import MOST_BYTES, Encryption, Undecipherable
from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.errors import StateUnavailable
from tests.support.aws_server import AwsServer
from tests.support.emulator import free_port


@pytest.fixture
def key(aws: None) -> str:
    return str(client("kms").create_key()["KeyMetadata"]["Arn"])


@pytest.fixture
def encryption(key: str) -> Encryption:
    return Encryption(key)


@pytest.mark.parametrize("text", ["hf_abcdef", "ключ 🔑", "x" * MOST_BYTES])
def test_a_text_comes_back_for_the_same_user_and_purpose(encryption: Encryption, text: str) -> None:
    sealed = encryption.encrypt(text, user_id="u1", purpose="hf_token")
    assert sealed.isascii()
    assert text not in sealed
    assert text.encode() not in base64.b64decode(sealed, validate=True)
    assert encryption.decrypt(sealed, user_id="u1", purpose="hf_token") == text
    assert encryption.encrypt(text, user_id="u1", purpose="hf_token") != sealed


@pytest.mark.parametrize(("user_id", "purpose"), [("u2", "hf_token"), ("u1", "other"), ("hf_token", "u1"), ("", "")])
def test_it_is_undecipherable_for_another_user_or_purpose(encryption: Encryption, user_id: str, purpose: str) -> None:
    sealed = encryption.encrypt("hf_abcdef", user_id="u1", purpose="hf_token")
    with pytest.raises(Undecipherable):
        encryption.decrypt(sealed, user_id=user_id, purpose=purpose)


@pytest.mark.parametrize("sealed", ["AAAA", "no base64!", "ü", ""])
def test_what_is_no_text_of_ours_is_undecipherable(encryption: Encryption, sealed: str) -> None:
    with pytest.raises(Undecipherable):
        encryption.decrypt(sealed, user_id="u1", purpose="hf_token")


def test_bytes_that_are_no_text_are_undecipherable(encryption: Encryption, key: str) -> None:
    context = {"user_id": "u1", "purpose": "hf_token"}
    blob = client("kms").encrypt(KeyId=key, Plaintext=b"\xff\xfe", EncryptionContext=context)["CiphertextBlob"]
    with pytest.raises(Undecipherable, match="is no text"):
        encryption.decrypt(base64.b64encode(blob).decode(), **context)


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
def test_a_changed_text_and_one_of_another_key_are_undecipherable(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    with AwsServer(lambda call: (400, {"__type": code, "message": "no"})).running() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        with pytest.raises(Undecipherable):
            Encryption("the key").decrypt("AAAA", user_id="u1", purpose="hf_token")
    forget_clients()
    (call,) = server.calls
    assert (call["KeyId"], call["EncryptionContext"]) == ("the key", {"user_id": "u1", "purpose": "hf_token"})


@pytest.mark.parametrize("text", ["", "x" * (MOST_BYTES + 1), "ü" * (MOST_BYTES // 2 + 1)])
def test_a_text_of_another_length_is_refused_before_the_key_store_is_asked(text: str) -> None:
    with pytest.raises(ValueError, match=f"has 1 to {MOST_BYTES} bytes"):
        Encryption("no key").encrypt(text, user_id="u1", purpose="hf_token")


def test_a_key_store_that_is_down_is_unavailable(encryption: Encryption, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = encryption.encrypt("hf_abcdef", user_id="u1", purpose="hf_token")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    forget_clients()
    with pytest.raises(StateUnavailable, match="the key store"):
        encryption.encrypt("hf_abcdef", user_id="u1", purpose="hf_token")
    with pytest.raises(StateUnavailable, match="the key store"):
        encryption.decrypt(sealed, user_id="u1", purpose="hf_token")


def test_an_unknown_key_is_unavailable_and_no_secret_is_told(aws: None) -> None:
    unknown = Encryption("arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000")
    with pytest.raises(StateUnavailable) as refused:
        unknown.encrypt("hf_abcdef", user_id="u1", purpose="hf_token")
    assert "hf_abcdef" not in str(refused.value)
