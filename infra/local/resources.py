"""The template's state on the emulator: tables, bucket, queues, keys, secrets, and what a first start puts into them.

Always true here: safe to run at any time; what is there already is kept, never emptied or replaced; a table whose keys
no longer fit the template is an error that says what to do. Runs as a process of its own with the environment of a
function: ``python -m infra.local.resources OPTIONS_AS_JSON``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.accounts.credentials.passwords import Passwords
from fusiontrade.accounts.users import Users, seed_user
from fusiontrade.clock import system_clock
from fusiontrade.cloud.session import client
from fusiontrade.cloud.storage import Storage
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import BundleRefused
from fusiontrade.registry.bundles import Bundles
from fusiontrade.registry.versions import Registry
from fusiontrade.settings import Settings
from infra.local.banner import DEMO_EMAIL, DEMO_PASSWORD
from infra.local.functions import AWS_VARIABLES
from infra.local.gateway import local_template, overrides
from infra.local.log import NOTICE, emit
from infra.local.options import Options
from infra.local.template import QUEUE, Template
from serving.bringing.placing import verified
from serving.bundle import CARD, MANIFEST

__all__ = ["ensure", "register_served", "upload_bundles"]

NAME = "resources"
TABLE, BUCKET, SECRET = "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SecretsManager::Secret"
KEY = "AWS::KMS::Key"
_OF_QUEUES = ("VisibilityTimeout", "MessageRetentionPeriod", "DelaySeconds", "RedrivePolicy", "SqsManagedSseEnabled")
_AS_GIVEN = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")


class ResourceError(Exception):
    """The state on this machine does not fit the template."""


def ensure(template: Template, bundles: Path, served: Path | None = None) -> None:
    """Make everything that the template declares and that is missing, then seed it.

    Parameters
    ----------
    bundles
        Are archived.
    served
        What the models' program serves where that is another folder: it is what the registry calls ACTIVE.
    """
    served = bundles if served is None else served
    for logical_id in template.of_type(TABLE):
        _ensure_table(template.physical_name(logical_id), template.properties(logical_id))
    for logical_id in template.of_type(BUCKET):
        _ensure_bucket(template.physical_name(logical_id))
    for logical_id in template.of_type(SECRET):
        _ensure_secret(template.physical_name(logical_id), logical_id, template.properties(logical_id))
    # a queue that others give their messages up to comes first: SQS refuses a redrive to nowhere
    for logical_id in sorted(template.of_type(QUEUE), key=lambda name: "RedrivePolicy" in template.properties(name)):
        _ensure_queue(template.physical_name(logical_id), template.properties(logical_id))
    # the alarms' key is left out with the alarms: nothing here is encrypted with it
    if "AccountsKey" in template.of_type(KEY):
        _ensure_key(template.physical_name("AccountsKey"))
    if "ArtifactsBucket" in template.resources:
        storage = Storage(template.physical_name("ArtifactsBucket"))
        upload_bundles(storage, bundles)
        if "ModelsTable" in template.resources:
            registry = Registry(Table(template.physical_name("ModelsTable")), system_clock)
            register_served(registry, Bundles(storage), served, system_clock())
            if served != bundles:
                register_served(registry, Bundles(storage), bundles, system_clock(), first_alone=True)
    if "AccountsTable" in template.resources:
        passwords = Passwords.of(Settings.from_environment({"STAGE": "local"}))
        users = Users(Table(template.physical_name("AccountsTable")), passwords, system_clock)
        seed_user(users, email=DEMO_EMAIL, password=DEMO_PASSWORD, full_name="Demo Trader", tier="pro")


def _ensure_table(name: str, properties: Mapping[str, Any]) -> None:
    dynamodb = client("dynamodb", read_seconds=10.0)
    wanted = {key: properties[key] for key in _AS_GIVEN if key in properties}
    if stream := properties.get("StreamSpecification"):
        wanted["StreamSpecification"] = {"StreamEnabled": True, **stream}
    if name not in _table_names(dynamodb):
        dynamodb.create_table(TableName=name, **wanted)
        dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
    there = dynamodb.describe_table(TableName=name)["Table"]
    if _shape(there) != _shape(wanted):
        raise ResourceError(
            f"the table {name} on this machine has other keys or indexes than template.yaml; "
            "delete the state folder (.local/state) to start afresh"
        )
    _ensure_time_to_live(dynamodb, name, properties.get("TimeToLiveSpecification"))


def _table_names(dynamodb: Any) -> set[str]:
    pages = dynamodb.get_paginator("list_tables").paginate()
    return {name for page in pages for name in page["TableNames"]}


def _shape(table: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a table and of its indexes, comparable."""
    indexes = {index["IndexName"]: _keys(index) for index in table.get("GlobalSecondaryIndexes") or []}
    return {"keys": _keys(table), "indexes": indexes}


def _keys(thing: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key["AttributeName"], key["KeyType"]) for key in thing["KeySchema"]]


def _ensure_time_to_live(dynamodb: Any, name: str, wanted: Mapping[str, Any] | None) -> None:
    if wanted is None:
        return
    told = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if told.get("AttributeName") != wanted["AttributeName"] or told.get("TimeToLiveStatus") != "ENABLED":
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=dict(wanted))


def _ensure_bucket(name: str) -> None:
    s3 = client("s3", read_seconds=10.0)
    if name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=name)


def _ensure_secret(name: str, logical_id: str, properties: Mapping[str, Any]) -> None:
    manager = client("secretsmanager", read_seconds=10.0)
    try:
        manager.describe_secret(SecretId=name)
    except manager.exceptions.ResourceNotFoundException:
        if logical_id == "SigningKeys":
            text = SigningKeys.generate().to_json()
        elif (generated := properties.get("GenerateSecretString")) is not None:
            text = manager.get_random_password(**generated)["RandomPassword"]
        else:
            text = "{}"
        manager.create_secret(Name=name, SecretString=text)


def _ensure_queue(name: str, properties: Mapping[str, Any]) -> None:
    """Make a queue, or give the one that is there the template's settings; its messages stay."""
    sqs = client("sqs", read_seconds=10.0)
    wanted = {key: _attribute(properties[key]) for key in _OF_QUEUES if key in properties}
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        sqs.create_queue(QueueName=name, Attributes=wanted)
    else:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=wanted)


def _attribute(value: object) -> str:
    """Return a property as SQS takes it: text, JSON for what is more than one value."""
    return value if isinstance(value, str) else json.dumps(value)


def _ensure_key(name: str) -> None:
    """Make a key under the alias by which the template's references find it."""
    kms, alias = client("kms", read_seconds=10.0), f"alias/{name}"
    try:
        kms.describe_key(KeyId=alias)
    except kms.exceptions.NotFoundException:
        made = kms.create_key(Description=name)["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName=alias, TargetKeyId=made)


def upload_bundles(storage: Storage, folder: Path) -> None:
    """Put each starter bundle under ``bundles/{model}/{version}/``; its manifest last, so that it marks a whole one.

    What must not serve is not archived either; the models' program says why it refuses it.
    """
    for bundle, card in _bundles(folder):
        prefix = f"bundles/{card['model_id']}/{card['version']}/"
        if storage.get(prefix + MANIFEST) is not None or not _may_serve(bundle):
            continue
        files = sorted((f for f in bundle.rglob("*") if f.is_file()), key=lambda f: f.name == MANIFEST)
        for file in files:
            storage.put(prefix + file.relative_to(bundle).as_posix(), file.read_bytes())


def register_served(
    registry: Registry, archive: Bundles, folder: Path, now: int, *, first_alone: bool = False
) -> list[str]:
    """Register each archived bundle of ``folder`` that may serve, call it ACTIVE, and return which were new.

    ``first_alone`` leaves models alone of which a version is ACTIVE: what serves there was promoted since, and a bundle
    of another version becomes a candidate.
    """
    active = registry.active()
    made = []
    for bundle, card in _bundles(folder):
        model_id, version = str(card["model_id"]), str(card["version"])
        if active.get(model_id) == version or not _may_serve(bundle):
            continue
        try:
            taken = archive.take_in(archive.prefix(model_id, version), created_at=now)
        except BundleRefused as refusal:
            emit(NOTICE, NAME, f"{model_id} is not registered: {refusal}")
            continue
        registry.register(taken)
        if first_alone and model_id in active:
            continue
        registry.promote(model_id, version)
        made.append(model_id)
    return made


def _bundles(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give each folder whose card names a model and a version, with the card; hidden ones are not finished."""
    for path in sorted(folder.glob(f"[!.]*/{CARD}")):
        with contextlib.suppress(OSError, ValueError):
            card = json.loads(path.read_bytes())
            if isinstance(card, dict) and {"model_id", "version"} <= card.keys():
                yield path.parent, card


def _may_serve(bundle: Path) -> bool:
    try:
        verified(bundle)
    except BundleRefused:
        return False
    return True


def main(options: Options) -> int:
    """Make and seed everything; return the exit status."""
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update({**AWS_VARIABLES, **overrides(options)})
    try:
        ensure(local_template(options), Path(options.bundles), options.served / "bundles")
    except ResourceError as error:
        emit(NOTICE, NAME, str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Options.from_json(sys.argv[1])))
