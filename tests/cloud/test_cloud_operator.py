"""``fusiontrade accounts`` on the emulated Accounts table: by its name, by its stack, and on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.users import Users
from fusiontrade.cli import accounts as command
from fusiontrade.cli.app import app
from fusiontrade.clock import system_clock
from fusiontrade.cloud.encryption import Encryption
from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.cloud.stacks import physical_name
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import InvalidInput, NotFound, StateUnavailable
from tests.support import emulator

PASSWORD = "correct horse battery"
Run = Callable[..., Result]


@pytest.fixture
def run(accounts_table_name: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ACCOUNTS_TABLE", accounts_table_name)
    monkeypatch.setenv("FUSIONTRADE_PASSWORD", PASSWORD)
    return lambda *words, **more: CliRunner().invoke(app, ["accounts", *words], **more)


@pytest.fixture
def users(accounts_table: Table) -> Users:
    return Users(accounts_table, Passwords(), system_clock)


def password_hash(table: Table, email: str) -> str:
    item = table.get({"pk": f"EMAIL#{email}", "sk": "EMAIL"})
    assert item is not None
    return str(item["password_hash"])


def test_a_made_account_is_there_with_its_tier_and_its_password(run: Run, users: Users, accounts_table: Table) -> None:
    result = run("create", "Ada@Example.com", "--name", "Ada Lovelace", "--tier", "pro")
    assert result.exit_code == 0, result.output
    made = users.by_email("ada@example.com")
    assert made is not None
    assert (made.full_name, made.subscription_tier, made.is_verified) == ("Ada Lovelace", "pro", True)
    assert result.stdout == f"ada@example.com is made pro, verified (id {made.id})\n"
    assert Passwords().verify(PASSWORD, password_hash(accounts_table, "ada@example.com"))
    assert PASSWORD not in result.output


def test_an_account_can_be_made_that_has_still_to_prove_its_address(run: Run) -> None:
    told = json.loads(run("create", "ada@example.com", "--no-verified", "--json").stdout)
    assert (told["is_verified"], told["subscription_tier"], told["full_name"]) == (False, "free", "ada")
    assert told["created_at"].endswith("Z")
    assert "password" not in " ".join(told)


def test_the_password_is_asked_for_twice_and_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch, users: Users) -> None:
    monkeypatch.delenv("FUSIONTRADE_PASSWORD")
    result = run("create", "ada@example.com", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert users.by_email("ada@example.com") is not None


@pytest.mark.parametrize("password", ["short", "password1234", "fusiontrade2026"])
def test_the_passwords_rules_hold_for_operators_too(
    run: Run, users: Users, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("FUSIONTRADE_PASSWORD", password)
    result = run("create", "ada@example.com")
    assert result.exit_code == 2
    assert "password" in result.stderr
    assert users.by_email("ada@example.com") is None


@pytest.mark.parametrize("email", ["nobody", "a b@example.com", "@example.com", "ada@example.com\nx"])
def test_what_is_no_address_is_wrong_usage(run: Run, email: str) -> None:
    for words in (("create", email), ("promote", email)):
        result = run(*words)
        assert (result.exit_code, "is no e-mail address" in result.stderr) == (2, True)


def test_an_address_that_has_an_account_fails_and_changes_nothing(run: Run, users: Users) -> None:
    run("create", "ada@example.com", "--tier", "free")
    result = run("create", "ADA@example.com", "--tier", "admin")
    assert result.exit_code == 1
    assert "has an account already" in result.stderr
    found = users.by_email("ada@example.com")
    assert found is not None
    assert found.subscription_tier == "free"


def test_a_promoted_account_has_its_new_tier_up_and_down(run: Run, users: Users) -> None:
    run("create", "ada@example.com")
    for tier in ("admin", "pro", "free"):
        result = run("promote", "Ada@example.com", "--tier", tier)
        assert result.exit_code == 0, result.output
        assert f"ada@example.com is now {tier}, verified" in result.stdout
        found = users.by_email("ada@example.com")
        assert found is not None
        assert found.subscription_tier == tier
    assert run("promote", "ada@example.com", "--tier", "king").exit_code == 2


def test_promoting_nobody_is_no_such_thing(run: Run) -> None:
    assert run("promote", "nobody@example.com").exit_code == 4


def test_a_database_that_does_not_answer_is_not_available(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{emulator.free_port()}")
    forget_clients()
    assert run("promote", "ada@example.com").exit_code == 5


def test_without_a_name_it_is_this_machines_stack_with_credentials_that_open_nothing_else(
    aws: None, emulator_port: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCOUNTS_TABLE")
    for name in command._LOCAL_CREDENTIALS:
        monkeypatch.setenv(name, "a person's own")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("FUSIONTRADE_EMULATOR_PORT", str(emulator_port))
    forget_clients()
    assert run("create", "ada@example.com").exit_code == 5  # the stack has made no table yet
    emulator.make_table("AccountsTable", command.LOCAL_TABLE)
    try:
        assert run("create", "ada@example.com").exit_code == 0
    finally:
        client("dynamodb").delete_table(TableName=command.LOCAL_TABLE)


def test_the_local_table_is_called_as_the_local_stack_calls_it() -> None:
    from infra.local.gateway import local_template
    from infra.local.options import Options

    assert local_template(Options()).physical_name("AccountsTable") == command.LOCAL_TABLE


def test_a_deployed_stack_is_asked_for_its_table(
    run: Run, users: Users, accounts_table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCOUNTS_TABLE")
    body = {"Resources": {"AccountsTable": _table(f"{accounts_table_name}-of-stack")}}
    formation: Any = client("cloudformation", read_seconds=60.0)  # a second try would find the first one's stack
    formation.create_stack(StackName=accounts_table_name, TemplateBody=json.dumps(body))
    try:
        assert physical_name(accounts_table_name, "AccountsTable") == f"{accounts_table_name}-of-stack"
        assert run("create", "ada@example.com", "--stack", accounts_table_name).exit_code == 0
        made = Users(Table(f"{accounts_table_name}-of-stack"), Passwords(), system_clock).by_email("ada@example.com")
        assert made is not None
        assert users.by_email("ada@example.com") is None
    finally:
        formation.delete_stack(StackName=accounts_table_name)


def _table(name: str) -> dict[str, Any]:
    keys = (("pk", "HASH"), ("sk", "RANGE"))
    return {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
            "KeySchema": [{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        },
    }


def test_an_unknown_stack_is_no_such_thing_and_both_names_are_wrong_usage(run: Run, aws: None) -> None:
    with pytest.raises(NotFound, match="there is no stack 'nowhere'"):
        physical_name("nowhere", "AccountsTable")
    assert run("promote", "ada@example.com", "--stack", "nowhere").exit_code == 2  # the table is named as well


def test_a_cloudformation_that_does_not_answer_is_unavailable(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{emulator.free_port()}")
    forget_clients()
    with pytest.raises(StateUnavailable, match="CloudFormation"):
        physical_name("any", "AccountsTable")


def test_a_hub_token_is_known_to_what_fetches_in_its_owners_name(
    run: Run, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = str(client("kms").create_key()["KeyMetadata"]["Arn"])
    monkeypatch.setenv("ACCOUNTS_KEY_ARN", key)
    run("create", "ada@example.com")
    with pytest.raises(InvalidInput, match="has no hub token: its owner gives one"):
        command.hub_token("ada@example.com")
    with pytest.raises(InvalidInput, match="is no account's address"):
        command.hub_token("eve@example.com")
    ada = users.by_email("ada@example.com")
    assert ada is not None
    sealed = Encryption(key).encrypt("hf_of_ada", user_id=ada.id, purpose="hf_token")
    users.change(ada.id, ada.email, {}, hf_token=sealed)
    assert command.hub_token("Ada@example.com") == "hf_of_ada"
    users.change(ada.id, ada.email, {}, hf_token=Encryption(key).encrypt("x", user_id="eve", purpose="hf_token"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        command.hub_token("ada@example.com")
