"""The inference endpoint through the SageMaker runtime client; on a laptop the same client is pointed at the program.

Always true here: no silence of the endpoint is borne longer than the time given, and a call is sent once; whatever
goes wrong between us and the models is `InferenceUnavailable`, with the cause in the log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fusiontrade.cloud.failures import code_of
from fusiontrade.cloud.session import client
from fusiontrade.errors import InferenceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

__all__ = ["SageMakerEndpoint"]

_READ_SECONDS: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 25.0)
"""A client has one read time-out for life, so there is a client for each step that is asked for."""

logger = logging.getLogger(__name__)


class SageMakerEndpoint:
    """Sends requests to the endpoint ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def invoke(self, body: bytes, *, content_type: str, timeout: float) -> bytes:
        """Return the endpoint's answer to ``body``: JSON, whatever ``body`` is.

        Parameters
        ----------
        body : bytes
            The request, in ``content_type``.
        timeout : float
            Seconds the call may take; the largest step not above it is used.

        Raises
        ------
        InferenceUnavailable
            If the endpoint refuses, fails, is busy, or does not answer in time.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        steps = [step for step in _READ_SECONDS if step <= timeout]
        if not steps:
            raise InferenceUnavailable("there was no time left to ask the models", retry_after=5)
        runtime: SageMakerRuntimeClient = client("sagemaker-runtime", read_seconds=steps[-1], attempts=1)
        try:
            answer = runtime.invoke_endpoint(
                EndpointName=self._name, ContentType=content_type, Accept="application/json", Body=body
            )
            return answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            logger.warning("the endpoint %s did not answer: %s", self._name, code_of(error))
            raise InferenceUnavailable("the forecasting models do not answer now; try again shortly") from error
