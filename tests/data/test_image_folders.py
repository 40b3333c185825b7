"""Images from folders, archives, tables and Parquet files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as arrow
import pytest
from pyarrow import parquet

import rehead
from rehead.data import image_folders
from rehead.data.images import ImageInput
from rehead.data.preparation import DataConfig, gather, prepare, with_own_parts
from rehead.runtime import progress
from rehead.runtime.errors import DataError, SettingError
from tests.tiny_images import encoded, image, save_folders
from tests.tiny_texts import write_csv


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    save_folders(tmp_path / "data", 12)
    (tmp_path / "data" / "lying" / ".hidden.png").write_bytes(b"")
    (tmp_path / "data" / "notes.txt").write_text("not an image")
    parts = prepare(DataConfig(str(tmp_path / "data")), seed=0)
    assert parts.pool.label_names == ("lying", "upright")
    assert len(parts.pool) == 24
    assert parts.train.images is not None
    for part in (parts.train, parts.validation, parts.test):
        assert [name.split("/")[0] for name in part.texts] == [part.named(i) for i in range(len(part))]
        assert [picture.name for picture in part.images or []] == part.texts


def test_parts_that_are_given_are_kept(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("val", 20), ("test", 40)):
        save_folders(tmp_path / part, 10, first)
    parts = prepare(DataConfig(str(tmp_path)), seed=0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (20, 20, 20)
    assert all("04" in name for name in parts.test.texts)


def test_zip_of_such_a_folder(tmp_path: Path) -> None:
    folder = save_folders(tmp_path / "data", 12)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, f"data/{file.relative_to(folder)}")
        archive.writestr("__MACOSX/data/lying/._000.png", b"")
    found = gather(DataConfig(str(tmp_path / "data.zip"))).pool
    expected = gather(DataConfig(str(folder))).pool
    assert found.texts == expected.texts
    assert found.labels.tolist() == expected.labels.tolist()
    assert [picture.digest for picture in found.images or []] == [picture.digest for picture in expected.images or []]


def test_table_that_names_images_with_groups(tmp_path: Path) -> None:
    save_folders(tmp_path / "images", 30)
    rows = [
        (f"images/{kind}/{i:03}.png", kind, f"{kind} patient {i // 2}")
        for kind in ("lying", "upright")
        for i in range(30)
    ]
    table = write_csv(tmp_path / "table.csv", ["file", "label", "patient"], rows)
    parts = prepare(DataConfig(str(table), group_column="patient"), seed=0)
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
    pool = gather(DataConfig(str(file))).pool
    assert [pool.named(i) for i in range(len(pool))] == kinds
    assert [picture.read() for picture in pool.images or []] == contents


def test_images_that_cannot_be_used_are_dropped_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rehead.runtime import progress

    folder = save_folders(tmp_path / "data", 10)
    (folder / "lying" / "broken.png").write_bytes(encoded(image("lying", 99))[:300])
    (folder / "upright" / "nothing.jpg").write_bytes(b"")
    progress.show(True)
    try:
        material = gather(DataConfig(str(folder)))
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
    kinds = {finding.kind: finding for finding in gather(DataConfig(str(folder))).findings}
    assert any("contradicting" in kind for kind in kinds)
    parts = prepare(DataConfig(str(folder)), seed=0)
    assert parts.dropped["duplicate with another label"]
    where = {name: part for part in ("train", "validation", "test") for name in getattr(parts, part).texts}
    assert where["lying/003.png"] == where["lying/smaller.png"]


def test_size_that_tells_the_class_is_a_finding(tmp_path: Path) -> None:
    for i in range(12):
        for kind, side in (("lying", 48), ("upright", 64)):
            (tmp_path / kind).mkdir(exist_ok=True)
            image(kind, i, side).save(tmp_path / kind / f"{i}.png")
    kinds = [finding.kind for finding in gather(DataConfig(str(tmp_path))).findings]
    assert "size that tells the class" in kinds


def test_folder_without_classes_says_what_to_do(tmp_path: Path) -> None:
    image("lying", 1).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a folder of its own"):
        image_folders.read(str(tmp_path))


def test_class_may_be_called_train(tmp_path: Path) -> None:
    for kind in ("bus", "car", "train"):
        (tmp_path / kind / "steam").mkdir(parents=True)
        for i in range(6):
            image("lying", i).save(tmp_path / kind / "steam" / f"{kind}{i}.png")
    assert image_folders.parts_of(str(tmp_path)) == {}
    assert gather(DataConfig(str(tmp_path))).pool.label_names == ("bus", "car", "train")


def test_parts_are_never_taken_for_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save_folders(tmp_path / "data" / part, 6)
    with pytest.raises(DataError, match=r"has the parts train, test; give one of them"):
        gather(DataConfig(str(tmp_path / "data")))
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted((tmp_path / "data").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
    with pytest.raises(DataError, match=r"its folders are parts \(test, train\); unpack it"):
        gather(DataConfig(str(tmp_path / "data.zip")))
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
    assert gather(DataConfig(str(data))).pool.label_names == ("linked", "lying", "upright")
    assert any("2 files are not used" in told and "1 .heic, 1 none" in told for told in warnings)


def test_folder_of_texts_with_a_picture_is_not_one_of_images(tmp_path: Path) -> None:
    for kind in ("ham", "spam"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            (tmp_path / kind / f"{i}.txt").write_text("text")
    image("lying", 1).save(tmp_path / "ham" / "logo.png")
    assert not image_folders.holds_images(str(tmp_path))


def test_column_that_is_asked_for_decides_what_a_table_holds(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "a.csv", ["text", "photo", "label"], [(f"hello {i}", "a.jpg", "x") for i in range(20)])
    assert image_folders.holds_images(str(table))
    assert not image_folders.holds_images(str(table), "text")
    sparse = [(f"hello {i}", "a.jpg" if i == 3 else "", "x") for i in range(20)]
    assert not image_folders.holds_images(str(write_csv(tmp_path / "b.csv", ["text", "photo", "label"], sparse)))
    assert not image_folders.holds_images(
        str(write_csv(tmp_path / "c.csv", ["text"], [("see a.gif there",), ("or not",)]))
    )


def test_binary_column_of_texts_is_not_one_of_images(tmp_path: Path) -> None:
    table = arrow.table({"text": [b"hello", b"there"], "label": ["a", "b"]})
    parquet.write_table(table, tmp_path / "texts.parquet")
    assert not image_folders.holds_images(str(tmp_path / "texts.parquet"))


def test_images_to_predict_keep_their_rows(tmp_path: Path) -> None:
    save_folders(tmp_path, 2)
    rows = [("7", "lying/000.png"), ("8", "upright/001.png")]
    rows_found, images = image_folders.unlabelled(str(write_csv(tmp_path / "new.csv", ["id", "file"], rows)))
    assert rows_found == [{"id": "7", "file": "lying/000.png"}, {"id": "8", "file": "upright/001.png"}]
    assert [picture.look.problem for picture in images] == [None, None]


def test_broken_archives_lose_their_broken_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = encoded(image("lying", 1)), encoded(image("lying", 2))
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/good.png", good)
        archive.writestr("b/bad.png", bad)
        at = archive.getinfo("b/bad.png").header_offset
    content = bytearray((tmp_path / "data.zip").read_bytes())
    content[at + 60 : at + 90] = bytes(30)
    (tmp_path / "data.zip").write_bytes(content)
    by_name = {picture.name: picture.look for picture in image_folders.read(str(tmp_path / "data.zip")).images}
    assert by_name["a/good.png"].problem is None
    assert "cannot be read" in str(by_name["b/bad.png"].problem)


def test_files_that_unpack_to_too_much_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rehead.data.images.LARGEST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/bomb.png", bytes(100_000))
        archive.writestr("b/small.png", encoded(image("lying", 1, side=4)))
    looks = [picture.look.problem for picture in image_folders.read(str(tmp_path / "data.zip")).images]
    assert "more than" in str(looks[0])
    assert looks[1] is None
    (tmp_path / "pipe.png").symlink_to("/dev/zero")
    assert "no such file" in str(ImageInput("pipe.png", tmp_path / "pipe.png").look.problem)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings so far."""
    warnings: list[str] = []
    monkeypatch.setattr(progress, "warn", warnings.append)
    return warnings


@pytest.mark.parametrize(("train", "test"), [("training_set", "test_set"), ("train", "test_set"), ("Train", "Testing")])
def test_parts_may_be_called_as_people_call_them(tmp_path: Path, train: str, test: str) -> None:
    for part, first in ((train, 0), (test, 40)):
        save_folders(tmp_path / part, 10, first)
    parts = prepare(DataConfig(str(tmp_path)), seed=0)
    assert parts.pool.label_names == ("lying", "upright")
    assert len(parts.test) == 20


def test_folders_around_the_parts_or_classes_are_passed_by(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("test", 40)):
        save_folders(tmp_path / "archive" / "flowers" / part, 10, first)
    assert len(prepare(DataConfig(str(tmp_path)), seed=0).test) == 20
    save_folders(tmp_path / "wrapped" / "dataset", 3)
    assert image_folders.read(str(tmp_path / "wrapped")).table.rows[0][1] == "lying"


def test_unlabelled_test_part_is_left_out_and_said(tmp_path: Path, said: list[str]) -> None:
    save_folders(tmp_path / "train", 10)
    (tmp_path / "test").mkdir()
    image("lying", 50).save(tmp_path / "test" / "a.png")
    assert list(image_folders.parts_of(str(tmp_path))) == ["train"]
    assert "test has no sub-folders" in said[0]


def test_class_without_images_and_broken_link_are_named(tmp_path: Path, said: list[str]) -> None:
    data = save_folders(tmp_path / "data", 3)
    (data / "empty").mkdir()
    (data / "phone").mkdir()
    (data / "phone" / "a.heic").write_bytes(b"...")
    (data / "lying" / "b.avif").write_bytes(b"...")
    (data / "lying" / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert len(image_folders.read(str(data)).images) == 6
    text = "\n".join(said)
    assert "folder 'empty' is empty: it is not a class" in text
    assert "folder 'phone' holds 1 .heic, and no image that is read" in text
    assert "class 'lying' loses 1 .avif" in text
    assert "gone.png is a link to nothing" in text


def test_folder_of_images_that_are_not_read_says_so(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "1.avif").write_bytes(b"...")
    assert image_folders.holds_images(str(tmp_path))
    with pytest.raises(DataError, match=r"none of its files is an image that is read \(2 .avif\); convert"):
        image_folders.read(str(tmp_path))


def test_jfif_is_jpeg(tmp_path: Path) -> None:
    image("lying", 1).save(tmp_path / "a.jfif", "JPEG")
    assert ImageInput("a.jfif", tmp_path / "a.jfif").look.problem is None
    assert image_folders.holds_images(str(tmp_path))


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_table_beside_the_images_has_their_labels(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    for i in range(12):
        image("lying", i).save(folder / f"{i}.png")
    rows = [(f"{i}.png", ("a", "b")[i % 2]) for i in range(12)]
    if name.endswith("csv"):
        write_csv(folder / name, ["file_name", "label"], rows)
    else:
        (folder / name).write_text("".join(f'{{"file_name": "{file}", "label": "{label}"}}\n' for file, label in rows))
    pool = gather(with_own_parts(DataConfig(str(tmp_path / "data")))).pool
    assert (pool.label_names, len(pool)) == (("a", "b"), 12)
    assert pool.texts[3] == "3.png"


def test_class_names_beside_images_in_parquet_are_read(tmp_path: Path) -> None:
    cells = [{"bytes": encoded(image("lying", i)), "path": None} for i in range(4)]
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = arrow.table({"image": cells, "label": [0, 1, -1, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "data.parquet")
    assert image_folders.read(str(tmp_path / "data.parquet")).table.column("label") == ["cat", "dog", None, "dog"]


def test_names_with_backslashes_and_spaces_are_found(tmp_path: Path) -> None:
    save_folders(tmp_path, 1)
    table = write_csv(tmp_path / "a.csv", ["file", "label"], [("lying\\000.png", "a"), (" upright/000.png", "b")])
    assert [picture.look.problem for picture in image_folders.read(str(table)).images] == [None, None]


def test_addresses_and_names_without_ending_are_refused_once(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "a.csv", ["url", "label"], [("https://example.org/a.png", "a")] * 3)
    with pytest.raises(DataError, match="holds addresses, and nothing is fetched"):
        image_folders.read(str(table))
    save_folders(tmp_path, 1)
    table = write_csv(tmp_path / "b.csv", ["id", "breed"], [("lying/000", "a"), ("upright/000", "b")])
    with pytest.raises(DataError, match=r"without their ending; write lying/000.png instead of lying/000"):
        image_folders.holds_images(str(table))


def test_many_images_that_cannot_be_used_are_counted(tmp_path: Path, said: list[str]) -> None:
    data = save_folders(tmp_path / "data", 3)
    for i in range(9):
        (data / "lying" / f"x{i}.png").write_bytes(b"...")
    gather(DataConfig(str(data)))
    assert sum("is no image" in line for line in said) == 5
    assert "4 more images cannot be used either" in said


@pytest.mark.parametrize(("train", "test"), [("seg_train/seg_train", "seg_test/seg_test"), ("01_train", "02-holdout")])
def test_parts_within_names_are_parts_where_they_hold_the_same_classes(tmp_path: Path, train: str, test: str) -> None:
    save_folders(tmp_path / train, 10)
    save_folders(tmp_path / test, 10, 40)
    parts = prepare(DataConfig(str(tmp_path)), seed=0)
    assert parts.pool.label_names == ("lying", "upright")
    assert len(parts.test) == 20
    save_folders(tmp_path / "seg_pred" / "seg_pred", 1, 80)
    if "seg" in train:
        with pytest.raises(DataError, match=r"seg_test, seg_train are called like parts, .*seg_pred; give the one"):
            gather(with_own_parts(DataConfig(str(tmp_path))))


def test_parts_without_one_for_training_are_said(tmp_path: Path) -> None:
    for part in ("dev", "test"):
        save_folders(tmp_path / part, 4)
    with pytest.raises(DataError, match=r"its folders are parts .dev, test.; give one of them, or name one train"):
        image_folders.read(str(tmp_path))


def test_parquet_files_may_name_images(tmp_path: Path) -> None:
    folder = save_folders(tmp_path / "data", 6)
    files = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.png"))]
    names = arrow.table({"file_name": files, "label": [name.split("/")[0] for name in files]})
    parquet.write_table(names, folder / "metadata.parquet")
    for data in (folder, folder / "metadata.parquet"):
        pool = gather(DataConfig(str(data))).pool
        assert (pool.label_names, len(pool.images or [])) == (("lying", "upright"), 12)


@pytest.mark.parametrize("name", ["names.json", "names.csv.gz", "names.txt"])
def test_names_of_images_are_never_taken_for_texts(tmp_path: Path, name: str) -> None:
    rows = pd.DataFrame([(f"a/{i}.png", "ab"[i % 2]) for i in range(12)], columns=["image", "label"])
    if name.endswith("json"):
        rows.to_json(tmp_path / name, orient="records")
    else:
        rows.to_csv(tmp_path / name, index=False)
    with pytest.raises(
        DataError, match=r"column 'image' names image files, .*CSV, TSV and JSON Lines; write it as one"
    ):
        gather(DataConfig(str(tmp_path / name)))


def test_bytes_of_images_are_never_taken_for_texts(tmp_path: Path) -> None:
    cells = [{"bytes": encoded(image("lying", i)), "path": f"{i}.png"} for i in range(6)]
    names = arrow.table({"image": cells, "label": list("ababab")})
    with arrow.OSFile(str(tmp_path / "data.arrow"), "wb") as file, arrow.ipc.new_file(file, names.schema) as writer:
        writer.write_table(names)
    with pytest.raises(DataError, match="column 'image' holds bytes, such as those of images"):
        gather(DataConfig(str(tmp_path / "data.arrow")))


def test_text_beside_images_is_said_with_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "warn", said.append)
    rows = [(f"{i}.png", f"a picture of number {i}", "ab"[i % 2]) for i in range(6)]
    path = write_csv(tmp_path / "captions.csv", ["image", "text", "label"], rows)
    assert image_folders.read(str(path)).image_column == "image"
    assert said == [f"{path}: images are taken from 'image'; if 'text' is meant, name it with `text_column`"]


def test_archives_may_have_several_folders_around_the_classes(tmp_path: Path) -> None:
    folder = save_folders(tmp_path / "data", 4)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, f"a b/c/{file.relative_to(folder)}")
    assert gather(DataConfig(str(tmp_path / "data.zip"))).pool.label_names == ("lying", "upright")


def test_table_of_images_beside_them_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encoded(image("lying", 0)))
    table = write_csv(tmp_path / "labels.csv", ["name", "class"], [("0.png", "lying")])
    with pytest.raises(DataError, match=f"or give {table}, which names images"):
        image_folders.read(str(tmp_path))


def test_link_to_nothing_is_named_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "warn", said.append)
    save_folders(tmp_path, 4)
    (tmp_path / "third_class").symlink_to(tmp_path / "gone")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    image_folders.read(str(tmp_path))
    assert said == [f"{tmp_path / 'third_class'} is a link to nothing; it is not used"]


def test_row_that_names_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encoded(image("lying", 0)))
    rows = [("0.png", "1"), ("0.png", "2"), ("", "3")]
    _, images = image_folders.unlabelled(str(write_csv(tmp_path / "new.csv", ["photo", "id"], rows)))
    assert [each.name for each in images] == ["0.png", "0.png", "row 4, which names none,"]
    assert [each.look.problem is None for each in images] == [True, True, False]
