"""`rehead bases` and `rehead samples`: what there is."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Finished


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("bases", {"smollm2", "minilm", "mpnet", "multilingual-e5-small", "efficientnet-lite2"}),
        ("samples", {"sample:sms"}),
    ],
)
def test_lists_what_there_is_and_that_nothing_is_fetched_yet(
    rehead: Callable[..., Finished], empty_cache: Path, command: str, expected: set[str]
) -> None:
    entries = rehead(command, "--json").json["entries"]
    assert expected <= {entry["name"] for entry in entries}
    for entry in entries:
        assert entry.keys() == {"name", "about", "licence", "package", "megabytes", "fetched"}
        assert entry["fetched"] is False
    assert not empty_cache.exists()


@pytest.mark.parametrize(
    ("command", "expected", "without_package"),
    [("bases", "smollm2", "tfidf"), ("samples", "sample:sms", "sample:digits")],
)
def test_lists_what_there_is_a_line_each_in_columns(
    rehead: Callable[..., Finished], empty_cache: Path, command: str, expected: str, without_package: str
) -> None:
    lines = rehead(command).out.splitlines()
    names = [line.split()[0] for line in lines]
    assert {expected, without_package} <= set(names)
    start = max(map(len, names)) + 2
    rest = [line[start:] for line in lines]
    assert all(line[start - 2 : start] == "  " for line in lines)
    assert re.match(r"\d+(\.\d)? MB to fetch  +\S", rest[names.index(expected)])
    ends = {re.search(r"\S  +(?=\S)", line).end() for line in rest}
    assert len(ends) == 1, "the descriptions begin in one column"


def test_models_have_layers_not_blocks(rehead: Callable[..., Finished]) -> None:
    out = rehead("bases").out
    assert "layers" in out
    assert "block" not in out
