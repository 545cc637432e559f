"""A worker that does with each record what its body asks, and writes down which it has worked on."""

import json
import os
from pathlib import Path

DIARY = Path(os.environ["DIARY"])


def handler(event, context):
    if "Records" not in event:
        return _scheduled(event)
    failures = []
    for record in event["Records"]:
        asked = json.loads(record["body"])
        _note({"id": asked["id"], "received": int(record["attributes"]["ApproximateReceiveCount"]), "pid": os.getpid()})
        match asked.get("do"):
            case "until healed" if DIARY.with_name("healed").exists():
                pass
            case "fail" | "until healed":
                failures.append({"itemIdentifier": record["messageId"]})
            case "die once" if int(record["attributes"]["ApproximateReceiveCount"]) == 1:
                os._exit(9)
            case "raise":
                raise ValueError("asked to fail")
            case "wrong answer":
                return {"batchItemFailures": [{"itemIdentifier": "another"}]}
    return {"batchItemFailures": failures}


def _scheduled(event):
    _note(event)
    if event.get("do") == "raise":
        raise ValueError("asked to fail")


def _note(entry):
    with DIARY.open("a") as diary:
        diary.write(json.dumps(entry) + "\n")
