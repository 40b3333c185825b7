"""The API's description is true: schemathesis asks what it promises, and what it does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.serving.running import running


@pytest.fixture(scope="module")
def described(spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    with running([spam], tmp_path_factory.mktemp("jobs")) as client:
        yield schemathesis.openapi.from_url(f"{client.base_url}/openapi.json".replace("//openapi", "/openapi"))


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate()
