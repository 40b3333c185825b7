"""Formats beside CSV and JSON Lines: what they say beyond their cells is read, and what is not read is said."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
import zipfile
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rehead.batch import sources
from rehead.data import records, tables
from rehead.data.containers import table_of
from rehead.data.examples import from_table
from rehead.data.preparation import DataConfig, with_own_parts
from rehead.runtime import progress
from rehead.runtime.errors import DataError

ROWS = [["one, two", "a"], ["three", "b"], ['four "five"', "a"], ["sechs – für", "b"]]
FRAME = pd.DataFrame(ROWS, columns=["text", "label"])
CSV = FRAME.to_csv(index=False).encode()


def write(folder: Path, content: bytes | str, name: str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_both(path: Path) -> list[list[str | None]]:
    """The rows as fit reads them, which are those that predict reads in portions."""
    table = tables.read(path)
    assert table.columns == ["text", "label"]
    with sources.opened(str(path), None, path.with_name("out.csv")) as source:
        assert source.columns == table.columns
        assert [row for portion in source.portions("text", 3) for row in portion.rows()] == table.rows
        assert source.total > 0
    return table.rows


def zipped(content: bytes, *names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("data.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


PACKED = {
    "data.csv.gz": gzip.compress(CSV),
    "data.csv.bz2": bz2.compress(CSV),
    "data.csv.xz": lzma.compress(CSV),
    "data.zip": zipped(CSV, "folder/data.csv", "__MACOSX/._data.csv"),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_table_is_read(tmp_path: Path, name: str) -> None:
    assert read_both(write(tmp_path, PACKED[name], name)) == ROWS


def test_packed_parquet_is_read(tmp_path: Path) -> None:
    assert read_both(write(tmp_path, gzip.compress(FRAME.to_parquet()), "data.parquet.gz")) == ROWS


@pytest.mark.parametrize("name", PACKED)
def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_UNPACKED_BYTES", 20)
    with pytest.raises(DataError, match="unpacks to more than"):
        tables.read(write(tmp_path, PACKED[name], name))


@pytest.mark.parametrize("name", ["data.csv.gz", "data.csv.bz2", "data.csv.xz"])
def test_damaged_archive_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, PACKED[name][:-20], name)
    with pytest.raises(DataError, match=r"cannot be unpacked .*; pack it again"):
        tables.read(path)


def test_archive_of_two_tables_is_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"archive of 2 files \(a.csv, b.csv\); give one that holds one table"):
        tables.read(write(tmp_path, zipped(CSV, "a.csv", "b.csv"), "data.zip"))


@pytest.mark.parametrize("orient", ["records", "split", "columns", "index", "table"])
@pytest.mark.parametrize("indent", [None, 1])
def test_every_shape_of_pandas_is_read(tmp_path: Path, orient: str, indent: int | None) -> None:
    frame = FRAME if orient != "index" else FRAME.set_axis([f"row {i}" for i in range(4)])
    frame.to_json(tmp_path / "data.json", orient=orient, indent=indent)
    assert read_both(tmp_path / "data.json") == ROWS


@pytest.mark.parametrize(
    "document",
    [
        json.dumps(FRAME.to_dict("list")),
        json.dumps({"data": FRAME.to_dict("records")}),
        "\n".join(json.dumps(record, indent=2) for record in FRAME.to_dict("records")),
        json.dumps(FRAME.to_dict("records")),
    ],
    ids=["lists", "one key", "objects over lines", "array"],
)
def test_other_documents_are_read(tmp_path: Path, document: str) -> None:
    assert read_both(write(tmp_path, document, "data.json")) == ROWS


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"version": 1,\n "train": [{"text": "a"}], "test": []}', "one JSON object with version, train, test"),
        ('["a", "b"]', "row 1: not a JSON object"),
        ('[{"text": "a"},\n {"text": ]', "not JSON"),
        ('{"columns": ["text"], "data": [["a", 1]]}', "row 1: not 1 values"),
    ],
)
def test_document_that_is_no_table_is_named(tmp_path: Path, document: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tables.read(write(tmp_path, document, "data.json"))


def test_one_object_a_line_stays_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path, '{"text": "a", "label": {"x": {}}}\n{"text": "b", "label": ["y"]}\n', "data.json")
    assert tables.read(path).rows == [["a", '{"x": {}}'], ["b", '["y"]']]


def test_workbook_is_read(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["text", "label"], *ROWS, ["only a text"]):
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    assert read_both(tmp_path / "book.xlsx") == [*ROWS, ["only a text", None]]


@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
def test_arrow_is_read(tmp_path: Path, compression: str) -> None:
    FRAME.to_feather(tmp_path / "data.feather", compression=compression)
    assert read_both(tmp_path / "data.feather") == ROWS


def with_features(features: dict[str, object]) -> dict[str, str]:
    return {"huggingface": json.dumps({"info": {"features": features}})}


LABELLED = pa.table({"text": ["w", "x", "y", "z"], "label": [0, 1, -1, 1]}).replace_schema_metadata(
    with_features({"label": {"names": ["food", "sport"], "_type": "ClassLabel"}, "text": {"_type": "Value"}})
)


def saved(folder: Path, table: pa.Table) -> Path:
    """A data set as the datasets library saves it."""
    folder.mkdir(parents=True)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as to,
    ):
        to.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return folder


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_class_names_are_those_of_the_datasets_library_and_minus_1_is_no_label(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pq.write_table(LABELLED, tmp_path / "data.parquet")
        table = tables.read(tmp_path / "data.parquet")
    else:
        table = tables.read(saved(tmp_path / "data", LABELLED))
    examples, dropped = from_table(table, "text", "label")
    assert examples.label_names == ("food", "sport")
    assert [examples.named(i) for i in range(3)] == ["food", "sport", "sport"]
    assert dropped == {"no label": [3]}


@pytest.mark.parametrize(
    "feature",
    [
        {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "Sequence"},
        {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "List"},
        [{"names": ["a", "b"], "_type": "ClassLabel"}],
    ],
)
def test_names_of_lists_of_classes_are_read(tmp_path: Path, feature: object) -> None:
    table = pa.table({"text": ["x", "y"], "labels": [[0, 1], [1]]})
    pq.write_table(table.replace_schema_metadata(with_features({"labels": feature})), tmp_path / "data.parquet")
    assert tables.read(tmp_path / "data.parquet").column("labels") == ['["a", "b"]', '["b"]']


def test_parts_of_a_saved_dictionary_are_used(tmp_path: Path) -> None:
    for part in ("train", "test"):
        saved(tmp_path / "both" / part, LABELLED)
    (tmp_path / "both" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    parts = with_own_parts(DataConfig(str(tmp_path / "both")))
    assert (parts.data, parts.test) == (str(tmp_path / "both" / "train"), str(tmp_path / "both" / "test"))


def test_saved_data_set_is_predicted_in_portions(tmp_path: Path) -> None:
    assert sources.is_table(str(saved(tmp_path / "data", LABELLED)))
    with sources.opened(str(tmp_path / "data"), None, tmp_path / "out.csv") as source:
        assert [text for portion in source.portions("text", 3) for text in portion.texts] == ["w", "x", "y", "z"]


def test_line_that_names_the_delimiter_is_no_row(tmp_path: Path) -> None:
    content = 'sep=;\r\ntext;label\r\n"one, two";a\r\nthree;b\r\n"four ""five""";a\r\nsechs – für;b\r\n'
    path = write(tmp_path, content, "data.csv")
    assert read_both(path) == ROWS
    assert tables.read(path).lines == [3, 4, 5, 6]


def test_spaces_before_quotation_marks_are_no_text(tmp_path: Path) -> None:
    content = 'text, label\n"one, two", "a"\n"three", "b"\n"four ""five""", "a"\n"sechs – für", "b"\n'
    assert read_both(write(tmp_path, content, "data.csv")) == ROWS


def test_sizes_are_bounded_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_CELLS", 100)
    pq.write_table(pa.table({"text": ["x"] * 60, "label": ["y"] * 60}), tmp_path / "rows.parquet")
    (tmp_path / "wide.json").write_text(json.dumps({f"c{i}": {"0": "x", "1": "y"} for i in range(60)}))
    for name in ("rows.parquet", "wide.json"):
        with pytest.raises(DataError, match="120 cells or more, the limit is 100"):
            tables.read(tmp_path / name)


NOT_READ = {
    "old.xls": (b"\xd0\xcf\x11\xe0" + bytes(50), "old Excel workbook"),
    "a.sqlite": (b"SQLite format 3\0" + bytes(50), "SQLite database"),
    "a.pkl": (b"\x80\x05\x95" + bytes(50), "pickle, which can run code"),
    "a.csv.zst": (b"\x28\xb5\x2f\xfd" + bytes(50), "packed with zstd"),
    "a.orc": (b"ORC" + bytes(50), "ORC file"),
    "a.pdf": (b"%PDF-1.4\n" + bytes(50), "is a PDF"),
    "a.csv.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "packed with 7-Zip, RAR or LZ4"),
    "a.csv.gz": (gzip.compress(gzip.compress(CSV)), "packed twice"),
    "a.tar.gz": (gzip.compress(tarred(CSV)), "tar archive"),
    "a.zip": (zipped(zipped(CSV, "data.csv"), "data.zip"), "archive in an archive"),
    "fast.txt": (b"__label__ham see you\n__label__spam win\n", "fastText's format"),
    "a.arff": (b"@relation mail\n@data\n'see you',ham\n", "ARFF file"),
    "a.xml": (b'<?xml version="1.0"?>\n<rows/>', "XML file"),
    "utf16.csv": ("text,label\nhello,a\n".encode("utf-16-le"), "UTF-16-LE without a byte order mark"),
    "nul.csv": (b"text,label\n" + b"hello there,a\n" * 40 + b"a\0b,a\n", "row 42: a zero byte"),
    "colours.csv": (b"text,label\n" + b"a long text \x1b[31m,food\n" * 40, "row 2: control character 0x1b"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_read_is_said_with_its_cure(tmp_path: Path, name: str) -> None:
    content, message = NOT_READ[name]
    with pytest.raises(DataError, match=f"{message}.*; "):
        tables.read(write(tmp_path, content, name))


def test_sheet_that_holds_a_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "warn", said.append)
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["read me"])
    for row in (["text", "label"], *ROWS):
        (book["Data"] if "Data" in book.sheetnames else book.create_sheet("Data")).append(row)
    book.save(tmp_path / "book.xlsx")
    assert tables.read(tmp_path / "book.xlsx").rows == ROWS
    assert "sheet 'Data' is read, and Sheet are not" in said[0]


def saved_book(folder: Path, *rows: list[object]) -> tuple[openpyxl.Workbook, Path]:
    """A workbook of one sheet, to be changed and saved once more."""
    book = openpyxl.Workbook()
    for row in rows:
        book["Sheet"].append(row)
    return book, folder / "book.xlsx"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    warnings: list[str] = []
    monkeypatch.setattr(progress, "warn", warnings.append)
    return warnings


@pytest.mark.parametrize("cell", ["A2", "B3"])
def test_formula_without_a_result_is_refused_with_its_cell(tmp_path: Path, cell: str) -> None:
    book, path = saved_book(tmp_path, ["text", "label"], *ROWS)
    book["Sheet"][cell] = '=CONCATENATE("a", "b")'
    book.save(path)
    with pytest.raises(DataError, match=rf"sheet 'Sheet' cell {cell}: the formula =CONC.* has no result.*; open the"):
        tables.read(path)
    with zipfile.ZipFile(path) as written, zipfile.ZipFile(tmp_path / "results.xlsx", "w") as counted:
        for name in written.namelist():  # as Excel writes a result, and one that is an empty text
            content = written.read(name).replace(b"</f><v />", b"</f><v>ab</v>").replace(b"</f><v/>", b"</f><v>ab</v>")
            counted.writestr(name, content.replace(f'r="{cell}"'.encode(), f'r="{cell}" t="str"'.encode()))
    results = tables.read(tmp_path / "results.xlsx")
    assert results.rows[int(cell[1]) - 2]["AB".index(cell[0])] == "ab"


def test_merged_cells_have_their_value_and_errors_none(tmp_path: Path, said: list[str]) -> None:
    book, path = saved_book(tmp_path, ["text", "label"], *ROWS)
    book["Sheet"].merge_cells("B2:B4")
    book["Sheet"]["B5"] = "#REF!"
    book.save(path)
    assert tables.read(path).column("label") == ["a", "a", "a", None]
    assert "cells B2:B4 are merged; each row has their value, 'a'" in said[0]


@pytest.mark.parametrize("names", [["text", "label"], ["verbatim", "kind"]])
def test_title_of_a_sheet_is_named(tmp_path: Path, names: list[object]) -> None:
    book, path = saved_book(tmp_path, ["Survey of 2024"], names, *ROWS)
    book["Sheet"].merge_cells("A1:B1")
    book.save(path)
    with pytest.raises(DataError, match="cells A1:B1 are merged, such as for a title; remove that row"):
        tables.read(path)


def test_days_are_days_and_hidden_sheets_come_last(tmp_path: Path, said: list[str]) -> None:
    book, path = saved_book(tmp_path, ["text", "label"], ["old", "x"])
    shown = book.create_sheet("Data")
    for row in (["text", "day", "time"], ["a", date(2024, 1, 2), datetime(2024, 1, 2, 0, 0)]):
        shown.append(row)
    book["Sheet"].sheet_state = "hidden"
    book.active = 1
    book.save(path)
    assert tables.read(path).rows == [["a", "2024-01-02", "2024-01-02 00:00:00"]]
    assert "sheet 'Data' is read, and Sheet are not" in said[0]


def test_objects_in_one_line_are_numbered(tmp_path: Path) -> None:
    objects = "".join(json.dumps({"text": text, "label": label}) for text, label in ROWS)
    table = tables.read(write(tmp_path, objects, "data.json"))
    assert (table.rows, table.lines) == (ROWS, [1, 2, 3, 4])


def test_other_metadata_of_the_datasets_library_name_no_classes(tmp_path: Path) -> None:
    metadata = {b"huggingface": json.dumps({"info": {"features": ["text", "label"]}}).encode()}
    pq.write_table(pa.Table.from_pandas(FRAME).replace_schema_metadata(metadata), tmp_path / "data.parquet")
    assert tables.read(tmp_path / "data.parquet").rows == ROWS


@pytest.mark.parametrize("beside", [{"version": "1.0"}, {"meta": {"n": 2}, "count": 2}])
def test_rows_are_the_only_list_of_a_document(tmp_path: Path, beside: dict[str, object]) -> None:
    document = beside | {"examples": FRAME.to_dict("records")}
    for indent in (None, 2):
        assert read_both(write(tmp_path, json.dumps(document, indent=indent), "data.json")) == ROWS


def test_numbers_of_32_bits_are_as_short_as_in_a_csv_file(tmp_path: Path) -> None:
    columns = {"text": ["a", "b", "c"], "label": pa.array([0.1, 2.5, None], pa.float32())}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    assert tables.read(tmp_path / "data.parquet").column("label") == ["0.1", "2.5", None]


def test_ids_of_classes_may_be_floats(tmp_path: Path) -> None:
    described = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["food", "sport"]}}}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1.0, 0.0, None]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(described)}), tmp_path / "data.parquet")
    assert tables.read(tmp_path / "data.parquet").column("label") == ["sport", "food", None]


def test_no_value_of_a_data_frame_is_a_text() -> None:
    texts = pd.Series(["a", pd.NA, "c"], dtype="string")
    frame = pd.DataFrame({"text": texts, "label": pd.to_datetime(["2026-01-01", None, "2026-01-02"])})
    assert [row[0] is None for row in table_of(frame).rows] == [False, True, False]
    assert table_of(frame).rows[1] == [None, None]


def test_data_frame_of_two_columns_of_a_name_and_one_without_rows_are_refused() -> None:
    with pytest.raises(DataError, match="a DataFrame: two columns are named 'text'"):
        table_of(pd.DataFrame([["a", "b"]], columns=["text", "text"]))
    with pytest.raises(DataError, match="a DataFrame has no rows"):
        table_of(FRAME.iloc[:0])


def test_parts_that_are_not_used_are_said_and_two_of_a_kind_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "warn", said.append)
    config = DataConfig.of({"train": FRAME, "validation_matched": FRAME, "test": FRAME})
    assert (config.validation, config.test is None) == (None, False)
    assert said == [
        "parts that are not used: validation_matched; those are used that are called train, validation or test"
    ]
    with pytest.raises(DataError, match="the parts train and training_set are both for the train part"):
        DataConfig.of({"train": FRAME, "training_set": FRAME})


def test_reading_a_small_document_takes_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, FRAME.to_json(orient="records"), "data.json")
    tables.read(path)
    tracemalloc.start()
    tables.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20
