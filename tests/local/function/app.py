"""A handler that does what its event asks: the behaviours of a function that the pool has to cope with."""

import os
import time


def handler(event, context):
    match event.get("do"):
        case "sleep":
            time.sleep(event["seconds"])
        case "crash":
            os._exit(3)
        case "raise":
            raise ValueError("asked to fail")
        case "print":
            print(event["text"])
    return {
        "pid": os.getpid(),
        "request_id": context.aws_request_id,
        "function": context.function_name,
        "memory": context.memory_limit_in_mb,
        "remaining": context.get_remaining_time_in_millis(),
        "variables": sorted(os.environ),
    }
