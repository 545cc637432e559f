"""What must agree: routes with the functions, nested stacks with their parameters, stages with the template."""

from __future__ import annotations

import importlib
import os
import re
import tomllib
from typing import Any

import pytest

from fusiontrade.settings import Settings
from infra.local.http_events import match
from infra.local.template import HttpRoute, Template, read_document
from tests.deploy.conftest import ROOT

PAGES = {("GET", "/docs"), ("GET", "/redoc")}  # for people: not part of the document
VERBS = ("get", "put", "post", "delete", "patch")
STAGES = ("dev", "staging", "prod")


def operations(function: str) -> set[tuple[str, str]]:
    """Every method and path that the function's code answers."""
    os.environ.setdefault("STAGE", "local")
    application = importlib.import_module(f"functions.{function}.app").app
    paths = application.openapi()["paths"]
    found = {(verb.upper(), path) for path, methods in paths.items() for verb in methods if verb in VERBS}
    return found | (PAGES if function == "docs" else set())


@pytest.fixture(scope="module")
def routes(template: Template) -> list[HttpRoute]:
    return [route for function in template.functions.values() for route in function.routes]


def test_each_folder_of_functions_is_in_the_template(template: Template) -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert {function.title for function in template.functions.values()} == folders


@pytest.mark.parametrize("title", ["auth", "fusion", "journal", "ml", "docs"])
@pytest.mark.parametrize("ending", ["", "/"], ids=["plain", "trailing-slash"])
def test_what_the_code_answers_is_routed_to_it(
    template: Template, routes: list[HttpRoute], title: str, ending: str
) -> None:
    answered = operations(title)
    assert answered
    for method, path in answered:
        found = match(routes, method, re.sub(r"\{\w+\}", "EURUSD=X", path) + ending)
        assert found is not None
        assert template.functions[found.route.function].title == title, (method, path + ending)


def test_what_the_template_routes_is_answered_by_the_code(template: Template) -> None:
    unanswered = []
    for function in template.functions.values():
        answered = operations(function.title) if function.routes else set()
        everything_of = {("ANY", path) for _, path in answered}
        for route in function.routes:
            catches_the_rest = route.path == "$default" or route.path.endswith("/{proxy+}")
            if not catches_the_rest and (route.method, route.path.rstrip("/")) not in answered | everything_of:
                unanswered.append(route.key)
    assert unanswered == []


def test_variable_that_the_template_gives_is_a_setting_of_the_product(template: Template) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for function in template.functions.values():
        given = {name for name in function.environment if not name.startswith("POWERTOOLS_")}
        assert given <= known, function.title
        settings = Settings.from_environment(function.environment)
        assert settings.stage == "dev"
        assert settings.market_data == "yahoo"


@pytest.mark.parametrize("name", ["AuthAlarms", "FusionAlarms", "DocsAlarms", "Endpoint"])
def test_nested_stack_gets_every_parameter_it_needs_and_no_other(template: Template, name: str) -> None:
    stack = template.document["Resources"][name]["Properties"]
    declared = read_document(ROOT / stack["TemplateURL"])["Parameters"]
    assert set(stack["Parameters"]) <= set(declared)
    assert {p for p, about in declared.items() if "Default" not in about} <= set(stack["Parameters"])


def test_endpoint_knows_every_instance_type_that_may_be_chosen(template: Template) -> None:
    allowed = template.document["Parameters"]["EndpointInstanceType"]["AllowedValues"]
    kinds = read_document(ROOT / "infra" / "endpoint.yaml")["Mappings"]["Instances"]
    assert list(kinds) == allowed
    assert {kind for name, about in kinds.items() for kind in about.values() if ".g" in name} == {"cuda"}
    assert {kind for name, about in kinds.items() for kind in about.values() if ".c" in name} == {"cpu"}


ENDPOINT = {
    "Name": "models", "Image": "serving:1.0.0-cpu", "InstanceType": "ml.c7g.large", "MinCount": "1", "MaxCount": "4",
    "Invocations": "600", "Bucket": "artifacts", "BundlePrefix": "", "LogLevel": "INFO", "LogRetentionDays": "30",
    "Topic": "arn:topic",
}  # fmt: skip


def endpoint_of(**changes: str) -> Template:
    return Template(ROOT / "infra" / "endpoint.yaml", {**ENDPOINT, **changes})


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("serving:1.0.0-cpu", "serving"),
        ("team/serving:latest", "team/serving"),
        ("serving@sha256:" + "0" * 64, "serving"),
    ],
)
def test_endpoint_may_pull_from_the_repository_of_its_image_alone(image: str, repository: str) -> None:
    role = endpoint_of(Image=image).document["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"]
    pull = next(s for s in role["Statement"] if s.get("Sid") == "Image")
    resource = endpoint_of(Image=image).resolve(pull["Resource"])
    assert resource == f"arn:aws:ecr:us-east-1:000000000000:repository/{repository}"


@pytest.mark.parametrize(
    ("parameter", "accepted", "refused"),
    [
        ("EndpointName", ["fusiontrade", "models-2"], ["FusionTrade", "-models", "models_2", ""]),
        (
            "BundlePrefix",
            ["", "releases/7/", "my-bundles/"],
            ["bundles/", "bundles/lstm-1h/", "releases/7", "/releases/"],
        ),
    ],
)
def test_endpoint_parameter_that_could_only_fail_later_is_refused_at_once(
    template: Template, parameter: str, accepted: list[str], refused: list[str]
) -> None:
    pattern = template.document["Parameters"][parameter]["AllowedPattern"]
    assert [text for text in accepted + refused if re.fullmatch(pattern, text)] == accepted


def container_of(template: Template) -> dict[str, Any]:
    container = template.document["Resources"]["Model"]["Properties"]["PrimaryContainer"]
    resolved: dict[str, Any] = template.resolve(container)
    return resolved


def test_endpoint_without_bundles_of_its_own_serves_those_of_the_image() -> None:
    container = container_of(endpoint_of())
    assert "ModelDataSource" not in container
    assert container["Environment"] == {"SERVING_LOG_LEVEL": "INFO", "SERVING_DEVICE": "cpu"}
    assert container["Image"] == "000000000000.dkr.ecr.us-east-1.amazonaws.com/serving:1.0.0-cpu"


def test_endpoint_with_a_bundle_prefix_reads_it_from_the_bucket_on_the_chosen_device() -> None:
    container = container_of(endpoint_of(BundlePrefix="releases/7/", InstanceType="ml.g5.xlarge"))
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == "s3://artifacts/releases/7/"
    assert container["Environment"]["SERVING_BUNDLES"] == "/opt/ml/model"
    assert container["Environment"]["SERVING_DEVICE"] == "cuda"


def test_endpoint_is_isolated_scaled_on_invocations_and_rolled_back() -> None:
    resources = read_document(ROOT / "infra" / "endpoint.yaml")["Resources"]
    assert resources["Model"]["Properties"]["EnableNetworkIsolation"] is True
    scaling = resources["ScalingPolicy"]["Properties"]["TargetTrackingScalingPolicyConfiguration"]
    metric = scaling["PredefinedMetricSpecification"]["PredefinedMetricType"]
    assert metric == "SageMakerVariantInvocationsPerInstance"
    rollback = resources["Endpoint"]["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]
    assert rollback == {"Alarms": [{"AlarmName": {"Ref": "Faults"}}]}


def test_stage_without_an_image_has_no_endpoint(template: Template) -> None:
    assert "Endpoint" not in template.resources
    with_image = Template(ROOT / "template.yaml", {"EndpointImage": "serving:1.0.0-cpu"})
    assert "Endpoint" in with_image.resources


@pytest.mark.parametrize("stage", STAGES)
def test_stage_chooses_only_what_the_template_allows(template: Template, stage: str) -> None:
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))[stage]["deploy"]["parameters"]
    chosen = dict(text.split("=", 1) for text in deploy["parameter_overrides"])
    assert deploy["capabilities"] == "CAPABILITY_IAM"
    assert chosen["Stage"] == stage
    assert deploy["stack_name"].endswith(stage)
    assert chosen["EndpointName"].endswith(stage)
    for name, value in chosen.items():
        declared = template.document["Parameters"][name]
        allowed = [str(one) for one in declared.get("AllowedValues", [value])]
        assert value in allowed, name
        assert re.fullmatch(declared.get("AllowedPattern", ".*"), value), name
        if declared["Type"] == "Number":
            assert float(declared.get("MinValue", 0)) <= float(value) <= float(declared.get("MaxValue", 1e9)), name


@pytest.mark.parametrize("stage", ["staging", "prod"])
def test_stage_that_people_use_is_rolled_out_slowly_and_asks_first(stage: str) -> None:
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))[stage]["deploy"]["parameters"]
    chosen = dict(text.split("=", 1) for text in deploy["parameter_overrides"])
    assert chosen["Canary"] == "true"
    assert deploy["confirm_changeset"] is True
    assert chosen["AllowedOrigins"].startswith("https://")
    assert chosen["SiteOrigin"] in chosen["AllowedOrigins"].split(",")
