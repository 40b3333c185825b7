"""What commands print is what their published schemas say, and these are those of the types."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import rehead
from rehead import Classifier
from rehead.cli.schemas import RESULTS, write_schemas
from rehead.data.preparation import DataConfig
from rehead.runtime.results import Result, as_json, entry, schema_of
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.test_multilabel import rows
from tests.tiny_images import save_folders
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages
from tests.tiny_vision_models import save_tiny_vision_model

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "reference" / "schemas"


def test_published_schemas_are_those_of_the_types(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{name}.json" for name in RESULTS}
    for name in RESULTS:
        stale = f"run python -m rehead.cli.schemas {SCHEMAS}"
        assert (SCHEMAS / f"{name}.json").read_text() == (tmp_path / f"{name}.json").read_text(), stale


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and tiny models for every command."""
    folder = tmp_path_factory.mktemp("results")
    write_messages(folder / "many.csv", 300)
    texts, labels = messages(60)
    several_texts, several = rows(60)
    noisy = ["spam" if i % 7 == 0 else label for i, label in enumerate(labels)]
    write_csv(
        folder / "noisy.csv", ["text", "label"], [*zip(texts, noisy, strict=True), (texts[0], "ham"), ("", "ham")]
    )
    write_csv(folder / "test.csv", ["text", "label"], list(zip(texts, labels, strict=True))[:10])
    write_csv(folder / "several.csv", ["text", "labels"], zip(several_texts, map(";".join, several), strict=True))
    (folder / "costs.json").write_text('{"spam": {"ham": 5}}')
    save_folders(folder / "stripes", 20)
    save_tiny_model(folder / "llama", "llama")
    save_tiny_language_model(folder / "decoder", "llama")
    requests = [
        {"prompt": f"the {i} {text}", "completion": label}
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    (folder / "echo.jsonl").write_text("\n".join(map(json.dumps, requests)))
    save_tiny_vision_model(folder / "vit", "vit")
    return folder


HEAD = ["--tune", "head", "--depth", "2"]
# Each schema's name, what is fitted first if anything is, and the command.
COMMANDS: list[tuple[str, list[str], list[str]]] = [
    ("fit", [], ["fit", "many.csv", "--base", "llama", *HEAD, "--full-report", "--test", "test.csv"]),
    ("fit", [], ["fit", "noisy.csv", "--base", "llama", "--tune", "last-1", "--epochs", "1", "--depth", "2"]),
    ("fit", [], ["fit", "noisy.csv", "--base", "tfidf", "--recall", "spam=0.5", "--abstain-below", "0.6"]),
    ("fit", [], ["fit", "noisy.csv", "--base", "tfidf", "--costs", "costs.json", "--coverage", "0.8"]),
    ("fit", [], ["fit", "noisy.csv", "--base", "tfidf", "--cv", "2"]),
    ("fit", [], ["fit", "several.csv", "--base", "tfidf", "--f1", "all"]),
    ("fit", [], ["fit", "stripes", "--base", "vit", *HEAD]),
    ("fit-dry-run", [], ["fit", "noisy.csv", "--base", "llama", *HEAD, "--dry-run"]),
    (
        "evaluate",
        ["fit", "many.csv", "--base", "llama", *HEAD],
        ["evaluate", "model", "test.csv", "--report", "page.html"],
    ),
    ("evaluate", ["fit", "several.csv", "--base", "tfidf"], ["evaluate", "model", "several.csv"]),
    ("predict-table", ["fit", "many.csv", "--base", "tfidf"], ["predict", "model", "many.csv", "-o", "scored.csv"]),
    ("inspect", [], ["inspect", "noisy.csv", "--test", "test.csv"]),
    ("inspect", [], ["inspect", "noisy.csv", "--base", "llama", "--max-length", "2"]),
    ("inspect", [], ["inspect", "stripes"]),
    (
        "inspect-labels",
        ["fit", "many.csv", "--base", "tfidf"],
        ["inspect", "model", "many.csv", "--label-errors", "--learning-curve"],
    ),
    ("drift", ["fit", "many.csv", "--base", "tfidf"], ["drift", "model", "many.csv"]),
    (
        "compare",
        [],
        ["compare", "many.csv", "--base", "llama", "--approaches", "majority,tfidf,probe", "-o", "compared"],
    ),
    ("search", [], ["search", "many.csv", "--base", "llama", "--trials", "2", "-o", "searched"]),
    ("instruct", [], ["instruct", "echo.jsonl", "--base", "decoder", "--epochs", "1", "-o", "writer"]),
    (
        "generate",
        ["instruct", "echo.jsonl", "--base", "decoder", "--epochs", "1"],
        ["generate", "model", "hello", "--max-tokens", "2"],
    ),
    ("export", ["fit", "many.csv", "--base", "llama", *HEAD, "--no-ngrams"], ["export", "model", "--format", "onnx"]),
    (
        "explain",
        ["fit", "many.csv", "--base", "llama", *HEAD],
        ["explain", "model", "win free lunch", "--data", "many.csv"],
    ),
    ("explain", ["fit", "many.csv", "--base", "tfidf"], ["explain", "model", "win free lunch"]),
    ("explain-image", ["fit", "stripes", "--base", "vit", *HEAD], ["explain", "model", "stripes/lying/000.png"]),
    ("bases", [], ["bases"]),
    ("samples", [], ["samples"]),
    ("cache", ["fit", "many.csv", "--base", "llama", *HEAD], ["cache"]),
    ("cache-clear", ["fit", "many.csv", "--base", "llama", *HEAD], ["cache", "--clear"]),
    ("doctor", [], ["doctor"]),
]


@pytest.mark.parametrize(
    ("schema", "fitted", "command"), COMMANDS, ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(COMMANDS)]
)
def test_what_a_command_prints_is_as_published(
    schema: str,
    fitted: list[str],
    command: list[str],
    folder: Path,
    in_process: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    monkeypatch.chdir(folder)
    if fitted:
        code, _, said = in_process(*fitted, "-o", "model")
        assert code == 0, said
    place = ["-o", "fitted"] if command[0] == "fit" else []
    code, printed, said = in_process(*command, *place, "--json")
    assert code == 0, said
    published = json.loads((SCHEMAS / f"{schema}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(json.loads(printed), published, cls=jsonschema.Draft202012Validator)


def test_fit_takes_columns_by_name_and_returns_what_it_has_measured(tmp_path: Path) -> None:
    texts, labels = messages(60)
    table = write_csv(tmp_path / "train.csv", ["note", "team", "text"], zip("x" * 60, labels, texts, strict=True))
    result = rehead.fit(str(table), Classifier("tfidf"), text_column="text", label_column="team")
    assert result.evaluation.test.accuracy == 1.0
    assert result.model.predict(texts).tolist() == labels
    assert (result.folder, result.report_file) == (None, None)
    whole = result.to_json()
    assert (whole["model"], whole["labels"], whole["test"]["accuracy"]) == (None, ["ham", "spam"], 1.0)
    assert json.loads(json.dumps(whole))["tune"] == result.settings.tune == "head"
    again = rehead.fit(DataConfig(str(table), label_column="note"), Classifier("tfidf"), label_column="team")
    assert again.settings.labels == ["ham", "spam"]
    with pytest.raises(TypeError, match="no_column"):
        rehead.fit(str(table), no_column="team")


@dataclass(frozen=True)
class Part:
    """A part.

    Attributes:
        size: in metres; None where it is unknown.
    """

    size: float | None
    kind: Literal["round", "square"]


@dataclass(frozen=True)
class Whole(Result):
    """All of it, with
    a second line.

    And more.
    """

    part: Part = entry(merged=True)
    other: Part | None = entry(merged=True)
    secret: int = entry(hidden=True)
    name: str = entry("title")
    parts: list[Part]
    ends: tuple[int, int]
    counts: dict[str, int]
    note: str | None = entry(optional=True)


WHOLE = Whole(Part(1.0, "round"), None, 7, "it", [Part(None, "square")], (1, 2), {"a": 1})


def test_entries_are_merged_renamed_hidden_and_left_out() -> None:
    expected: dict[str, Any] = {"size": 1.0, "kind": "round", "title": "it"}
    expected |= {"parts": [{"size": None, "kind": "square"}], "ends": [1, 2], "counts": {"a": 1}}
    assert WHOLE.to_json() == as_json(WHOLE) == expected


def test_schema_is_made_of_type_hints_and_docstrings() -> None:
    size = {"description": "in metres; null where it is unknown.", "type": ["number", "null"]}
    part = {"size": size, "kind": {"enum": ["round", "square"]}}
    integer = {"type": "integer"}
    schema = schema_of(Whole)
    assert (schema["title"], schema["description"]) == ("Whole", "All of it, with a second line.")
    assert schema["properties"] == {
        **part,
        "title": {"type": "string"},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
        "ends": {"type": "array", "prefixItems": [integer, integer], "minItems": 2, "maxItems": 2},
        "counts": {"type": "object", "additionalProperties": integer},
        "note": {"type": "string"},
    }
    assert schema["required"] == ["size", "kind", "title", "parts", "ends", "counts"]
    assert schema["$defs"]["Part"]["properties"] == part


def test_type_that_json_does_not_have_has_no_schema() -> None:
    @dataclass(frozen=True)
    class Odd(Result):
        value: complex

    with pytest.raises(TypeError, match="has no JSON schema"):
        schema_of(Odd)
