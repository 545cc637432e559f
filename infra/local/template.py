"""The stack as `template.yaml` describes it, resolved to names of this machine.

Always true here: what is not in the template does not exist locally; a reference that cannot be resolved raises
`TemplateError` and names itself, it never becomes an empty string. Only what is asked for is resolved, so the parts
of the template that a laptop has no use for (alarms, roles, layer builds) need not be understood.

Names are deterministic (``{stack}-{logical id}``), so every process of the stack finds the same resources without
asking another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

try:  # libyaml reads the template in a tenth of the time
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

__all__ = ["ACCOUNT", "REGION", "Function", "HttpRoute", "Template", "TemplateError", "read_document"]

ACCOUNT = "000000000000"
REGION = "us-east-1"

FUNCTION = "AWS::Serverless::Function"
HTTP_API = "AWS::Serverless::HttpApi"
LAYER = "AWS::Serverless::LayerVersion"
QUEUE = "AWS::SQS::Queue"
NESTED = ("AWS::Serverless::Application", "AWS::CloudFormation::Stack")
GATEWAY_MILLISECONDS = 30_000
_NO_VALUE = object()


class TemplateError(Exception):
    """The template says something that cannot be resolved or is wrong; the message names the place."""


class _Loader(SafeLoader):
    """YAML with CloudFormation's short forms (``!Ref x`` becomes ``{"Ref": "x"}``)."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        raise TemplateError(f"!{suffix} stands before neither a text, a list nor a mapping")
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def read_document(path: Path) -> dict[str, Any]:
    """Return a template as it is written, with every short form made long."""
    # _Loader extends a safe loader: it builds plain values only
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    return document


@dataclass(frozen=True)
class HttpRoute:
    """One route of the HTTP API: ``method`` is a verb or ANY, ``path`` a template path or ``$default``."""

    method: str
    path: str
    function: str
    timeout_ms: int = GATEWAY_MILLISECONDS

    @property
    def key(self) -> str:
        """The route key as API Gateway writes it: ``GET /health``, ``$default``."""
        return self.path if self.path == "$default" else f"{self.method} {self.path}"


@dataclass(frozen=True)
class Function:
    """One function: where its code lies and what the cloud would run it with (``timeout`` s, ``memory`` MiB)."""

    logical_id: str
    name: str
    code: Path
    handler: str
    timeout: int
    memory: int
    environment: Mapping[str, str]
    layers: tuple[str, ...] = ()
    routes: tuple[HttpRoute, ...] = ()
    other_events: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=())

    @property
    def title(self) -> str:
        """Short name for people: the code folder's."""
        return self.code.name


class Template:
    """A SAM template and the values its parameters have here.

    Parameters
    ----------
    path : Path
        The template file; relative folders in it start from its folder.
    parameters : mapping, optional
        Values instead of the parameters' defaults, text as CloudFormation would get it.
    stack : str
        Name of the stack; the first part of every local name.
    """

    def __init__(self, path: Path, parameters: Mapping[str, str] | None = None, *, stack: str = "fusiontrade") -> None:
        self.path, self.stack = path, stack
        self.document = read_document(path)
        declared = self.document.get("Parameters", {})
        unknown = set(parameters or {}) - set(declared)
        if unknown:
            raise TemplateError(f"{path.name} has no parameter {', '.join(sorted(unknown))}")
        self.parameters = {name: self._parameter(name, declared[name], parameters or {}) for name in declared}

    @staticmethod
    def _parameter(name: str, declared: Mapping[str, Any], given: Mapping[str, str]) -> Any:
        value = given.get(name, declared.get("Default"))
        if value is None:
            raise TemplateError(f"parameter {name} has no default and was not given")
        if declared.get("Type") == "CommaDelimitedList" or str(declared.get("Type")).startswith("List<"):
            return [part.strip() for part in str(value).split(",") if part.strip()]
        return str(value)

    @cached_property
    def resources(self) -> dict[str, dict[str, Any]]:
        """Every resource whose condition holds, by logical id."""
        declared: dict[str, dict[str, Any]] = self.document.get("Resources", {})
        return {name: r for name, r in declared.items() if "Condition" not in r or self.condition(r["Condition"])}

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the resources of one type, e.g. ``AWS::DynamoDB::Table``."""
        return {name: resource for name, resource in self.resources.items() if resource["Type"] == kind}

    def properties(self, logical_id: str) -> dict[str, Any]:
        """Return a resource's properties with every reference resolved."""
        properties = self.resources[logical_id].get("Properties", {})
        resolved: dict[str, Any] = self.resolve(properties, logical_id)
        return resolved

    def condition(self, name: str) -> bool:
        """Tell whether the named condition holds."""
        try:
            return bool(self.resolve(self.document["Conditions"][name], f"condition {name}"))
        except KeyError:
            raise TemplateError(f"no condition is called {name}") from None

    def physical_name(self, logical_id: str) -> str:
        """Return the name a resource has on this machine."""
        resource = self.resources[logical_id]
        given = resource.get("Properties", {}).get(_NAME_PROPERTY.get(resource["Type"], ""))
        name = str(self.resolve(given, logical_id)) if given is not None else f"{self.stack}-{logical_id}"
        return name.lower() if resource["Type"] == "AWS::S3::Bucket" else name

    @cached_property
    def functions(self) -> dict[str, Function]:
        """Every function, by logical id."""
        return {name: self._function(name) for name in self.of_type(FUNCTION)}

    @cached_property
    def cors(self) -> dict[str, Any]:
        """The HTTP API's CORS configuration, empty where there is none."""
        for name in self.of_type(HTTP_API):
            configured: dict[str, Any] = self.properties(name).get("CorsConfiguration", {})
            return configured
        return {}

    def output(self, name: str) -> Any:
        """Return the value of an output of this template."""
        try:
            return self.resolve(self.document["Outputs"][name]["Value"], f"output {name}")
        except KeyError:
            raise TemplateError(f"{self.path.name} has no output {name}") from None

    def _function(self, logical_id: str) -> Function:
        shared = self.document.get("Globals", {}).get("Function", {})
        own = self.resources[logical_id].get("Properties", {})

        def setting(name: str, otherwise: Any = None) -> Any:
            value = own.get(name, shared.get(name, otherwise))
            return self.resolve(value, f"{logical_id}.{name}")

        variables = {
            **shared.get("Environment", {}).get("Variables", {}),
            **own.get("Environment", {}).get("Variables", {}),
        }
        layers = [*shared.get("Layers", []), *own.get("Layers", [])]
        events = own.get("Events", {})
        http = [e for e in events.values() if e["Type"] == "HttpApi"]
        others = {name: event for name, event in events.items() if event["Type"] != "HttpApi"}
        return Function(
            logical_id=logical_id,
            name=self.physical_name(logical_id),
            code=(self.path.parent / setting("CodeUri")).resolve(),
            handler=setting("Handler"),
            timeout=int(setting("Timeout", 3)),
            memory=int(setting("MemorySize", 128)),
            environment={k: str(v) for k, v in self.resolve(variables, f"{logical_id} variables").items()},
            layers=tuple(layer["Ref"] for layer in layers if isinstance(layer, dict) and "Ref" in layer),
            routes=tuple(self._route(logical_id, event.get("Properties", {})) for event in http),
            other_events=tuple((name, event) for name, event in others.items()),
        )

    def _route(self, logical_id: str, event: Mapping[str, Any]) -> HttpRoute:
        path = str(self.resolve(event.get("Path", "$default"), f"{logical_id} event"))
        method = str(self.resolve(event.get("Method", "ANY"), f"{logical_id} event")).upper()
        timeout = int(self.resolve(event.get("TimeoutInMillis", GATEWAY_MILLISECONDS), f"{logical_id} event"))
        return HttpRoute(
            "ANY" if method in ("X-AMAZON-APIGATEWAY-ANY-METHOD", "*") else method, path, logical_id, timeout
        )

    # --- intrinsic functions --------------------------------------------------------------------------------------

    def resolve(self, value: Any, where: str = "template") -> Any:
        """Return ``value`` with every intrinsic function in it replaced by what it stands for.

        Raises
        ------
        TemplateError
            If something in it refers to nothing, or uses a function that is not known here.
        """
        if isinstance(value, list):
            items = [self.resolve(item, where) for item in value]
            return [item for item in items if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and (name := next(iter(value))) in _INTRINSICS:
            return _INTRINSICS[name](self, value[name], where)
        if len(value) == 1 and next(iter(value)).startswith("Fn::"):
            raise TemplateError(f"{where}: {next(iter(value))} is not known to the laptop stack")
        resolved = {key: self.resolve(item, f"{where}.{key}") for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not _NO_VALUE}

    def _ref(self, name: str, where: str) -> Any:
        if name in self.parameters:
            return self.parameters[name]
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name.startswith("AWS::"):
            return self._pseudo(name, where)
        logical_id = name.removesuffix(".Alias").removesuffix(".Version")
        if logical_id not in self.resources:
            raise TemplateError(f"{where}: nothing is called {name}")
        kind = self.resources[logical_id]["Type"]
        if kind in _REF_IS_ARN:
            return self._attribute([logical_id, "Arn"], where)
        if kind == QUEUE:
            return self._attribute([logical_id, "QueueUrl"], where)
        return self.physical_name(logical_id)

    def _pseudo(self, name: str, where: str) -> str:
        known = {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": self.stack,
            "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{self.stack}/local",
        }
        if name not in known:
            raise TemplateError(f"{where}: {name} is not known to the laptop stack")
        return known[name]

    def _attribute(self, parts: list[str], where: str) -> Any:
        logical_id, attribute = parts[0], ".".join(str(p) for p in parts[1:])
        if logical_id not in self.resources:
            raise TemplateError(f"{where}: nothing is called {logical_id}")
        kind = self.resources[logical_id]["Type"]
        if kind in NESTED and attribute.startswith("Outputs."):
            return self._nested(logical_id).output(attribute.removeprefix("Outputs."))
        if attribute == "Arn" and kind in _ARNS:
            return _ARNS[kind].format(region=REGION, account=ACCOUNT, name=self.physical_name(logical_id))
        if attribute == "StreamArn" and kind == "AWS::DynamoDB::Table":
            return f"{self._attribute([logical_id, 'Arn'], where)}/stream/latest"
        if kind == QUEUE and attribute == "QueueName":
            return self.physical_name(logical_id)
        if kind == QUEUE and attribute == "QueueUrl":
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{self.physical_name(logical_id)}"
        raise TemplateError(f"{where}: {logical_id}.{attribute} is not known to the laptop stack")

    def _nested(self, logical_id: str) -> Template:
        raw = self.resources[logical_id]["Properties"]
        location = self.path.parent / str(raw.get("Location") or raw["TemplateURL"])
        given = self.resolve(raw.get("Parameters", {}), logical_id)
        texts = {name: ",".join(v) if isinstance(v, list) else str(v) for name, v in given.items()}
        return Template(location, texts, stack=f"{self.stack}-{logical_id}")

    def _sub(self, value: Any, where: str) -> str:
        text, own = (value[0], self.resolve(value[1], where)) if isinstance(value, list) else (value, {})

        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in own:
                return str(own[name])
            found = self._attribute(name.split("."), where) if "." in name else self._ref(name, where)
            return ",".join(found) if isinstance(found, list) else str(found)

        return re.sub(r"\$\{([^}]+)\}", replace, text)

    def _find_in_map(self, value: list[Any], where: str) -> Any:
        table, row, column = (self.resolve(part, where) for part in value)
        try:
            return self.resolve(self.document["Mappings"][table][row][column], where)
        except KeyError:
            raise TemplateError(f"{where}: the mapping has no {table}.{row}.{column}") from None

    def _select(self, value: list[Any], where: str) -> Any:
        index, items = int(self.resolve(value[0], where)), self.resolve(value[1], where)
        if not 0 <= index < len(items):
            raise TemplateError(f"{where}: Select takes item {index} of {len(items)}")
        return items[index]

    def _if(self, value: list[Any], where: str) -> Any:
        return self.resolve(value[1] if self.condition(value[0]) else value[2], where)

    def _equals(self, value: list[Any], where: str) -> bool:
        left, right = (self.resolve(side, where) for side in value)
        return str(left) == str(right)


_NAME_PROPERTY = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SecretsManager::Secret": "Name",
    QUEUE: "QueueName",
    "AWS::Logs::LogGroup": "LogGroupName",
    FUNCTION: "FunctionName",
}
_REF_IS_ARN = {"AWS::SecretsManager::Secret", "AWS::SNS::Topic"}
_ARNS = {
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:{region}:{account}:table/{name}",
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::SecretsManager::Secret": "arn:aws:secretsmanager:{region}:{account}:secret:{name}",
    QUEUE: "arn:aws:sqs:{region}:{account}:{name}",
    # a key's own id is drawn when it is made; an alias is as good wherever a key is used, and known beforehand
    "AWS::KMS::Key": "arn:aws:kms:{region}:{account}:alias/{name}",
    "AWS::SNS::Topic": "arn:aws:sns:{region}:{account}:{name}",
    "AWS::Logs::LogGroup": "arn:aws:logs:{region}:{account}:log-group:{name}",
    FUNCTION: "arn:aws:lambda:{region}:{account}:function:{name}",
}
_INTRINSICS: dict[str, Callable[[Template, Any, str], Any]] = {
    "Ref": Template._ref,
    "Condition": lambda t, value, _where: t.condition(value),
    "Fn::GetAtt": lambda t, v, where: t._attribute(v.split(".", 1) if isinstance(v, str) else v, where),
    "Fn::Sub": Template._sub,
    "Fn::Join": lambda t, v, where: str(v[0]).join(str(part) for part in t.resolve(v[1], where)),
    "Fn::Split": lambda t, v, where: str(t.resolve(v[1], where)).split(str(v[0])),
    "Fn::Select": Template._select,
    "Fn::If": Template._if,
    "Fn::FindInMap": Template._find_in_map,
    "Fn::Equals": Template._equals,
    "Fn::Not": lambda t, v, where: not t.resolve(v[0], where),
    "Fn::And": lambda t, v, where: all(t.resolve(part, where) for part in v),
    "Fn::Or": lambda t, v, where: any(t.resolve(part, where) for part in v),
}
