"""`rehead inspect`: the audit, and what labels are worth."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.running import Finished
from tests.tiny_texts import messages, write_csv


def test_inspect_prints_one_json_object_with_all_that_is_promised(
    rehead: Callable[..., Finished], tmp_path: Path
) -> None:
    texts, labels = messages(40)
    rows = [*zip(texts, labels, strict=True), (texts[0], "spam"), ("", "ham")]
    facts = rehead("inspect", write_csv(tmp_path / "data.csv", ["text", "label"], rows), "--json").json
    assert facts["rows"] == {"read": 42, "used": 40, "dropped": {"no text": 1, "duplicate with another label": 1}}
    assert facts["classes"] == {"spam": 21, "ham": 20}
    assert facts["lengths"]["histogram"] == {"4": 41}
    kinds = {finding["kind"]: finding for finding in facts["findings"]}
    assert kinds["contradicting labels"]["grade"] == "error"
    assert kinds["rows with no text"]["examples"] == [{"row": 43}]
    assert all(finding.keys() == {"grade", "kind", "count", "examples", "advice"} for finding in facts["findings"])


def test_inspect_without_json_prints_findings_with_their_cure(rehead: Callable[..., Finished], data: Path) -> None:
    finished = rehead("inspect", data)
    assert finished.code == 0
    assert re.search(r"60 rows, 60 used", finished.out)
    assert "nothing was found" in finished.out


def test_inspect_counts_the_tokens_of_a_base(rehead: Callable[..., Finished], data: Path, encoder: Path) -> None:
    facts = rehead("inspect", data, "--model", encoder, "--max-length", "4", "--json").json
    (finding,) = [finding for finding in facts["findings"] if finding["kind"] == "texts that are cut off"]
    assert facts["lengths"]["unit"] == f"tokens of {encoder}"
    assert finding["count"] == 60


def test_inspect_finds_test_texts_in_the_training_data(rehead: Callable[..., Finished], data: Path) -> None:
    facts = rehead("inspect", data, "--test", data, "--json").json
    kinds = {finding["kind"]: finding["count"] for finding in facts["findings"]}
    assert kinds["test texts in the training data"] == 60


def test_inspect_ranks_labels_with_a_model(
    rehead: Callable[..., Finished], model: Path, data: Path, tmp_path: Path
) -> None:
    facts = rehead("inspect", model, data, "--json", "--label-errors", tmp_path / "errors.csv").json
    assert facts["examined"] == len(pd.read_csv(tmp_path / "errors.csv")) == 60
    finished = rehead("inspect", model, data, "--label-errors")
    assert "60 labels are suspected to be wrong" in finished.out


@pytest.mark.parametrize("arguments", [("{model}", "{data}"), ("{data}", "--label-errors"), ("{data}",) * 3])
def test_inspect_says_what_it_needs(
    rehead: Callable[..., Finished], model: Path, data: Path, arguments: tuple[str, ...]
) -> None:
    finished = rehead("inspect", *(argument.format(model=model, data=data) for argument in arguments))
    assert (finished.code, finished.out) == (2, "")
    assert "give DATA alone, or MODEL and DATA" in finished.err
