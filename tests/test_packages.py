"""Fetching from a package index: a folder of wheels that the test builds stands in for it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from rehead.errors import FetchError
from rehead.packages import Package, fetch, folder_of, is_fetched

CONTENT = {
    "tinypkg/data/a.txt": b"alpha",
    "tinypkg/data/sub/b.txt": b"beta",
    "tinypkg/__init__.py": b"raise SystemExit",
}
FETCH = """
import sys
from rehead.packages import Package, fetch
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
    with zipfile.ZipFile(wheel(folder), "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(name, content)
        info = "tinypkg-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypkg\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return folder


def wheel(index: Path) -> Path:
    return index / "tinypkg-1.0-py3-none-any.whl"


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
