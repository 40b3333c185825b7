"""Writing: whole or not at all."""

from pathlib import Path

import pytest

from rehead.files import new_folder, sweep_partial, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")
    with pytest.raises(TypeError):
        write_file(tmp_path / "a", "not bytes")  # type: ignore[arg-type]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_folder_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    with new_folder(tmp_path / "new") as partial:
        (partial / "a").write_text("a")
        assert not (tmp_path / "new").exists()
    assert names(tmp_path / "new") == ["a"]
    assert names(tmp_path) == ["new"]


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with new_folder(tmp_path / "out") as partial:
            (partial / name).touch()
    assert names(tmp_path / "out") == ["second"]
    assert names(tmp_path) == ["out"]


def test_error_in_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as partial:
        (partial / "kept").touch()
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "out") as partial:
        (partial / "half").write_bytes((partial / "missing").read_bytes())
    assert names(tmp_path / "out") == ["kept"]
    assert names(tmp_path) == ["out"]


def test_sweeping_takes_what_was_left_of_this_folder_alone(tmp_path: Path) -> None:
    (tmp_path / ".rehead-partial-mine-abc").mkdir()
    (tmp_path / ".rehead-partial-other-abc").mkdir()
    sweep_partial(tmp_path / "mine")
    assert names(tmp_path) == [".rehead-partial-other-abc"]
