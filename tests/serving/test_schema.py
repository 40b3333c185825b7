"""The API's description is true: schemathesis asks what it promises, and what it does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.serving.running import running


@pytest.fixture(scope="module")
def described(spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    with running([spam], tmp_path_factory.mktemp("jobs")) as client:
        address = str(client.base_url).rstrip("/")
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_described(described: schemathesis.BaseSchema, mode: GenerationMode) -> None:
    asked = set()
    for found in described.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (list(operation.iter_parameters()) or list(operation.body)):
            continue  # there is nothing that it could be asked wrongly

        @settings(max_examples=20, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def is_as_described(case: schemathesis.Case) -> None:
            # No schema can tell what kind of model is served, or what a file must hold.
            excluded = [positive_data_acceptance]
            if case.media_type == "multipart/form-data":
                excluded.append(negative_data_rejection)  # whatever is sent in a form is a text there
            case.call_and_validate(excluded_checks=excluded)

        is_as_described()
        asked.add(operation.label)
    assert {"POST /v1/predict", "POST /v1/files", "GET /v1/files/{number}", "GET /v1/model"} <= asked
