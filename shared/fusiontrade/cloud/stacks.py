"""What a deployed stack's resources are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client
from fusiontrade.errors import NotFound

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

__all__ = ["physical_name"]


def physical_name(stack: str, logical_id: str) -> str:
    """Return the name that the resource ``logical_id`` of a CloudFormation stack has.

    Raises
    ------
    NotFound
        If there is no such stack, or none such in it.
    StateUnavailable
        If CloudFormation does not answer, or these credentials may not ask it.
    """
    from botocore.exceptions import ClientError

    formation: CloudFormationClient = client("cloudformation", read_seconds=10.0)
    with state_errors("CloudFormation"):
        try:
            answer = formation.describe_stack_resource(StackName=stack, LogicalResourceId=logical_id)
        except ClientError as error:
            if code_of(error) == "ValidationError":
                raise NotFound(f"there is no stack {stack!r} with a {logical_id} in this account and region") from None
            raise
    return answer["StackResourceDetail"].get("PhysicalResourceId", "")
