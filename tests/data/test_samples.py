"""The samples: what is in them, and which test set belongs to which."""

from pathlib import Path

import pytest

from rehead.data import samples
from rehead.data.preparation import DataConfig, prepare
from rehead.runtime.errors import DataError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [
        ("sms", 4862, 2),
        ("bbc", 2225, 5),
        ("r8", 5485, 8),
        ("r8/test", 2189, 8),
        ("r52", 6532, 52),
        ("r52/test", 2568, 52),
        ("20newsgroups", 11293, 20),
        ("20newsgroups/test", 7528, 20),
    ],
)
def test_sample_has_as_many_rows_and_labels_as_are_told(name: str, rows: int, labels: int) -> None:
    table = samples.read(name)
    label, text = 0, 1
    assert len(table.rows) == len(table.lines) == rows
    assert len({row[label] for row in table.rows}) == labels
    assert all(row[text] and row[text].strip() for row in table.rows)
    assert f"{rows:,}" in samples.SAMPLES[name.removesuffix("/test")].about


@pytest.mark.slow
def test_published_test_set_is_used_unless_another_is_given() -> None:
    parts = prepare(DataConfig("sample:r8"), 0)
    assert (len(parts.test), parts.test.source) == (2189, "sample:r8/test")
    assert len(parts.train) + len(parts.validation) == len(parts.pool)
    assert len(prepare(DataConfig("sample:r8"), 0, with_test=False).test) == 0


def test_only_samples_with_a_published_test_set_have_one() -> None:
    assert samples.own_test("sample:r8") == "sample:r8/test"
    assert samples.own_test("sample:sms") is None
    assert samples.own_test("sample:nothing") is None
    assert samples.own_test("r8.csv") is None


@pytest.mark.parametrize("name", ["sample:sms/test", "sample:nothing", "sample:nothing/test"])
def test_what_is_no_sample_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="no sample"):
        samples.require_source(name)


def test_orange_tables_have_three_lines_of_header(tmp_path: Path) -> None:
    (tmp_path / "x.tab").write_text("Category\tText\nd\tstring\nclass\t\n\nearn\tone\ttwo\n\t\nacq\tthree\n")
    table = samples._read_orange(tmp_path / "x.tab")
    assert (table.columns, table.rows, table.lines) == (
        ["label", "text"],
        [["earn", "one\ttwo"], ["acq", "three"]],
        [5, 7],
    )


def test_folders_are_classes_and_old_encodings_are_read(tmp_path: Path) -> None:
    for label, content in (("sport", b"caf\xe9"), ("tech", "naïve".encode())):
        (tmp_path / label).mkdir()
        (tmp_path / label / "001.txt").write_bytes(content)
    assert samples._read_folders(tmp_path).rows == [["sport", "café"], ["tech", "naïve"]]
