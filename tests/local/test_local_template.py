"""The template as the laptop stack reads it: every reference resolved or refused, nothing guessed."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from infra.local.template import HttpRoute, Template, TemplateError

ROOT = Path(__file__).resolve().parents[2]


def template_of(folder: Path, text: str, **parameters: str) -> Template:
    path = folder / "template.yaml"
    path.write_text(dedent(text))
    return Template(path, parameters, stack="stack")


def value_of(folder: Path, expression: str, **parameters: str) -> object:
    text = f"""
    Parameters:
      Stage: {{Type: String, Default: dev}}
      Origins: {{Type: CommaDelimitedList, Default: "http://a, http://b"}}
    Mappings: {{Sizes: {{dev: {{memory: 256}}, prod: {{memory: 1024}}}}}}
    Conditions: {{IsProd: !Equals [!Ref Stage, prod], NotProd: !Not [!Condition IsProd]}}
    Resources:
      Table: {{Type: "AWS::DynamoDB::Table", Properties: {{}}}}
      Bucket: {{Type: "AWS::S3::Bucket", Properties: {{}}}}
      Secret: {{Type: "AWS::SecretsManager::Secret"}}
      Queue: {{Type: "AWS::SQS::Queue"}}
      Key: {{Type: "AWS::KMS::Key"}}
      OnlyProd: {{Type: "AWS::S3::Bucket", Condition: IsProd}}
    Outputs: {{Answer: {{Value: {expression}}}}}
    """
    return template_of(folder, text, **parameters).output("Answer")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("!Ref Stage", "dev"),
        ("!Ref Origins", ["http://a", "http://b"]),
        ("!Ref Table", "stack-Table"),
        ("!Ref Bucket", "stack-bucket"),
        ("!Ref Secret", "arn:aws:secretsmanager:us-east-1:000000000000:secret:stack-Secret"),
        ("!Ref Queue", "https://sqs.us-east-1.amazonaws.com/000000000000/stack-Queue"),
        ("!GetAtt Queue.Arn", "arn:aws:sqs:us-east-1:000000000000:stack-Queue"),
        ("!GetAtt Queue.QueueName", "stack-Queue"),
        ("!GetAtt Key.Arn", "arn:aws:kms:us-east-1:000000000000:alias/stack-Key"),
        ("!GetAtt Table.Arn", "arn:aws:dynamodb:us-east-1:000000000000:table/stack-Table"),
        ("{'Fn::GetAtt': [Bucket, Arn]}", "arn:aws:s3:::stack-bucket"),
        ("!Sub '${Bucket.Arn}/candles/*'", "arn:aws:s3:::stack-bucket/candles/*"),
        ("!Sub ['${Name}-${AWS::Region}-${!Literal}', {Name: !Ref Stage}]", "dev-us-east-1-${Literal}"),
        ("!Join ['-', [a, !Ref Stage]]", "a-dev"),
        ("!Join [',', !Ref Origins]", "http://a,http://b"),
        ("!Select [1, !Ref Origins]", "http://b"),
        ("!Split ['-', a-b]", ["a", "b"]),
        ("!FindInMap [Sizes, !Ref Stage, memory]", 256),
        ("!If [IsProd, 1, 2]", 2),
        ("!If [NotProd, 1, 2]", 1),
        ("!Or [!Equals [a, b], !Equals [a, a]]", True),
        ("!And [!Equals [a, b], !Equals [a, a]]", False),
        ("[a, !If [IsProd, b, !Ref 'AWS::NoValue']]", ["a"]),
        ("{a: 1, b: !Ref 'AWS::NoValue'}", {"a": 1}),
    ],
)
def test_intrinsic_function_resolves_to_its_local_value(tmp_path: Path, expression: str, expected: object) -> None:
    assert value_of(tmp_path, expression) == expected


def test_parameter_given_by_the_caller_wins_over_its_default(tmp_path: Path) -> None:
    assert value_of(tmp_path, "!FindInMap [Sizes, !Ref Stage, memory]", Stage="prod") == 1024


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("!Ref Nothing", "Nothing"),
        ("!Ref OnlyProd", "OnlyProd"),
        ("!GetAtt Table.Colour", "Table.Colour"),
        ("!Sub '${Missing.Arn}'", "Missing"),
        ("!FindInMap [Sizes, test, memory]", "Sizes.test.memory"),
        ("!Select [2, !Ref Origins]", "item 2 of 2"),
        ("!ImportValue other", "Fn::ImportValue"),
        ("!If [Unheard, 1, 2]", "Unheard"),
    ],
)
def test_reference_to_nothing_is_refused_by_name(tmp_path: Path, expression: str, named: str) -> None:
    with pytest.raises(TemplateError, match=named):
        value_of(tmp_path, expression)


def test_parameter_without_default_or_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="Needed"):
        template_of(tmp_path, "Parameters: {Needed: {Type: String}}")


def test_parameter_the_template_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="Invented"):
        template_of(tmp_path, "Parameters: {}", Invented="1")


FUNCTION = """
    Globals:
      Function:
        Handler: app.handler
        Timeout: 7
        Environment: {Variables: {SHARED: globally, WHO: nobody}}
    Resources:
      Layer: {Type: "AWS::Serverless::LayerVersion", Properties: {ContentUri: shared}}
      Work:
        Type: AWS::Serverless::Function
        Properties:
          CodeUri: functions/work
          MemorySize: 512
          Layers: [!Ref Layer]
          Environment: {Variables: {WHO: !Ref Work, NOT_HERE: !Ref "AWS::NoValue"}}
          Events:
            One: {Type: HttpApi, Properties: {Path: "/a/{id}", Method: get, TimeoutInMillis: 5000}}
            Rest: {Type: HttpApi}
            Nightly: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 day)}}
"""


def test_function_takes_globals_and_its_own_settings(tmp_path: Path) -> None:
    function = template_of(tmp_path, FUNCTION).functions["Work"]
    assert (function.name, function.timeout, function.memory) == ("stack-Work", 7, 512)
    assert function.code == (tmp_path / "functions" / "work").resolve()
    assert function.environment == {"SHARED": "globally", "WHO": "stack-Work"}
    assert function.layers == ("Layer",)
    assert function.routes == (HttpRoute("GET", "/a/{id}", "Work", 5000), HttpRoute("ANY", "$default", "Work", 30_000))
    assert [name for name, _ in function.other_events] == ["Nightly"]


def test_nested_stack_output_is_resolved_with_the_parameters_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        "Parameters: {Name: {Type: String}}\nOutputs: {EndpointName: {Value: !Sub '${Name}-endpoint'}}"
    )
    outer = """
    Resources:
      Endpoint: {Type: "AWS::CloudFormation::Stack", Properties: {TemplateURL: inner.yaml, Parameters: {Name: models}}}
    Outputs: {Answer: {Value: !GetAtt Endpoint.Outputs.EndpointName}}
    """
    assert template_of(tmp_path, outer).output("Answer") == "models-endpoint"


# --- the real one -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Template:
    return Template(ROOT / "template.yaml", stack="fusiontrade-local")


def test_every_function_of_the_template_has_its_code(real: Template) -> None:
    missing = [f.title for f in real.functions.values() if not (f.code / "app.py").is_file()]
    assert real.functions
    assert missing == []


def test_every_table_of_the_template_resolves_with_keys_and_time_to_live(real: Template) -> None:
    tables = {name: real.properties(name) for name in real.of_type("AWS::DynamoDB::Table")}
    assert set(tables) == {
        "AccountsTable", "JournalTable", "ModelsTable", "SignalsTable", "CacheTable", "ConnectionsTable",
    }  # fmt: skip
    for properties in tables.values():
        declared = {attribute["AttributeName"] for attribute in properties["AttributeDefinitions"]}
        indexes = properties.get("GlobalSecondaryIndexes", [])
        keys = {key["AttributeName"] for thing in [properties, *indexes] for key in thing["KeySchema"]}
        assert declared == keys
        assert properties["TimeToLiveSpecification"]["Enabled"] is True


def test_forecasts_find_the_table_where_calibration_states_are_kept(real: Template) -> None:
    assert real.functions["FusionFunction"].environment["MODELS_TABLE"] == real.physical_name("ModelsTable")


def test_unknown_routes_of_the_template_reach_one_function(real: Template) -> None:
    defaults = [r.function for f in real.functions.values() for r in f.routes if r.path == "$default"]
    assert defaults == ["DocsFunction"]
