"""Parquet in, Parquet out: the types stay; what cannot be a text is set aside."""

import datetime
import decimal
import json
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rehead.artifact.artifact import Artifact
from rehead.artifact.predictor import Predictor
from rehead.batch import sources
from rehead.batch.scoring import score_table
from rehead.runtime.errors import DataError
from tests.batch.running import ANSWERS, bad_rows_of, originals, rows_of

TYPED = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int32()),
        "text": ["free prize", None, "lunch at noon"],
        "when": pa.array([datetime.datetime(2026, 1, n, tzinfo=datetime.UTC) for n in (1, 2, 3)]),
        "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")], pa.decimal128(9, 2)),
        "words": pa.array([["free", "prize"], [], None]),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
        "both": pa.array([{"x": 1.5}, {"x": float("nan")}, None], pa.struct([("x", pa.float64())])),
        "raw": pa.array([b"\xff", b"", None], pa.binary()),
    }
)


def test_types_of_columns_are_kept(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    pq.write_table(TYPED, tmp_path / "data.parquet", row_group_size=2)
    score_table(model, predictor, str(tmp_path / "data.parquet"), tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.column_names == [*TYPED.column_names, *ANSWERS]
    for name in TYPED.column_names:
        assert written.schema.field(name).type == TYPED.schema.field(name).type, name
        assert repr(written.column(name).to_pylist()) == repr(TYPED.column(name).to_pylist()), name
    answers = [written.schema.field(name).type for name in ANSWERS]
    assert answers == [pa.string(), pa.float64(), pa.float64(), pa.int64()]


def test_a_frame_of_pandas_comes_back_with_its_types(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["free", "lunch"], "kind": pd.Categorical(["x", "y"])}, index=[7, 9])
    frame.to_parquet(tmp_path / "data.parquet")
    score_table(model, predictor, str(tmp_path / "data.parquet"), tmp_path / "out.parquet")
    written = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(written[["text", "kind"]], frame)


def test_columns_with_types_are_written_as_json_and_as_text(
    model: Artifact, predictor: Predictor, tmp_path: Path
) -> None:
    pq.write_table(TYPED.drop_columns("raw"), tmp_path / "data.parquet")
    for name in ("out.jsonl", "out.csv"):
        score_table(model, predictor, str(tmp_path / "data.parquet"), tmp_path / name)
    first, second, third = originals(rows_of(tmp_path / "out.jsonl"))
    assert first["id"] == 1
    assert first["words"] == ["free", "prize"]
    assert first["both"] == {"x": 1.5}
    assert second["both"] == {"x": None}
    assert (second["text"], third["id"]) == (None, None)
    assert first["price"] == "1.50"
    assert originals(rows_of(tmp_path / "out.csv"))[0]["words"] == '["free", "prize"]'


def test_a_row_that_is_no_text_is_set_aside(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    damaged = pa.array([b"free", b"caf\xe9", b"lunch"], pa.binary()).view(pa.string())
    table = pa.table({"id": [1, 2, 3], "text": damaged, "other": ["a", "b", "x" * 1_000_001]})
    pq.write_table(table, tmp_path / "data.parquet")
    result = score_table(model, predictor, str(tmp_path / "data.parquet"), tmp_path / "out.parquet")
    assert (result.rows, result.bad_rows) == (1, 2)
    assert [row["id"] for row in rows_of(tmp_path / "out.parquet")] == [1]
    first, second = bad_rows_of(tmp_path / "out.parquet")
    assert (first["source"], first["row"], json.loads(first["content"])["text"]) == ("data.parquet", 2, "caf\\xe9")
    assert "UTF8" in first["reason"].replace("-", "")
    assert (second["row"], "column 'other' holds 1,000,001 characters" in second["reason"]) == (3, True)
    assert len(second["content"]) < 2000


def test_bytes_that_are_no_text_are_set_aside(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    data, database = tmp_path / "data.parquet", tmp_path / "data.duckdb"
    pq.write_table(pa.table({"id": [1, 2, 3], "text": [b"free", b"caf\xe9", b"lunch"]}), data)
    with duckdb.connect(database) as connection:
        connection.execute("create table messages as from read_parquet(?)", [str(data)])
    for source, query in ((str(data), None), (f"duckdb:{database}", "select * from messages order by id")):
        output = tmp_path / f"of {query is None}.jsonl"
        written = score_table(model, predictor, source, output, text_column="text", query=query)
        assert (written.rows, written.bad_rows) == (2, 1)
        bad = bad_rows_of(output)[0]
        assert (bad["row"], bad["reason"]) == (2, "column 'text' is not UTF-8")


def test_a_portion_is_a_batch_or_less(tmp_path: Path) -> None:
    texts = ["x"] * 5 + ["x" * 500_000] * 4
    pq.write_table(pa.table({"text": texts}), tmp_path / "data.parquet")
    with sources.opened(str(tmp_path / "data.parquet"), None, tmp_path / "out.csv") as source:
        portions = list(source.portions("text", 4))
    assert [len(portion.texts) for portion in portions] == [4, 3, 1, 1]
    assert [portion.done for portion in portions] == [4, 7, 8, 9]
    assert source.total == 9
    assert [text for portion in portions for text in portion.texts] == texts


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (pa.table({"text": ["b"], "n": [1.5]}), r"b\.parquet: column 'n' is double, and int64 in .*a\.parquet"),
        (pa.table({"text": ["b"]}), r"b\.parquet has the columns text, and .*a\.parquet has text, n"),
    ],
)
def test_files_of_other_types_are_refused(
    model: Artifact, predictor: Predictor, tmp_path: Path, other: pa.Table, message: str
) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(other, tmp_path / "b.parquet")
    with pytest.raises(DataError, match=message):
        score_table(model, predictor, str(tmp_path), tmp_path / "out.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "b.parquet"}


def test_what_is_not_parquet_is_refused(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        score_table(model, predictor, str(tmp_path / "data.parquet"), tmp_path / "out.csv")
