"""Images from folders, archives, tables and Parquet files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

import rehead
from rehead.data import galleries
from rehead.data.parts import Sources, gather, prepare
from rehead.data.pictures import Picture
from rehead.runtime import progress
from rehead.runtime.errors import DataError, SettingError
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
    from rehead.runtime import progress

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


def test_class_may_be_called_train(tmp_path: Path) -> None:
    for kind in ("bus", "car", "train"):
        (tmp_path / kind / "steam").mkdir(parents=True)
        for i in range(6):
            image("lying", i).save(tmp_path / kind / "steam" / f"{kind}{i}.png")
    assert galleries.parts_of(str(tmp_path)) == {}
    assert gather(Sources(str(tmp_path))).pool.label_names == ("bus", "car", "train")


def test_parts_are_never_taken_for_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save_folders(tmp_path / "data" / part, 6)
    with pytest.raises(DataError, match=r"has the parts train, test; give one of them"):
        gather(Sources(str(tmp_path / "data")))
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted((tmp_path / "data").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
    with pytest.raises(DataError, match=r"its folders are parts \(test, train\); unpack it"):
        gather(Sources(str(tmp_path / "data.zip")))
    facts = rehead.inspect(str(tmp_path / "data")).to_json()
    assert set(facts["classes"]) == {"lying", "upright"}
    assert facts["lengths"] is None
    with pytest.raises(SettingError, match="these are images"):
        rehead.inspect(str(tmp_path / "data"), base="minilm")


def test_what_is_not_named_as_an_image_is_told_and_links_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(progress, "warn", warnings.append)
    save_folders(tmp_path / "elsewhere", 6)
    data = save_folders(tmp_path / "data", 6)
    (data / "linked").symlink_to(tmp_path / "elsewhere" / "lying")
    (data / "loop").symlink_to(data)
    (data / "lying" / "phone.HEIC").write_bytes(b"...")
    (data / "notes").write_text("...")
    assert gather(Sources(str(data))).pool.label_names == ("linked", "lying", "upright")
    assert any("2 files are not used" in told and "1 .heic, 1 none" in told for told in warnings)


def test_folder_of_texts_with_a_picture_is_not_one_of_images(tmp_path: Path) -> None:
    for kind in ("ham", "spam"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            (tmp_path / kind / f"{i}.txt").write_text("text")
    image("lying", 1).save(tmp_path / "ham" / "logo.png")
    assert not galleries.holds_images(str(tmp_path))


def test_column_that_is_asked_for_decides_what_a_table_holds(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "a.csv", ["text", "photo", "label"], [(f"hello {i}", "a.jpg", "x") for i in range(20)])
    assert galleries.holds_images(str(table))
    assert not galleries.holds_images(str(table), "text")
    sparse = [(f"hello {i}", "a.jpg" if i == 3 else "", "x") for i in range(20)]
    assert not galleries.holds_images(str(write_csv(tmp_path / "b.csv", ["text", "photo", "label"], sparse)))
    assert not galleries.holds_images(str(write_csv(tmp_path / "c.csv", ["text"], [("see a.gif there",), ("or not",)])))


def test_binary_column_of_texts_is_not_one_of_images(tmp_path: Path) -> None:
    table = arrow.table({"text": [b"hello", b"there"], "label": ["a", "b"]})
    parquet.write_table(table, tmp_path / "texts.parquet")
    assert not galleries.holds_images(str(tmp_path / "texts.parquet"))


def test_images_to_predict_keep_their_rows(tmp_path: Path) -> None:
    save_folders(tmp_path, 2)
    rows = [("7", "lying/000.png"), ("8", "upright/001.png")]
    rows_found, pictures = galleries.unlabelled(str(write_csv(tmp_path / "new.csv", ["id", "file"], rows)))
    assert rows_found == [{"id": "7", "file": "lying/000.png"}, {"id": "8", "file": "upright/001.png"}]
    assert [picture.look.problem for picture in pictures] == [None, None]


def test_broken_archives_lose_their_broken_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = encoded(image("lying", 1)), encoded(image("lying", 2))
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/good.png", good)
        archive.writestr("b/bad.png", bad)
        at = archive.getinfo("b/bad.png").header_offset
    content = bytearray((tmp_path / "data.zip").read_bytes())
    content[at + 60 : at + 90] = bytes(30)
    (tmp_path / "data.zip").write_bytes(content)
    by_name = {picture.name: picture.look for picture in galleries.read(str(tmp_path / "data.zip")).pictures}
    assert by_name["a/good.png"].problem is None
    assert "cannot be read" in str(by_name["b/bad.png"].problem)


def test_files_that_unpack_to_too_much_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rehead.data.pictures.LARGEST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/bomb.png", bytes(100_000))
        archive.writestr("b/small.png", encoded(image("lying", 1, side=4)))
    looks = [picture.look.problem for picture in galleries.read(str(tmp_path / "data.zip")).pictures]
    assert "more than" in str(looks[0])
    assert looks[1] is None
    (tmp_path / "pipe.png").symlink_to("/dev/zero")
    assert "no such file" in str(Picture("pipe.png", tmp_path / "pipe.png").look.problem)
