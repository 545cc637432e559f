"""What the template promises, asserted on what CloudFormation gets: a linter finds none of this missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.local.template import Template, read_document
from tests.deploy.conftest import NESTED, ROOT, Resources, sam_tool
from tests.deploy.design import INDEXES, RIGHTS, STREAMED, TABLES
from tests.deploy.reading import keys_of, named_by, of_type, statements


def test_sam_and_cfn_lint_find_nothing() -> None:
    assert "is a valid SAM Template" in sam_tool("sam", "validate", "--lint")
    assert sam_tool("cfn-lint", "template.yaml", *map(str, NESTED)) == ""


# --- functions and layers ---------------------------------------------------------------------------------------------


def test_function_runs_as_the_build_expects(functions: Resources, deployed: Resources) -> None:
    for name, function in functions.items():
        properties = function["Properties"]
        assert properties["Runtime"] == "python3.13", name
        assert properties["Architectures"] == [{"Ref": "Arch"}], name
        assert properties["Handler"] == "app.handler", name
        assert properties["TracingConfig"] == {"Mode": "Active"}, name
        assert properties["SnapStart"] == {"ApplyOn": "PublishedVersions"}, name
        assert deployed[f"{name}Aliaslive"]["Properties"]["Name"] == "live"


def test_function_ends_before_the_gateway_gives_up(template: Template) -> None:
    timeouts = {name: function.timeout for name, function in template.functions.items() if function.routes}
    assert timeouts == {
        "AuthFunction": 10, "DocsFunction": 10, "FusionFunction": 29, "JournalFunction": 29, "MlFunction": 29,
    }  # fmt: skip


def test_every_setting_of_a_function_publishes_a_version(template: Template) -> None:
    for name in template.functions:
        assert template.document["Resources"][name]["Properties"]["AutoPublishAliasAllProperties"] is True
    layers = {name: template.document["Resources"][name] for name in template.of_type("AWS::Serverless::LayerVersion")}
    assert set(layers) == {"SharedLayer", "ApiLayer", "MarketLayer"}
    for name, layer in layers.items():
        assert layer["Properties"]["PublishLambdaVersion"] is True, name
        assert layer["Metadata"] == {"BuildMethod": "python3.13", "BuildArchitecture": {"Ref": "Arch"}}, name


def test_logs_of_function_and_api_are_kept_for_a_time(functions: Resources, deployed: Resources) -> None:
    for name, function in functions.items():
        group = function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert group == name.replace("Function", "Logs")
        role = deployed[function["Properties"]["Role"]["Fn::GetAtt"][0]]["Properties"]
        (statement,) = [s for s in role["Policies"][0]["PolicyDocument"]["Statement"] if s.get("Sid") == "Logs"]
        assert statement["Resource"] == {"Fn::GetAtt": [group, "Arn"]}
    for name, group in of_type(deployed, "AWS::Logs::LogGroup").items():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}, name


# --- alarms and roll-out ----------------------------------------------------------------------------------------------


def test_function_has_alarms_on_errors_throttles_and_slowness(functions: Resources, deployed: Resources) -> None:
    for name in functions:
        stack = deployed[name.replace("Function", "Alarms")]["Properties"]
        assert stack["TemplateURL"] == "infra/alarms.yaml"
        assert stack["Parameters"]["FunctionName"] == {"Ref": name}
    alarms = of_type(read_document(ROOT / "infra" / "alarms.yaml")["Resources"], "AWS::CloudWatch::Alarm")
    watched = {a["Properties"]["MetricName"]: a["Properties"] for name, a in alarms.items() if name != "CanaryErrors"}
    assert set(watched) == {"Errors", "Throttles", "Duration"}
    assert watched["Duration"]["ExtendedStatistic"] == "p99"
    for alarm in watched.values():
        assert alarm["AlarmActions"] == [{"Ref": "Topic"}]
        assert {"Name": "Resource", "Value": {"Fn::Sub": "${FunctionName}:live"}} in alarm["Dimensions"]


def test_every_alarm_tells_somebody(everything: Resources) -> None:
    alarms = of_type(everything, "AWS::CloudWatch::Alarm")
    assert {"ApiFaultsAlarm", "endpoint.yaml:Faults", "endpoint.yaml:Slow"} < set(alarms)
    for name, alarm in alarms.items():
        assert alarm["Properties"]["AlarmActions"] in ([{"Ref": "Topic"}], [{"Ref": "AlarmTopic"}]), name


def test_without_canary_nothing_of_codedeploy_is_made(deployed: Resources) -> None:
    assert not of_type(deployed, "AWS::CodeDeploy::DeploymentGroup")


def test_with_canary_each_function_rolls_back_on_its_own_alarm(deployed_with_canary: Resources) -> None:
    groups = of_type(deployed_with_canary, "AWS::CodeDeploy::DeploymentGroup")
    alarms = {
        name: group["Properties"]["AlarmConfiguration"]["Alarms"][0]["Name"]["Fn::GetAtt"]
        for name, group in groups.items()
    }
    assert alarms == {f"{name}FunctionDeploymentGroup": [f"{name}Alarms", "Outputs.CanaryAlarm"] for name in RIGHTS}
    (shifts,) = [
        s for name, s in statements(deployed_with_canary) if (name, s.get("Sid")) == ("RolloutRole", "ShiftTraffic")
    ]
    assert sorted(named_by(each) for each in shifts["Resource"]) == sorted(f"{name}Function" for name in RIGHTS)
    for group in groups.values():
        assert group["Properties"]["ServiceRoleArn"] == {"Fn::GetAtt": ["RolloutRole", "Arn"]}
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["Properties"]["AutoRollbackConfiguration"]["Events"]


# --- state ------------------------------------------------------------------------------------------------------------


def test_tables_and_indexes_have_the_keys_of_the_design(deployed: Resources) -> None:
    tables = of_type(deployed, "AWS::DynamoDB::Table")
    assert {name: keys_of(table["Properties"]) for name, table in tables.items()} == TABLES
    indexes = {
        (name, index["IndexName"]): keys_of(index)
        for name, table in tables.items()
        for index in table["Properties"].get("GlobalSecondaryIndexes", [])
    }
    assert indexes == INDEXES
    assert {name for name, table in tables.items() if "StreamSpecification" in table["Properties"]} == STREAMED


@pytest.mark.parametrize("name", TABLES)
def test_table_is_on_demand_encrypted_restorable_and_kept(deployed: Resources, name: str) -> None:
    table = deployed[name]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    properties = table["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS"}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["DeletionProtectionEnabled"] is True
    # a journal entry's expires_at is when its forecast ends: the entry stays
    attribute = "purge_at" if name == "JournalTable" else "expires_at"
    assert properties["TimeToLiveSpecification"] == {"AttributeName": attribute, "Enabled": True}


def test_bucket_is_private_versioned_encrypted_and_cleaned(deployed: Resources) -> None:
    bucket = deployed["ArtifactsBucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    properties = bucket["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    (encryption,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms"}
    assert {rule["Id"] for rule in properties["LifecycleConfiguration"]["Rules"]} == {
        "superseded-versions", "unfinished-uploads", "candle-cache", "exports", "trainings",
    }  # fmt: skip


def test_bucket_refuses_plain_http_and_old_tls(deployed: Resources) -> None:
    refused = {s["Sid"]: s for name, s in statements(deployed) if name == "ArtifactsBucketPolicy"}
    assert refused["TlsOnly"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert refused["NoOldTls"]["Condition"] == {"NumericLessThan": {"s3:TlsVersion": "1.2"}}
    for statement in refused.values():
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert len(statement["Resource"]) == 2


def test_secret_has_no_value_in_the_template(deployed: Resources) -> None:
    secrets = of_type(deployed, "AWS::SecretsManager::Secret")
    assert set(secrets) == {"SigningKeys", "DerivationSecret"}
    for secret in secrets.values():
        assert "SecretString" not in secret["Properties"]
        assert (secret["DeletionPolicy"], secret["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert "GenerateSecretString" not in secrets["SigningKeys"]["Properties"]
    generated = secrets["DerivationSecret"]["Properties"]["GenerateSecretString"]
    # 62 signs, each with six bits but for a little: more than a key of 256 bits
    assert generated == {"PasswordLength": 64, "ExcludePunctuation": True}


def test_variable_of_a_function_is_a_reference_and_never_a_literal(functions: Resources) -> None:
    for function in functions.values():
        for name, value in function["Properties"]["Environment"]["Variables"].items():
            assert isinstance(value, dict) or name == "POWERTOOLS_SERVICE_NAME", name


@pytest.mark.parametrize("path", [ROOT / "template.yaml", ROOT / "samconfig.toml", *NESTED], ids=lambda path: path.name)
def test_nothing_that_looks_like_a_secret_is_written_down(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|\"kty\"|(?i:(password|passwd|api_?key)\s*[:=]\s*[^\s!{])", text)
    assert not re.search(r"(?=[A-Za-z+/]*[0-9])[A-Za-z0-9+/]{40,}", text)


# --- HTTP -------------------------------------------------------------------------------------------------------------


def test_cors_knows_only_named_origins(template: Template) -> None:
    assert template.cors["AllowOrigins"] == ["http://localhost:5173"]
    declared = template.document["Parameters"]["AllowedOrigins"]
    assert re.fullmatch(declared["AllowedPattern"], "https://app.example.com")
    for origin in ("*", "https://*.example.com", "null", "https://a.example.com/"):
        assert not re.fullmatch(declared["AllowedPattern"], origin), origin
    assert "*" not in template.cors["AllowMethods"] + template.cors["AllowHeaders"]


def test_routes_are_throttled_and_the_sign_in_more_so(deployed: Resources) -> None:
    stage = deployed["ApiApiGatewayDefaultStage"]["Properties"]
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottleRate"}, "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
    }  # fmt: skip
    login = {
        "ThrottlingRateLimit": {"Ref": "LoginThrottleRate"}, "ThrottlingBurstLimit": {"Ref": "LoginThrottleBurst"},
    }  # fmt: skip
    assert stage["RouteSettings"] == {"POST /api/v1/auth/login": login, "ANY /api/v1/auth/{proxy+}": login}


def test_access_is_logged_with_what_a_search_needs(deployed: Resources) -> None:
    settings = deployed["ApiApiGatewayDefaultStage"]["Properties"]["AccessLogSettings"]
    assert settings["DestinationArn"] == {"Fn::GetAtt": ["ApiLogs", "Arn"]}
    for field in ("requestId", "routeKey", "status", "identity.sourceIp", "responseLatency"):
        assert f"$context.{field}" in settings["Format"]


def test_unknown_routes_reach_the_docs_function(deployed: Resources) -> None:
    default = deployed["Api"]["Properties"]["Body"]["paths"]["/$default"]["x-amazon-apigateway-any-method"]
    assert default["isDefaultRoute"] is True
    assert "${DocsFunctionAliaslive}" in default["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
