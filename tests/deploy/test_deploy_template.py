"""What the template promises, asserted on what CloudFormation gets: a linter finds none of this missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.expressions import parse
from infra.local.template import Template, read_document
from tests.deploy.conftest import ROOT, Resources, sam_tool

NESTED = sorted((ROOT / "infra").glob("*.yaml"))

WITHOUT_RESOURCE_RIGHTS = {
    ("TracingPolicy", "Tracing"): "X-Ray knows no resources for putting segments",
    ("RolloutRole", "WatchAlarms"): "CloudWatch lists alarms, it does not name them",
    ("AlarmKey", "Account"): "a key's policy speaks of the key alone; without the account nobody may change it",
    ("AlarmKey", "Publishers"): "a key's policy speaks of the key alone",
    ("AccountsKey", "Account"): "a key's policy speaks of the key alone; without the account nobody may change it",
    ("endpoint.yaml:Role", "RegistryLogin"): "a registry login is for the account",
    ("endpoint.yaml:Role", "Metrics"): "CloudWatch takes metrics by namespace, which the condition names",
}
BELOW_ONE_RESOURCE = {
    ("FusionRole", "CandleArchive"): "objects under the prefix candles/ of one bucket",
    ("ForecastWorkerRole", "CandleArchive"): "objects under the prefix candles/ of one bucket",
    ("endpoint.yaml:Role", "Bundles"): "objects under the prefix of the bundles of one bucket",
}

TABLES = {
    "AccountsTable": ["pk", "sk"],
    "JournalTable": ["owner", "id"],
    "ModelsTable": ["pk", "sk"],
    "SignalsTable": ["pk", "sk"],
    "CacheTable": ["key"],
    "ConnectionsTable": ["channel", "connection"],
}
INDEXES = {
    ("JournalTable", "by_symbol"): ["owner_symbol", "id"],
    ("JournalTable", "pending"): ["pending_shard", "due_at"],
    ("SignalsTable", "by_symbol"): ["symbol", "sk"],
    ("ConnectionsTable", "by_connection"): ["connection", "channel"],
}
CALL_THE_GATE = {"Gate": ("AccountsTable", "UpdateItem"), "SigningKeys": ("SigningKeys", "GetSecretValue")}
DERIVE = {"DerivationSecret": ("DerivationSecret", "GetSecretValue")}
ONCE = {"Once": ("AccountsTable", "DeleteItem GetItem PutItem UpdateItem")}
READ_CANDLES = {
    "CandleArchive": ("ArtifactsBucket/candles/*", "GetObject PutObject"),
    "CandleArchiveMisses": ("ArtifactsBucket", "ListBucket"),
}
ASK_MODELS = {
    "CalibrationStates": ("ModelsTable", "GetItem PutItem"),
    "Models": ("endpoint/${EndpointName}", "InvokeEndpoint"),
}
READ = "DeleteMessage GetQueueAttributes ReceiveMessage"
RIGHTS: dict[str, dict[str, tuple[str, str]]] = {
    "Auth": {
        "Accounts": ("AccountsTable", "ConditionCheckItem DeleteItem GetItem PutItem Query UpdateItem"),
        "SigningKeys": ("SigningKeys", "GetSecretValue"),
        "AskForMails": ("MailQueue", "SendMessage"),
        "SealUsersTokens": ("AccountsKey", "Encrypt"),
        **DERIVE,
    },
    "Fusion": {
        **CALL_THE_GATE, **DERIVE, **READ_CANDLES, **ASK_MODELS,
        "Journal": ("JournalTable", "PutItem UpdateItem"),
    },
    "Docs": {},
    "Mail": {
        "ReadMails": ("MailQueue", READ),
        "Send": ("identity/${MailIdentity}", "SendEmail SendRawEmail"),
        "SmtpLogin": ("SmtpSecretArn", "GetSecretValue"),
    },
    "ForecastWorker": {
        **READ_CANDLES, **ASK_MODELS,
        "ReadChunks": ("ForecastQueue", READ),
        "ReadJobs": ("JobsQueue", READ),
        "Journal": ("JournalTable", "GetItem PutItem Query UpdateItem"),
        "JournalIndexes": ("JournalTable/index/by_symbol", "Query"),
        "Runs": ("SignalsTable", "GetItem UpdateItem"),
        "Jobs": ("ModelsTable", "GetItem PutItem UpdateItem"),
    },
    "Schedule": {
        "Runs": ("SignalsTable", "PutItem UpdateItem"),
        "Subscriptions": ("ConnectionsTable", "Scan"),
        "SendChunks": ("ForecastQueue", "SendMessage"),
        "RotateKeys": ("SigningKeys", "GetSecretValue PutSecretValue UpdateSecretVersionStage"),
        "DeadLetters": ("ScheduleDeadLetters", "SendMessage"),
    },
    "Ml": {
        **CALL_THE_GATE, **DERIVE, **ONCE,
        "Jobs": ("ModelsTable", "GetItem PutItem"),
        "AskForForecasts": ("ForecastQueue", "SendMessage"),
    },
}  # fmt: skip
OWN_ITEMS = [
    ("Fusion", "Gate", "USER#*"),
    ("Fusion", "CalibrationStates", "CALIBRATION#*"),
    ("ForecastWorker", "CalibrationStates", "CALIBRATION#*"),
    ("ForecastWorker", "Runs", "RUN#*"),
    ("ForecastWorker", "Jobs", "JOB#*"),
    ("Schedule", "Runs", "RUN#*"),
    ("Ml", "Gate", "USER#*"),
    ("Ml", "Once", "ONCE#*"),
    ("Ml", "Jobs", "JOB#*"),
]
QUEUES = {
    "Forecast": ("ForecastWorkerFunction", 2),
    "Jobs": ("ForecastWorkerFunction", 1),
    "Mail": ("MailFunction", 10),
}
SCHEDULES = {
    ("ScheduleFunction", "intraday"): "cron(0 6 * * ? *)",
    ("ScheduleFunction", "subscribed"): "rate(5 minutes)",
    ("ScheduleFunction", "rotate-keys"): "cron(30 3 1 * ? *)",
}
STREAMED = {"JournalTable", "ModelsTable", "SignalsTable"}


def of_type(resources: Resources, kind: str) -> Resources:
    return {name: resource for name, resource in resources.items() if resource["Type"] == kind}


@pytest.fixture(scope="session")
def everything(deployed_with_canary: Resources) -> Resources:
    """The resources of the root and of the nested stacks; those of a nested stack are called file:name."""
    inner = {f"{path.name}:{name}": r for path in NESTED for name, r in read_document(path)["Resources"].items()}
    return {**deployed_with_canary, **inner}


@pytest.fixture(scope="session")
def functions(deployed: Resources) -> Resources:
    return of_type(deployed, "AWS::Lambda::Function")


def test_sam_and_cfn_lint_find_nothing() -> None:
    assert "is a valid SAM Template" in sam_tool("sam", "validate", "--lint")
    assert sam_tool("cfn-lint", "template.yaml", *map(str, NESTED)) == ""


# --- rights -----------------------------------------------------------------------------------------------------------


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(resources: Resources) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every policy document, with the name of the resource it stands in."""
    for name, resource in resources.items():
        for found in _policy_documents(resource.get("Properties", {})):
            for statement in as_list(found["Statement"]):
                for inner in statement["Fn::If"][1:] if "Fn::If" in statement else [statement]:
                    if "Effect" in inner:
                        yield name, inner


def _policy_documents(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "Statement" in value:
            yield value
        else:
            for inner in value.values():
                yield from _policy_documents(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _policy_documents(inner)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def test_statement_allows_every_resource_only_where_aws_knows_none(everything: Resources) -> None:
    allowed = [(name, s) for name, s in statements(everything) if s["Effect"] == "Allow" and "Resource" in s]
    assert len(allowed) >= 15
    everywhere = {(name, s["Sid"]) for name, s in allowed if "*" in as_list(s["Resource"])}
    assert everywhere == set(WITHOUT_RESOURCE_RIGHTS)
    within = {
        (name, s["Sid"]) for name, s in allowed if any("*" in text and text != "*" for text in texts(s["Resource"]))
    }
    assert within == set(BELOW_ONE_RESOURCE)


def test_statement_names_each_action_it_allows(everything: Resources) -> None:
    wild = {
        (name, s["Sid"])
        for name, s in statements(everything)
        if s["Effect"] == "Allow" and any("*" in action for action in as_list(s["Action"]))
    }
    assert wild == {("AlarmKey", "Account"), ("AccountsKey", "Account")}


def test_no_statement_is_written_as_an_exception(everything: Resources) -> None:
    for name, statement in statements(everything):
        assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement), name


def test_role_is_used_by_one_function_and_given_to_lambda_alone(functions: Resources, deployed: Resources) -> None:
    roles = {name: function["Properties"]["Role"]["Fn::GetAtt"][0] for name, function in functions.items()}
    assert roles == {f"{name}Function": f"{name}Role" for name in RIGHTS}
    for role in roles.values():
        properties = deployed[role]["Properties"]
        assert properties["ManagedPolicyArns"] == [{"Ref": "TracingPolicy"}]
        (trust,) = properties["AssumeRolePolicyDocument"]["Statement"]
        assert trust == {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Service": "lambda.amazonaws.com"},
        }


def test_nobody_brings_a_policy_that_is_managed_by_aws(everything: Resources) -> None:
    for name, role in of_type(everything, "AWS::IAM::Role").items():
        assert all("Ref" in arn for arn in role["Properties"].get("ManagedPolicyArns", [])), name


@pytest.mark.parametrize("name", RIGHTS)
def test_function_may_do_exactly_what_its_code_does(everything: Resources, name: str) -> None:
    allowed = {s["Sid"]: s for role, s in statements(everything) if role == f"{name}Role" and "Sid" in s}
    told = {
        sid: (named_by(s["Resource"]), {action.partition(":")[2] for action in as_list(s["Action"])})
        for sid, s in allowed.items()
    }
    logs = (f"{name}Logs", {"CreateLogStream", "PutLogEvents"})
    assert told == {"Logs": logs, **{sid: (on, set(may.split())) for sid, (on, may) in RIGHTS[name].items()}}


def named_by(resource: Any) -> str:
    """The resource of the template that an ARN speaks of, with what follows its ARN."""
    match resource:
        case {"Fn::GetAtt": [name, "Arn"]} | {"Ref": name}:
            return str(name)
        case {"Fn::Sub": text}:
            return str(re.sub(r"\$\{(\w+)\.Arn\}", r"\1", text).rpartition(":")[2])
    raise AssertionError(resource)


def test_function_that_shares_a_table_reaches_its_own_items_of_it(everything: Resources) -> None:
    keys = {
        (name, s["Sid"]): s["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        for name, s in statements(everything)
        if "dynamodb:LeadingKeys" in s.get("Condition", {}).get("ForAllValues:StringLike", {})
    }
    assert keys == {(f"{name}Role", sid): [prefix] for name, sid, prefix in OWN_ITEMS}
    # without such a condition: the owner of a table, and the journal, whose keys are users' ids
    whole = {
        (name.removesuffix("Role"), named_by(s["Resource"]).partition("/")[0])
        for name, s in statements(everything)
        if s["Effect"] == "Allow" and any(action.startswith("dynamodb:") for action in as_list(s["Action"]))
        if (name, s["Sid"]) not in keys
    }
    assert {(name, table) for name, table in whole if table != "JournalTable"} == {
        ("Auth", "AccountsTable"),
        ("Schedule", "ConnectionsTable"),
    }


def test_schedules_may_reach_the_scheduled_functions_and_their_dead_letters(everything: Resources) -> None:
    allowed = {s["Sid"]: s["Resource"] for name, s in statements(everything) if name == "SchedulerRole" and "Sid" in s}
    invoked = sorted({schedule_of[0] for schedule_of in SCHEDULES})
    assert allowed["DeadLetters"] == {"Fn::GetAtt": ["ScheduleDeadLetters", "Arn"]}
    assert sorted(reference["Ref"] for reference in as_list(allowed["Invoke"])) == [f"{n}Aliaslive" for n in invoked]


def test_tokens_of_users_are_sealed_for_their_purpose_alone(everything: Resources) -> None:
    (sealing,) = [s for name, s in statements(everything) if (name, s.get("Sid")) == ("AuthRole", "SealUsersTokens")]
    assert sealing["Condition"] == {"StringEquals": {"kms:EncryptionContext:purpose": "hf_token"}}
    actions = {action for name, s in statements(everything) for action in as_list(s["Action"]) if name.endswith("Role")}
    assert "kms:Decrypt" not in actions


# --- queues and schedules ---------------------------------------------------------------------------------------------


def test_queue_is_encrypted_and_gives_up_to_dead_letters_that_are_kept(deployed: Resources) -> None:
    queues = of_type(deployed, "AWS::SQS::Queue")
    assert set(queues) == {*(f"{n}Queue" for n in QUEUES), *(f"{n}DeadLetters" for n in (*QUEUES, "Schedule"))}
    for name, queue in queues.items():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True, name
        redrive = queue["Properties"].get("RedrivePolicy")
        if name.endswith("Queue"):
            dead = name.replace("Queue", "DeadLetters")
            assert redrive == {"deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]}, "maxReceiveCount": 5}
        else:
            assert redrive is None
            assert queue["Properties"]["MessageRetentionPeriod"] == 14 * 86_400
            assert (queue["DeletionPolicy"], queue["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_queue_is_watched_for_what_was_given_up_and_for_lag(deployed: Resources) -> None:
    for name in (*QUEUES, "Schedule"):
        dead = f"{name}DeadLetters"
        stack = deployed["ScheduleDeadLettersAlarms" if name == "Schedule" else f"{name}QueueAlarms"]["Properties"]
        assert stack["TemplateURL"] == "infra/queue_alarms.yaml"
        assert stack["Parameters"]["DeadLetters"] == {"Fn::GetAtt": [dead, "QueueName"]}
        queue = stack["Parameters"].get("Queue")
        assert queue == (None if name == "Schedule" else {"Fn::GetAtt": [f"{name}Queue", "QueueName"]})
    alarms = of_type(read_document(ROOT / "infra" / "queue_alarms.yaml")["Resources"], "AWS::CloudWatch::Alarm")
    watched = {name: (a["Properties"]["MetricName"], a["Properties"]["Threshold"]) for name, a in alarms.items()}
    assert watched == {
        "GivenUp": ("ApproximateNumberOfMessagesVisible", 0),
        "Waiting": ("ApproximateAgeOfOldestMessage", {"Ref": "LagSeconds"}),
    }


def test_worker_tells_which_messages_failed_and_is_given_time_to_finish(deployed: Resources) -> None:
    sources = of_type(deployed, "AWS::Lambda::EventSourceMapping")
    told = {}
    for source in sources.values():
        properties = source["Properties"]
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert properties["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "WorkerConcurrency"}}
        queue = properties["EventSourceArn"]["Fn::GetAtt"][0]
        function = properties["FunctionName"]["Ref"].removesuffix("Aliaslive")
        timeout = deployed[function]["Properties"]["Timeout"]
        assert deployed[queue]["Properties"]["VisibilityTimeout"] >= 6 * timeout, queue
        assert deployed[function]["Properties"]["ReservedConcurrentExecutions"] == {"Ref": "WorkerConcurrency"}
        told[queue] = (function, properties["BatchSize"])
    assert told == {f"{name}Queue": reader for name, reader in QUEUES.items()}


def test_schedules_are_those_of_the_design_and_none_is_lost(deployed: Resources) -> None:
    made = {}
    for schedule in of_type(deployed, "AWS::Scheduler::Schedule").values():
        properties, target = schedule["Properties"], schedule["Properties"]["Target"]
        # a name of its own would be the same in every stage of one account
        assert "Name" not in properties
        assert properties["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert target["RoleArn"] == {"Fn::GetAtt": ["SchedulerRole", "Arn"]}
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetters", "Arn"]}}
        given = json.loads(target["Input"])
        assert given["scheduled_at"] == "<aws.scheduler.scheduled-time>"
        made[target["Arn"]["Ref"].removesuffix("Aliaslive"), given["task"]] = properties["ScheduleExpression"]
        parse(properties["ScheduleExpression"])
    assert made == SCHEDULES


def test_scheduled_run_that_fails_is_repeated_and_then_kept(deployed: Resources) -> None:
    invoked = of_type(deployed, "AWS::Lambda::EventInvokeConfig")
    functions = {config["Properties"]["FunctionName"]["Ref"] for config in invoked.values()}
    assert functions == {name for name, _ in SCHEDULES}
    for config in invoked.values():
        assert config["Properties"]["MaximumRetryAttempts"] == 2
        assert config["Properties"]["Qualifier"] == "live"
        destination = config["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]
        assert destination == {"Fn::GetAtt": ["ScheduleDeadLetters", "Arn"]}


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
    assert timeouts == {"AuthFunction": 10, "FusionFunction": 29, "DocsFunction": 10, "MlFunction": 29}


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


def keys_of(thing: dict[str, Any]) -> list[str]:
    return [key["AttributeName"] for key in thing["KeySchema"]]


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
        "superseded-versions", "unfinished-uploads", "candle-cache", "exports",
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
