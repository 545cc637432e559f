"""Who may do what, asserted on what CloudFormation gets: no role may more than its function's code does."""

from __future__ import annotations

import pytest

from tests.deploy.conftest import Resources
from tests.deploy.design import BELOW_ONE_RESOURCE, OWN_ITEMS, RIGHTS, SCHEDULES, WITHOUT_RESOURCE_RIGHTS
from tests.deploy.reading import as_list, named_by, of_type, statements, texts


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


def test_function_that_shares_a_table_reaches_its_own_items_of_it(everything: Resources) -> None:
    keys = {
        (name, s["Sid"]): s["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        for name, s in statements(everything)
        if "dynamodb:LeadingKeys" in s.get("Condition", {}).get("ForAllValues:StringLike", {})
    }
    assert keys == {(f"{name}Role", sid): prefixes.split() for name, sid, prefixes in OWN_ITEMS}
    # without such a condition: the journal, whose keys are users' ids, and what has no key
    whole = {
        (name.removesuffix("Role"), named_by(s["Resource"]).partition("/")[0])
        for name, s in statements(everything)
        if s["Effect"] == "Allow" and any(action.startswith("dynamodb:") for action in as_list(s["Action"]))
        if (name, s["Sid"]) not in keys
    }
    assert {(name, table) for name, table in whole if table != "JournalTable"} == {("Schedule", "ConnectionsTable")}


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
