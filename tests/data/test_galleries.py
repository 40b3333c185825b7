"""Images from folders, archives, tables and Parquet files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

from rehead.data import galleries
from rehead.data.parts import Sources, gather, prepare
from rehead.errors import DataError
from tests.tiny_images import encoded, image, save_folders
from tests.tiny_texts import write_csv


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    save_folders(tmp_path / "data", 12)
    (tmp_path / "data" / "lying" / ".hidden.png").write_bytes(b"")
    (tmp_path / "data" / "notes.txt").write_text("not an image")
    parts = prepare(Sources(str(tmp_path / "data")), seed=0)
    assert parts.pool.label_names == ("lying", "upright")
    assert len(parts.pool) == 24
    assert parts.train.pictures is not None
    for part in (parts.train, parts.validation, parts.test):
        assert [name.split("/")[0] for name in part.texts] == [part.named(i) for i in range(len(part))]
        assert [picture.name for picture in part.pictures or []] == part.texts


def test_parts_that_are_given_are_kept(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("val", 20), ("test", 40)):
        save_folders(tmp_path / part, 10, first)
    parts = prepare(Sources(str(tmp_path)), seed=0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (20, 20, 20)
    assert all("04" in name for name in parts.test.texts)


def test_zip_of_such_a_folder(tmp_path: Path) -> None:
    folder = save_folders(tmp_path / "data", 12)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, f"data/{file.relative_to(folder)}")
        archive.writestr("__MACOSX/data/lying/._000.png", b"")
    found = gather(Sources(str(tmp_path / "data.zip"))).pool
    expected = gather(Sources(str(folder))).pool
    assert found.texts == expected.texts
    assert found.labels.tolist() == expected.labels.tolist()
    assert [picture.digest for picture in found.pictures or []] == [
        picture.digest for picture in expected.pictures or []
    ]


def test_table_that_names_images_with_groups(tmp_path: Path) -> None:
    save_folders(tmp_path / "images", 30)
    rows = [
        (f"images/{kind}/{i:03}.png", kind, f"{kind} patient {i // 2}")
        for kind in ("lying", "upright")
        for i in range(30)
    ]
    table = write_csv(tmp_path / "table.csv", ["file", "label", "patient"], rows)
    parts = prepare(Sources(str(table), group_column="patient"), seed=0)
    groups = [set((part.groups if part.groups is not None else []).tolist()) for part in (parts.train, parts.test)]
    assert not groups[0] & groups[1]
    assert parts.columns.label == "label"


@pytest.mark.parametrize("as_struct", [True, False])
def test_parquet_that_holds_images(as_struct: bool, tmp_path: Path) -> None:
    kinds = [kind for kind in ("lying", "upright") for _ in range(10)]
    contents = [encoded(image(kind, i)) for i, kind in enumerate(kinds)]
    cells = [{"bytes": content, "path": None} for content in contents] if as_struct else contents
    file = tmp_path / "data.parquet"
    parquet.write_table(arrow.table({"image": cells, "label": kinds}), file)
    pool = gather(Sources(str(file))).pool
    assert [pool.named(i) for i in range(len(pool))] == kinds
    assert [picture.read() for picture in pool.pictures or []] == contents


def test_images_that_cannot_be_used_are_dropped_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rehead import progress

    folder = save_folders(tmp_path / "data", 10)
    (folder / "lying" / "broken.png").write_bytes(encoded(image("lying", 99))[:300])
    (folder / "upright" / "nothing.jpg").write_bytes(b"")
    progress.show(True)
    try:
        material = gather(Sources(str(folder)))
    finally:
        progress.show(False)
    told = capsys.readouterr().err
    assert "lying/broken.png is a damaged image" in told
    assert "upright/nothing.jpg empty file" in told
    assert len(material.dropped["unusable image"]) == 2
    assert len(material.pool) == 20


def test_copies_and_look_alikes_are_found(tmp_path: Path) -> None:
    folder = save_folders(tmp_path / "data", 10)
    (folder / "lying" / "copy.png").write_bytes((folder / "upright" / "000.png").read_bytes())
    image("lying", 3).resize((60, 60)).save(folder / "lying" / "smaller.png")
    kinds = {finding.kind: finding for finding in gather(Sources(str(folder))).findings}
    assert any("contradicting" in kind for kind in kinds)
    parts = prepare(Sources(str(folder)), seed=0)
    assert parts.dropped["duplicate with another label"]
    where = {name: part for part in ("train", "validation", "test") for name in getattr(parts, part).texts}
    assert where["lying/003.png"] == where["lying/smaller.png"]


def test_size_that_tells_the_class_is_a_finding(tmp_path: Path) -> None:
    for i in range(12):
        for kind, side in (("lying", 48), ("upright", 64)):
            (tmp_path / kind).mkdir(exist_ok=True)
            image(kind, i, side).save(tmp_path / kind / f"{i}.png")
    kinds = [finding.kind for finding in gather(Sources(str(tmp_path))).findings]
    assert "size that tells the class" in kinds


def test_folder_without_classes_says_what_to_do(tmp_path: Path) -> None:
    image("lying", 1).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a folder of its own"):
        galleries.read(str(tmp_path))
