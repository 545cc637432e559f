"""Which records reach the log, and in what form."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))  # as Lambda's runtime has one
from fusiontrade.logs import logger_of, take_over

logger = logger_of(sys.argv[1], "INFO")
take_over(logger, "INFO")
take_over(logger, "INFO")
logger.info("its own")
logging.getLogger("fusiontrade.mails").info("ours")
logging.getLogger("fusiontrade").info("ours too")
logging.getLogger("botocore").warning("a library's")
logging.getLogger("botocore").info("not asked for")
"""


@pytest.mark.parametrize("service", ["fusion", "mail", "auth", "f"])
def test_every_record_of_the_product_is_written_once_whatever_the_service_is_called(service: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, service], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["message"] for line in lines] == ["its own", "ours", "ours too", "a library's"]
    assert {line["service"] for line in lines} == {service}
