"""SageMaker's control plane: training jobs, and which set of bundles an endpoint serves.

On a laptop the same client is pointed at a program that does the same with child processes (`infra.local.sagemaker`).
Always true here: a thing that is begun twice under one name is begun once; what may pass (throttling, no capacity, no
answer) is `Unavailable`, everything else that the service refuses is a `SageMakerRefused` with its own words.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client
from fusiontrade.errors import FusionTradeError, Unavailable

__all__ = ["EndpointState", "NoCapacity", "SageMaker", "SageMakerRefused", "TrainingPlan", "TrainingState"]

_log = logging.getLogger(__name__)
_READ_SECONDS = 10.0
_GIGABYTES = 30
_RETRIES = 3
"""How often a training goes on from its checkpoints where its instance was lost."""
_MISSING = "could not find"  # what a ValidationException says of a name that there is not
_LIMITED = frozenset({"ResourceLimitExceeded", "CapacityError"})
_PASSING = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "InternalFailure", "ServiceUnavailable",
     "RequestLimitExceeded", "InternalServerException"}
)  # fmt: skip
_NAMES = re.compile(r"\b(?:arn:aws[^\s,;)\]]*|s3://[^\s,;)\]]*|\d{12}\b)")
_REFUSED = frozenset({"ValidationException", "ResourceNotFound", "AccessDeniedException", "ConflictException"})


class SageMakerRefused(FusionTradeError):
    """The service will not do that, however often it is asked."""


class NoCapacity(Unavailable):
    """The account's limit of instances is reached, or there are none: worth another try later."""


@dataclass(frozen=True)
class TrainingPlan:
    """A training job.

    Parameters
    ----------
    name
        Of the job; letters, digits, dashes, at most 63.
    image, role, instance_type
        What runs, with whose rights, where.
    channels
        S3 prefix of each input channel by name.
    output, checkpoints
        S3 prefixes of what is made, and of what outlives an interruption.
    parameters
        What the program is told.
    most_seconds
        The job is stopped then.
    """

    name: str
    image: str
    role: str
    instance_type: str
    channels: Mapping[str, str]
    output: str
    checkpoints: str
    parameters: Mapping[str, str]
    most_seconds: int


@dataclass(frozen=True)
class TrainingState:
    """How far a training job is; ``reason`` says why it failed, ``artifacts`` is the S3 prefix of what it made."""

    status: Literal["InProgress", "Completed", "Failed", "Stopping", "Stopped"]
    step: str
    reason: str
    artifacts: str


@dataclass(frozen=True)
class EndpointState:
    """What an endpoint serves, ``configuration``, and whether it is changing; ``failure`` is of the last change."""

    status: str
    configuration: str
    failure: str


class SageMaker:
    """The service in this account and region."""

    def start_training(self, plan: TrainingPlan) -> None:
        """Start a training job, or leave the one of that name alone.

        Raises
        ------
        NoCapacity, fusiontrade.errors.StateUnavailable
            If it may be tried again.
        SageMakerRefused
            If it is never taken.
        """
        channels = [
            {
                "ChannelName": name,
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
                "InputMode": "File",
            }
            for name, uri in plan.channels.items()
        ]
        self._do(
            "create_training_job",
            known="ResourceInUse",
            TrainingJobName=plan.name,
            AlgorithmSpecification={"TrainingImage": plan.image, "TrainingInputMode": "File"},
            RoleArn=plan.role,
            InputDataConfig=channels,
            OutputDataConfig={"S3OutputPath": plan.output, "CompressionType": "NONE"},
            CheckpointConfig={"S3Uri": plan.checkpoints},
            ResourceConfig={"InstanceType": plan.instance_type, "InstanceCount": 1, "VolumeSizeInGB": _GIGABYTES},
            StoppingCondition={"MaxRuntimeInSeconds": plan.most_seconds},
            RetryStrategy={"MaximumRetryAttempts": _RETRIES},
            HyperParameters=dict(plan.parameters),
            EnableNetworkIsolation=True,
        )

    def training(self, name: str) -> TrainingState | None:
        """Return how far a training job is, None where there is none of that name; raises as `start_training` does."""
        told = self._found("describe_training_job", TrainingJobName=name)
        if told is None:
            return None
        return TrainingState(
            told["TrainingJobStatus"],
            told.get("SecondaryStatus", ""),
            _without_names(told.get("FailureReason", "")),
            told.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""),
        )

    def stop_training(self, name: str) -> None:
        """Ask a training job to end; one that has ended stays as it is."""
        self._do("stop_training_job", known="ValidationException", TrainingJobName=name)

    def endpoint(self, name: str) -> EndpointState | None:
        """Return what the endpoint serves, None where there is none of that name."""
        told = self._found("describe_endpoint", EndpointName=name)
        if told is None:
            return None
        return EndpointState(
            told["EndpointStatus"], told["EndpointConfigName"], _without_names(told.get("FailureReason", ""))
        )

    def roll_out(self, endpoint: str, configuration: str, bundles: str) -> None:
        """Let the endpoint serve the set of bundles under the S3 prefix ``bundles``; the old set serves until it does.

        Model and configuration are copies of those that serve, under the name ``configuration``, with other bundles.
        """
        now = self.endpoint(endpoint)
        if now is None:
            raise SageMakerRefused(f"there is no endpoint {endpoint}")
        settings = self._do("describe_endpoint_config", EndpointConfigName=now.configuration)
        (variant,) = settings["ProductionVariants"]
        model = self._do("describe_model", ModelName=variant["ModelName"])
        source = {"S3DataSource": {"S3Uri": bundles, "S3DataType": "S3Prefix", "CompressionType": "None"}}
        container = {**model["PrimaryContainer"], "ModelDataSource": source}
        container["Environment"] = {**container.get("Environment", {}), "SERVING_BUNDLES": "/opt/ml/model"}
        self._do(
            "create_model",
            known="ValidationException",
            ModelName=configuration,
            ExecutionRoleArn=model["ExecutionRoleArn"],
            PrimaryContainer=container,
            EnableNetworkIsolation=model.get("EnableNetworkIsolation", True),
        )
        self._do(
            "create_endpoint_config",
            known="ValidationException",
            EndpointConfigName=configuration,
            ProductionVariants=[{**variant, "ModelName": configuration}],
        )
        self._do(
            "update_endpoint",
            EndpointName=endpoint,
            EndpointConfigName=configuration,
            RetainAllVariantProperties=True,
            RetainDeploymentConfig=True,
        )

    def _found(self, operation: str, **request: Any) -> dict[str, Any] | None:
        try:
            return self._do(operation, **request)
        except SageMakerRefused as error:
            if _MISSING in str(error).lower() or "not found" in str(error).lower():
                return None
            raise

    def _do(self, operation: str, *, known: str = "", **request: Any) -> dict[str, Any]:
        """Call an operation; an answer with the error code ``known`` means that it was done before."""
        from botocore.exceptions import ClientError

        with state_errors("SageMaker"):
            try:
                answer: dict[str, Any] = getattr(client("sagemaker", read_seconds=_READ_SECONDS), operation)(**request)
            except ClientError as error:
                code, text = code_of(error), _without_names(error.response.get("Error", {}).get("Message", ""))
                if code == known and (known != "ValidationException" or _is_done(operation, text)):
                    return {}
                if code in _LIMITED:
                    raise NoCapacity(f"there is no instance to train on now: {text}", retry_after=300) from error
                if code in _PASSING:
                    raise
                if code in _REFUSED or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) < 500:
                    raise SageMakerRefused(f"SageMaker refused: {text or code}") from error
                raise
        return answer


def _without_names(text: str) -> str:
    """Return what the service says without the names of roles, accounts and objects, which no user is to read."""
    if (told := _NAMES.sub("…", text)) != text:
        _log.warning("SageMaker: %s", text)
    return told


def _is_done(operation: str, text: str) -> bool:
    """Tell whether a refusal says that the thing is there, or has ended, already."""
    return operation == "stop_training_job" or "already exist" in text.lower()
