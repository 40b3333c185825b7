"""A table is scored as its texts are at once; a run that was cut off ends as an undisturbed one."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehead.artifact.artifact import Artifact
from rehead.artifact.predictor import Predictor
from rehead.batch import journal
from rehead.batch.scoring import score_table
from rehead.runtime import files, hardware, progress
from rehead.runtime.errors import DataError, Interrupted, SettingError
from tests.batch.running import (
    ANSWERS,
    KINDS,
    Watched,
    bad_rows_of,
    originals,
    rows_of,
    same_content,
    state_folder,
    write_ids_and_messages,
)
from tests.tiny_texts import messages
from tests.without_root import folder_for_everyone, make_read_only, make_writable, without_root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_ids_and_messages(tmp_path / "data.csv", 20)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_for_all_texts_at_once(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path, kind: str
) -> None:
    output = tmp_path / f"out.{kind}"
    result = score_table(model, predictor, str(data), output, portion_rows=7)
    texts, _ = messages(20)
    expected = model.scores(texts).probabilities
    rows = rows_of(output)
    assert list(rows[0]) == ["id", "text", *ANSWERS]
    assert originals(rows) == [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    # So far bfloat16 may be from float32 where it is native, and texts stand in other batches.
    np.testing.assert_allclose([[float(row["p(ham)"]), float(row["p(spam)"])] for row in rows], expected, atol=1e-2)
    assert [row["predicted"] for row in rows] == [model.labels[i] for i in expected.argmax(1)]
    assert {int(row["tokens_cut"]) for row in rows} == {0}
    found = result.to_json()
    seconds = found.pop("seconds")
    assert found.pop("rows_a_second") == pytest.approx(20 / seconds)
    assert found == {
        "rows": 20,
        "bad_rows": 0,
        "bad_rows_file": None,
        "empty": 0,
        "first_empty": None,
        "cut": 0,
        "abstained": 0,
        "output": str(output),
        "resumed_rows": 0,
    }
    assert {path.name for path in tmp_path.iterdir()} == {"data.csv", output.name}


def test_what_is_missing_is_counted(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text(f"id,text\n1,free\n2,\n3,{'lunch ' * 80}\n4,x,y\n5, \n")
    result = score_table(model, predictor, str(data), tmp_path / "out.csv")
    assert (result.rows, result.bad_rows, result.empty, result.cut) == (4, 1, 2, 1)
    assert result.first_empty == "data.csv row 3"
    assert result.bad_rows_file == str(tmp_path / "out.bad.jsonl")
    assert [row["row"] for row in bad_rows_of(tmp_path / "out.csv")] == [5]
    assert [row["id"] for row in rows_of(tmp_path / "out.csv")] == ["1", "2", "3", "5"]


# Interruption.


def write_with_bad_rows(path: Path, n: int) -> Path:
    """Every fifth row cannot be read."""
    texts, _ = messages(n)
    if path.suffix == ".jsonl":
        lines = [json.dumps({"id": i, "text": text}) if i % 5 else "{" for i, text in enumerate(texts, start=1)]
    else:
        lines = ["id,text", *(f"{i},{text}" if i % 5 else f"{i}" for i, text in enumerate(texts, start=1))]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize("kind", KINDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(n=st.integers(1, 24), portion_rows=st.integers(1, 9), cuts=st.lists(st.integers(1, 9), max_size=3))
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    model: Artifact, tmp_path: Path, kind: str, n: int, portion_rows: int, cuts: list[int]
) -> None:
    def fresh() -> Predictor:
        return model.predictor(steady=True, label=None)  # each command has a predictor of its own

    data = write_with_bad_rows(tmp_path / ("data.jsonl" if kind == "jsonl" else "data.csv"), n)
    whole, output = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    output.unlink(missing_ok=True)
    expected = score_table(model, fresh(), str(data), whole, portion_rows=portion_rows)
    kept: list[str] = []
    for cut in cuts:
        watched = Watched(fresh(), interrupted_at=cut)
        try:
            score_table(model, watched, str(data), output, portion_rows=portion_rows)
            return  # it was over before
        except Interrupted:
            # These few are all scored again, so that rounding is what it was; the next run may get less far in that.
            kept = max(kept, watched.texts, key=len)
        assert not output.exists()
    last = Watched(fresh())
    result = score_table(model, last, str(data), output, portion_rows=portion_rows)
    assert result.resumed_rows == len(kept)
    assert last.texts == [row["text"] for row in rows_of(whole)]
    assert same_content(output, whole)
    assert bad_rows_of(output) == bad_rows_of(whole)
    for count in ("rows", "bad_rows", "empty", "cut", "abstained"):
        assert getattr(result, count) == getattr(expected, count)
    assert not state_folder(output).exists()


def test_rounding_goes_on_as_it_was_behind_a_short_portion(
    model: Artifact, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far bfloat16 may be off is measured on 16 texts, and the first portion has seven of them."""
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16)
    runs = [model.predictor(steady=True, label=None) for _ in range(3)]
    score_table(model, runs[0], str(data), tmp_path / "whole.csv", portion_rows=7)
    with pytest.raises(Interrupted):
        score_table(model, Watched(runs[1], interrupted_at=3), str(data), tmp_path / "out.csv", portion_rows=7)
    assert score_table(model, runs[2], str(data), tmp_path / "out.csv", portion_rows=7).resumed_rows == 14
    assert same_content(tmp_path / "out.csv", tmp_path / "whole.csv")


def interrupt(model: Artifact, predictor: Predictor, data: Path, output: Path, at: int = 3, **options: Any) -> None:
    with pytest.raises(Interrupted):
        score_table(model, Watched(predictor, interrupted_at=at), str(data), output, portion_rows=4, **options)


def resume(model: Artifact, predictor: Predictor, data: Path, output: Path, **options: Any) -> dict[str, Any]:
    return score_table(model, predictor, str(data), output, **{"portion_rows": 4, **options})


def test_an_interruption_says_how_to_go_on_and_going_on_says_so(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(Interrupted, match="8 rows are kept, and the same command goes on from there"):
        score_table(model, Watched(predictor, interrupted_at=3), str(data), output, portion_rows=4)
    progress.show(True)
    try:
        assert resume(model, predictor, data, output).resumed_rows == 8
    finally:
        progress.show(False)
    assert "goes on behind 8 rows" in capsys.readouterr().err.replace("\n", " ")


def test_an_interruption_before_anything_was_kept_leaves_nothing(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match="nothing was written"):
        score_table(model, Watched(predictor, interrupted_at=1), str(data), tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def changed_input(data: Path) -> dict[str, Any]:
    write_ids_and_messages(data, 21)
    return {}


def other_time(data: Path) -> dict[str, Any]:
    data.write_bytes(data.read_bytes())
    return {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (changed_input, "its input was another"),
        (other_time, "its input was another"),
        (lambda _: {"text_column": "id"}, "its text column was another"),
        (lambda _: {"portion_rows": 5}, "its number of rows in a portion was another"),
    ],
)
def test_a_run_over_something_else_begins_anew_and_says_why(
    model: Artifact,
    predictor: Predictor,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Any,
    why: str,
) -> None:
    output = tmp_path / "out.csv"
    interrupt(model, predictor, data, output)
    options = change(data)
    progress.show(True)
    try:
        result = resume(model, predictor, data, output, **options)
    finally:
        progress.show(False)
    assert f"begins anew: {why}" in capsys.readouterr().err.replace("\n", " ")
    assert result.resumed_rows == 0
    assert len(rows_of(output)) == result.rows == (21 if change is changed_input else 20)


def test_another_model_begins_anew(model: Artifact, predictor: Predictor, data: Path, tmp_path: Path) -> None:
    interrupt(model, predictor, data, tmp_path / "out.csv")
    other = replace(model, manifest=replace(model.manifest, weights_sha256="0"))
    assert resume(other, predictor, data, tmp_path / "out.csv").resumed_rows == 0


@pytest.mark.parametrize("damage", ["results gone", "results too short", "state unreadable", "state of another kind"])
def test_a_damaged_state_begins_anew(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path, damage: str
) -> None:
    output = tmp_path / "out.csv"
    score_table(model, predictor, str(data), tmp_path / "whole.csv", portion_rows=4)
    interrupt(model, predictor, data, output)
    folder = state_folder(output)
    match damage:
        case "results gone":
            (folder / "results").unlink()
        case "results too short":
            (folder / "results").write_bytes(b"id")
        case "state unreadable":
            (folder / "state.json").write_bytes(b"{")
        case _:
            (folder / "state.json").write_text('{"counts": {}, "surprise": 1}')
    assert resume(model, predictor, data, output).resumed_rows == 0
    assert same_content(output, tmp_path / "whole.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["state.json", "results", "bad.jsonl"])
def test_no_flipped_bit_of_what_is_kept_changes_a_row(
    model: Artifact, predictor: Predictor, tmp_path: Path, kind: str, name: str
) -> None:
    data = write_with_bad_rows(tmp_path / "data.csv", 20)
    whole, output = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    score_table(model, predictor, str(data), whole, portion_rows=4)
    interrupt(model, predictor, data, output)
    kept = tmp_path / "kept"
    state_folder(output).rename(kept)
    content = (kept / name).read_bytes()
    for byte in range(0, len(content), len(content) // 12):
        shutil.copytree(kept, state_folder(output))
        damaged = bytearray(content)
        damaged[byte] ^= 1
        (state_folder(output) / name).write_bytes(damaged)
        assert resume(model, predictor, data, output).resumed_rows == 0
        assert same_content(output, whole)
        assert bad_rows_of(output) == bad_rows_of(whole)


def test_results_that_are_damaged_at_the_very_end_are_computed_again(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    score_table(model, predictor, str(data), whole, portion_rows=4)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        resume(model, predictor, data, output)
    results = state_folder(output) / "results"
    content = bytearray(results.read_bytes())
    content[len(content) // 2] ^= 1
    results.write_bytes(content)
    assert resume(model, predictor, data, output).resumed_rows == 0
    assert same_content(output, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_process_wrote_behind_its_state_is_cut_off(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path, kind: str
) -> None:
    whole, output = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    score_table(model, predictor, str(data), whole, portion_rows=4)
    interrupt(model, predictor, data, output)
    for name in ("results", "bad.jsonl"):
        with (state_folder(output) / name).open("ab") as file:
            file.write(b"half a portion")
    assert resume(model, predictor, data, output).resumed_rows == 8
    assert same_content(output, whole)
    assert bad_rows_of(output) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_killed_at_its_very_end_scores_nothing_again(
    model: Artifact, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = write_with_bad_rows(tmp_path / "data.csv", 12)
    whole, output = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    score_table(model, predictor, str(data), whole, portion_rows=4)
    replaced = Path.replace
    for name in ("out.bad.jsonl", output.name):

        def refuse(path: Path, target: Path, name: str = name) -> Path:
            if Path(target).name == name:
                raise OSError(28, "No space left on device")
            return replaced(path, target)

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(DataError, match="No space left on device"):
            resume(model, predictor, data, output)
        monkeypatch.setattr(Path, "replace", replaced)
        assert not output.exists()
    watched = Watched(predictor)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before it could
        result = resume(model, watched, data, output)
    assert (watched.portions, result.resumed_rows, result.rows) == ([], 10, 10)
    assert same_content(output, whole)
    assert len(bad_rows_of(output)) == 2
    result = resume(model, watched, data, output)
    assert (watched.portions, result.rows) == ([], 10)
    assert same_content(output, whole)
    assert not state_folder(output).exists()


@pytest.mark.parametrize(("kind", "resumed"), [("csv", 0), ("parquet", 20)])
def test_a_finished_run_whose_output_is_gone_is_written_again(
    model: Artifact,
    predictor: Predictor,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    resumed: int,
) -> None:
    output = tmp_path / f"out.{kind}"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        resume(model, predictor, data, output)
    output.unlink()
    assert resume(model, predictor, data, output).resumed_rows == resumed
    assert len(rows_of(output)) == 20


def test_a_full_disk_is_said_and_the_same_command_goes_on(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = files.write_file
    kept = []

    def fill(path: Path, content: bytes) -> None:
        if len(kept) == 2:
            raise OSError(28, "No space left on device")
        kept.append(content)
        written(path, content)

    monkeypatch.setattr(files, "write_file", fill)
    with pytest.raises(DataError, match=r"out\.csv \(No space left on device\)"):
        resume(model, predictor, data, tmp_path / "out.csv")
    monkeypatch.setattr(files, "write_file", written)
    assert resume(model, predictor, data, tmp_path / "out.csv").resumed_rows == 8
    assert len(rows_of(tmp_path / "out.csv")) == 20


def test_a_folder_that_cannot_be_written_to_is_said(model: Artifact, predictor: Predictor) -> None:
    with folder_for_everyone() as folder:
        data = write_ids_and_messages(folder / "data.csv", 5)
        make_read_only(folder)
        try:
            with without_root(), pytest.raises(DataError, match=r"cannot write .*out\.csv \(Permission denied\)"):
                score_table(model, predictor, str(data), folder / "out.csv")
        finally:
            make_writable(folder)
        assert [path.name for path in folder.iterdir()] == ["data.csv"]


def test_one_run_at_a_time_writes_to_an_output(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    class Nosy(Watched):
        def scores(self, inputs: Any) -> Any:
            with pytest.raises(SettingError, match=r"another run writes to .*out\.csv"):
                score_table(model, predictor, str(data), tmp_path / "out.csv")
            return super().scores(inputs)

    assert score_table(model, Nosy(predictor), str(data), tmp_path / "out.csv").rows == 20


# As a server calls it.


def test_progress_is_told_after_each_portion_and_ctrl_c_keeps_what_is_done(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        resume(model, predictor, data, output, on_progress=tell)
    assert len(told) == 2
    result = resume(model, predictor, data, output, on_progress=tell)
    assert (result.rows, result.resumed_rows) == (20, 8)
    size = data.stat().st_size
    assert {total for _, total in told} == {size}
    assert [done for done, _ in told[2:]] == sorted(done for done, _ in told[2:])
    assert told[-1] == (size, size)


def test_an_error_of_the_predictors_is_passed_on_and_nothing_is_lost(
    model: Artifact, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    class Failing(Watched):
        def scores(self, inputs: Any) -> Any:
            if len(self.portions) == 2:
                raise RuntimeError("no memory")
            return super().scores(inputs)

    with pytest.raises(RuntimeError, match="no memory"):
        resume(model, Failing(predictor), data, tmp_path / "out.csv")
    assert resume(model, predictor, data, tmp_path / "out.csv").resumed_rows == 8


# Several files.


def test_tables_of_a_folder_are_read_in_order_and_say_where_rows_are_from(
    model: Artifact, predictor: Predictor, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in (("b.csv", "lunch"), ("a.csv", "free"), ("c.csv", "prize, cash")):
        (folder / name).write_text(f'id,text\n{name[0]},"{text}"\n')
    (folder / "notes.md").write_text("no table")
    (folder / ".hidden.csv").write_text("no table")
    (folder / "empty.csv").write_text("")
    result = score_table(model, predictor, str(folder), folder / "out.csv")
    rows = rows_of(folder / "out.csv")
    assert list(rows[0]) == ["id", "text", "file", *ANSWERS]
    assert [(row["id"], row["text"], row["file"]) for row in rows] == [
        ("a", "free", "a.csv"),
        ("b", "lunch", "b.csv"),
        ("c", "prize, cash", "c.csv"),
    ]
    assert result.rows == 3
    # The result lies in the folder now, and is not read as one of its tables.
    assert score_table(model, predictor, str(folder), folder / "out.csv").rows == 3


def test_a_pattern_stands_for_files_and_one_file_has_no_column_of_its_name(
    model: Artifact, predictor: Predictor, tmp_path: Path
) -> None:
    for name in ("a1", "a2", "b1"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n" + json.dumps({name: 1}) + "\n")
    score_table(model, predictor, str(tmp_path / "a*.jsonl"), tmp_path / "out.csv")
    rows = originals(rows_of(tmp_path / "out.csv"))
    assert [(row["text"], row["a1"], row["a2"], Path(row["file"]).name) for row in rows] == [
        ("a1", "", "", "a1.jsonl"),
        ("", "1", "", "a1.jsonl"),
        ("a2", "", "", "a2.jsonl"),
        ("", "", "1", "a2.jsonl"),
    ]
    score_table(model, predictor, str(tmp_path / "b*.jsonl"), tmp_path / "out.csv")
    assert list(rows_of(tmp_path / "out.csv")[0]) == ["text", "b1", *ANSWERS]


def test_a_header_is_one_in_all_files_if_it_is_one_in_the_first(
    model: Artifact, predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,free\n")
    (tmp_path / "b.csv").write_text("id,text\n2,text\n3,id\n")  # a first cell that comes up again is a value
    assert score_table(model, predictor, str(tmp_path), tmp_path / "out.csv").rows == 3


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("text,id\nfree,2\n", r"b\.csv has the columns text, id, and .*a\.csv has id, text"),
        ('{"id": 1, "text": "free"}\n', r"b\.csv holds JSON Lines, and .*a\.csv delimited text"),
    ],
)
def test_files_that_are_no_one_table_are_refused(
    model: Artifact, predictor: Predictor, tmp_path: Path, second: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,free\n")
    (tmp_path / "b.csv").write_text(second)
    with pytest.raises(DataError, match=message):
        score_table(model, predictor, str(tmp_path), tmp_path / "out.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "b.csv"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.csv", "no such file"),
        ("nowhere*.csv", "no file has such a name"),
        (".", "no table lies in that folder"),
    ],
)
def test_nothing_to_read_is_said(
    model: Artifact, predictor: Predictor, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=message):
        score_table(model, predictor, str(tmp_path / "in" / source), tmp_path / "out.csv")


@pytest.mark.parametrize("column", [*ANSWERS, "file"])
def test_a_column_of_the_same_name_as_a_result_is_refused(
    model: Artifact, predictor: Predictor, tmp_path: Path, column: str
) -> None:
    for name in ("a.csv", "b.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([["text", column], ["free", "x"]])
    with pytest.raises(DataError, match=f"has a column '{column}' already".replace("(", r"\(").replace(")", r"\)")):
        score_table(model, predictor, str(tmp_path), tmp_path / "out.csv")


def test_parquet_files_of_a_folder_say_where_rows_are_from(
    model: Artifact, predictor: Predictor, tmp_path: Path
) -> None:
    for name, n in (("a", 3), ("b", 0), ("c", 2)):
        ids = pa.array(range(n), pa.int64())
        pq.write_table(pa.table({"id": ids, "text": pa.array(["free"] * n, pa.string())}), tmp_path / f"{name}.parquet")
    output = tmp_path / "out.parquet"
    interrupt(model, predictor, tmp_path, output, at=2)
    result = resume(model, predictor, tmp_path, output)
    assert (result.rows, result.resumed_rows) == (5, 3)
    rows = rows_of(output)
    assert [(row["id"], row["file"]) for row in rows] == [
        *((i, "a.parquet") for i in range(3)),
        *((i, "c.parquet") for i in range(2)),
    ]


def test_the_state_says_nothing_of_the_rows(model: Artifact, predictor: Predictor, data: Path, tmp_path: Path) -> None:
    interrupt(model, predictor, data, tmp_path / "out.csv")
    state = json.loads((state_folder(tmp_path / "out.csv") / "state.json").read_text())
    assert state["portions"] == 2
    assert state["counts"]["rows"] == 8
    assert set(state["identity"]) == {
        "model",
        "input",
        "text column",
        "number of rows in a portion",
        "version of rehead",
    }
    assert journal.Counts(**state["counts"]).bad == 0
