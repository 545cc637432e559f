"""``make deploy STAGE=dev``: `sam deploy` of what `make build` made, then the one thing a template cannot make.

A pair of signing keys is no password that CloudFormation could generate, so the secret comes into being empty, and
the first deployment writes the first pair; it also registers the starter bundles, which the image serves. Always true
here: keys that exist are never replaced (their rotation is the platform's own work), no private part is printed or
leaves this process but to Secrets Manager, and a model of which a version serves already is left alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Sequence
from typing import Any

from fusiontrade.accounts.admission.tokens import SigningKeys
from fusiontrade.cloud.session import client
from infra import environment

__all__ = ["ensure_signing_keys", "main", "outputs_of", "register_starters"]

ROOT = environment.ROOT


def ensure_signing_keys(arn: str) -> bool:
    """Write the first pair of keys into the secret ``arn`` where it has no value; tell whether that was done.

    Two that do this at once end with one pair: both write under the same version id, and the second is refused.
    """
    manager = client("secretsmanager", read_seconds=10.0)
    try:
        if manager.get_secret_value(SecretId=arn).get("SecretString"):
            return False
    except manager.exceptions.ResourceNotFoundException:
        manager.describe_secret(SecretId=arn)  # the secret itself must be there: only its value may be absent
    try:
        manager.put_secret_value(
            SecretId=arn,
            ClientRequestToken=str(uuid.uuid5(uuid.NAMESPACE_URL, arn)),
            SecretString=SigningKeys.generate().to_json(),
        )
    except manager.exceptions.ResourceExistsException:
        return False
    return True


def outputs_of(stack: str) -> dict[str, str]:
    """Return the outputs of a deployed stack."""
    (found,) = client("cloudformation", read_seconds=10.0).describe_stacks(StackName=stack)["Stacks"]
    outputs: list[dict[str, Any]] = found.get("Outputs", [])
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def register_starters(bucket: str, table: str) -> list[str]:
    """Archive the starter bundles and register those of models that the registry does not know; return which."""
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.storage import Storage
    from fusiontrade.cloud.tables import Table
    from fusiontrade.registry.bundles import Bundles
    from fusiontrade.registry.versions import Registry
    from infra.local.resources import register_served, upload_bundles
    from serving.settings import STARTER_BUNDLES

    storage, registry = Storage(bucket), Registry(Table(table), system_clock)
    upload_bundles(storage, STARTER_BUNDLES)
    return register_served(registry, Bundles(storage), STARTER_BUNDLES, system_clock(), first_alone=True)


def main(arguments: Sequence[str]) -> int:
    """Deploy the stage named first (the rest goes to `sam deploy`); return the exit status."""
    stages = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    known = [name for name, sections in stages.items() if name != "default" and isinstance(sections, dict)]
    if not arguments or arguments[0] not in known:
        print(f"usage: python -m infra.deploy {'|'.join(known)} [arguments of sam deploy]", file=sys.stderr)
        return 2
    stage, *rest = arguments
    sam = environment.folder("sam") / "bin" / "sam"
    told = subprocess.run([sam, "deploy", "--config-env", stage, *rest], cwd=ROOT, check=False)
    if told.returncode:
        return told.returncode
    os.environ.setdefault("AWS_DEFAULT_REGION", stages[stage]["global"]["parameters"]["region"])
    outputs = outputs_of(stages[stage]["deploy"]["parameters"]["stack_name"])
    if ensure_signing_keys(outputs["SigningKeysArn"]):
        print("wrote the first signing keys")
    if made := register_starters(outputs["ArtifactsBucketName"], outputs["ModelsTableName"]):
        print(f"registered {', '.join(made)}")
    print(f"deployed: {outputs['ApiUrl']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
