"""Runs under the environment `sam`: prints a template as CloudFormation gets it, for the NAME=VALUE that are given."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["AWS_DEFAULT_REGION"] = "us-east-1"

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """The template uses none by name."""

    def load(self) -> dict[str, str]:
        return {}


document = yaml_parse(Path(sys.argv[1]).read_text(encoding="utf-8"))
for resource in document["Resources"].values():
    for code in ("CodeUri", "ContentUri"):
        if code in resource.get("Properties", {}):
            resource["Properties"][code] = "s3://bucket/key"
parameters = {name: declared.get("Default") for name, declared in document["Parameters"].items()}
parameters |= dict(argument.split("=", 1) for argument in sys.argv[2:])
json.dump(transform(document, parameters, NoManagedPolicies()), sys.stdout)
