"""No test asserts time: hypothesis sets no deadlines and does not mind slow examples."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="module", autouse=True)
def product_log_level() -> Iterator[None]:
    """An application that a file's tests make sets how much the product logs; the next file's tests read it again."""
    logger = logging.getLogger("fusiontrade")
    before = logger.level
    yield
    logger.setLevel(before)
