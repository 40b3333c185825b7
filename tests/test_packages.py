"""Fetching from a package index: a folder of wheels that the test builds stands in for it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from rehead.packages import FetchError, Package, fetch, folder_of

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
