"""A loopback SageMaker that does its work, slowly if it is told to, and misbehaves as the real one does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.listening import Handler, listening

Request = Mapping[str, Any]
Fault = tuple[int, str, str]


@dataclass
class SageMakerStub:
    """What it does, and what it was asked.

    ``train`` is called with a job's request when the job is over; ``looks`` times a job or an exchange is seen under
    way first; ``ends`` is how jobs end, with ``reason``; ``refuses`` is why an endpoint goes back to its old set.
    """

    train: Callable[[Request], object] = lambda request: None
    looks: int = 1
    ends: str = "Completed"
    reason: str = ""
    refuses: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    configurations: dict[str, Any] = field(default_factory=dict)
    endpoint: dict[str, Any] = field(default_factory=lambda: {"configuration": "first", "waiting": "", "seen": 0})
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[tuple[str, Request]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Be as new, on the same port."""
        vars(self).update(vars(SageMakerStub(port=self.port)))

    def fail(self, operation: str, code: str, message: str = "", *, status: int = 400, times: int = 1) -> None:
        """Answer the next calls of ``operation`` with an error."""
        self.faults.setdefault(operation, []).extend([(status, code, message)] * times)

    def answer(self, operation: str, request: Request) -> tuple[int, dict[str, Any]]:
        self.asked.append((operation, request))
        if waiting := self.faults.get(operation):
            status, code, message = waiting.pop(0)
            return status, {"__type": code, "message": message}
        return getattr(self, f"_{operation}")(request)  # type: ignore[no-any-return]

    def _CreateTrainingJob(self, request: Request) -> tuple[int, dict[str, Any]]:
        name = request["TrainingJobName"]
        if name in self.jobs:
            return 400, {"__type": "ResourceInUse", "message": f"{name} exists"}
        self.jobs[name] = {"request": request, "seen": 0, "status": "InProgress"}
        return 200, {"TrainingJobArn": f"arn:aws:sagemaker:us-east-1:0:training-job/{name}"}

    def _DescribeTrainingJob(self, request: Request) -> tuple[int, dict[str, Any]]:
        name = request["TrainingJobName"]
        if name not in self.jobs:
            return 400, {"__type": "ValidationException", "message": "Requested resource not found."}
        job = self.jobs[name]
        if job["status"] == "Stopping":
            job["status"] = "Stopped"
        elif job["status"] == "InProgress" and job["seen"] >= self.looks:
            if self.ends == "Completed":
                self.train(job["request"])
            job["status"] = self.ends
        job["seen"] += 1
        told = {"TrainingJobName": name, "TrainingJobStatus": job["status"], "SecondaryStatus": "Training"}
        if job["status"] == "Failed":
            told["FailureReason"] = self.reason
        output = f"{job['request']['OutputDataConfig']['S3OutputPath']}/{name}/output/model/"
        return 200, told | {"ModelArtifacts": {"S3ModelArtifacts": output}}

    def _StopTrainingJob(self, request: Request) -> tuple[int, dict[str, Any]]:
        job = self.jobs[request["TrainingJobName"]]
        if job["status"] != "InProgress":
            return 400, {"__type": "ValidationException", "message": "The job is not running."}
        job["status"] = "Stopping"
        return 200, {}

    def _DescribeEndpoint(self, request: Request) -> tuple[int, dict[str, Any]]:
        state = self.endpoint
        status = "InService"
        if state["waiting"]:
            if state["seen"] < self.looks:
                state["seen"] += 1
                status = "Updating"
            else:
                state["configuration"] = state["configuration"] if self.refuses else state["waiting"]
                state["waiting"] = ""
        told = {"EndpointName": request["EndpointName"], "EndpointConfigName": state["configuration"]}
        return 200, told | {"EndpointStatus": status} | ({"FailureReason": self.refuses} if self.refuses else {})

    def _DescribeEndpointConfig(self, request: Request) -> tuple[int, dict[str, Any]]:
        variants = [{"VariantName": "live", "ModelName": "first", "InstanceType": "ml.c7g.large"}]
        name = request["EndpointConfigName"]
        return 200, {"EndpointConfigName": name, "ProductionVariants": self.configurations.get(name, variants)}

    def _DescribeModel(self, request: Request) -> tuple[int, dict[str, Any]]:
        first = {"PrimaryContainer": {"Image": "image"}, "ExecutionRoleArn": "arn:aws:iam::000000000000:role/serving"}
        return 200, {**self.models.get(request["ModelName"], first), "ModelName": request["ModelName"]}

    def _CreateModel(self, request: Request) -> tuple[int, dict[str, Any]]:
        self.models[request["ModelName"]] = request
        return 200, {"ModelArn": f"arn:aws:sagemaker:us-east-1:0:model/{request['ModelName']}"}

    def _CreateEndpointConfig(self, request: Request) -> tuple[int, dict[str, Any]]:
        self.configurations[request["EndpointConfigName"]] = request["ProductionVariants"]
        return 200, {"EndpointConfigArn": f"arn:aws:sagemaker:us-east-1:0:config/{request['EndpointConfigName']}"}

    def _UpdateEndpoint(self, request: Request) -> tuple[int, dict[str, Any]]:
        self.endpoint |= {"waiting": request["EndpointConfigName"], "seen": 0}
        return 200, {"EndpointArn": f"arn:aws:sagemaker:us-east-1:0:endpoint/{request['EndpointName']}"}


@contextmanager
def sagemaker_stub(**given: Any) -> Iterator[SageMakerStub]:
    """Serve a `SageMakerStub` on a free port."""
    stub = SageMakerStub(**given)

    class Player(Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            status, told = stub.answer(operation, json.loads(self.body() or b"{}"))
            self.reply(status, json.dumps(told).encode(), "application/x-amz-json-1.1")

    with listening(Player) as stub.port:
        yield stub
